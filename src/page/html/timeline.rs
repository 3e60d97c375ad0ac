//! The last rebuild as bars over time, and the same as a table.

use maud::{Markup, html};

use super::{Clock, badge, linked, span, time};
use crate::page::view::seconds;
use crate::page::view::timeline::{Bar, Rebuild};
use crate::page::words;

/// Pixels of a row.
const ROW: usize = 26;
/// Pixels that names take.
const NAMES: f64 = 190.0;
/// Pixels that time takes.
const TIME: f64 = 760.0;
/// Most bars that are drawn.
const DRAWN: usize = 40;

pub(super) fn timeline(rebuild: &Rebuild, clock: Clock, link: impl Fn(i64) -> String) -> Markup {
    html! {
        h2 { "Last rebuild" }
        p {
            "Began " (time(clock, &rebuild.began))
            @match &rebuild.ended {
                Some(ended) => { ", took " (span(between(&rebuild.began, ended))) },
                None => { ", and still runs" },
            }
            @if let Some(slowest) = &rebuild.slowest { "; the slowest link: " strong { (slowest.path) } " (" (span(took(slowest))) ")" }
            "."
        }
        (picture(rebuild))
        details id="rebuild-table" {
            summary { "The same as a table" }
            div class="scroll" tabindex="0" role="region" aria-label="Pipelines of the last rebuild" {
                table {
                    caption { "Pipelines of the last rebuild, in the order in which they began" }
                    thead { tr { th scope="col" { "Project" } th scope="col" { "Pipeline" } th scope="col" { "Began" } th scope="col" { "Took" } th scope="col" { "Outcome" } th scope="col" { "Because" } } }
                    tbody {
                        @for bar in &rebuild.bars {
                            tr {
                                th scope="row" { a href=(link(bar.project)) { (bar.path) } }
                                td { (linked(bar.url.as_deref(), &html! { (bar.pipeline) })) }
                                td { (time(clock, &bar.began)) }
                                td { @if bar.ended.is_some() { (span(took(bar))) } @else { "runs" } }
                                td { (badge(words::of_outcome(&bar.outcome))) }
                                td { (bar.reason.as_deref().unwrap_or("not started by the chain")) }
                            }
                        }
                    }
                }
            }
            @if let left @ 1.. = rebuild.pipelines - rebuild.bars.len() { p { "And " (left) " more that succeeded." } }
        }
    }
}

/// Bars from the left to the right. What runs still reaches to the right edge.
#[allow(clippy::cast_precision_loss, reason = "a picture's width")]
fn picture(rebuild: &Rebuild) -> Markup {
    let begin = seconds(&rebuild.began).unwrap_or(0);
    let of_bars = rebuild.bars.iter().flat_map(|bar| [Some(&bar.began), bar.ended.as_ref()]);
    let known = of_bars.chain([rebuild.ended.as_ref()]).flatten();
    let end = known.filter_map(|date| seconds(date)).max().unwrap_or(begin);
    let whole = (end - begin).max(1) as f64 * if rebuild.ended.is_none() { 1.1 } else { 1.0 };
    let at = |date: &str| NAMES + (seconds(date).unwrap_or(begin) - begin) as f64 / whole * TIME;
    let bars = &rebuild.bars[..rebuild.bars.len().min(DRAWN)];
    let height = bars.len() * ROW + 8;
    let width = format!("{:.0}", NAMES + TIME + 10.0);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Picture of the last rebuild" {
            svg class="timeline" role="img" aria-label="Bars of the last rebuild; the table below says the same" width=(width) height=(height)
                viewBox={ "0 0 " (width) " " (height) } {
                @for (index, bar) in bars.iter().enumerate() {
                    @let look = words::of_outcome(&bar.outcome);
                    @let y = index * ROW + 4;
                    @let (from, to) = (at(&bar.began), bar.ended.as_deref().map_or(NAMES + TIME, &at));
                    g class=(look.class) {
                        title { (bar.path) ": " (look.word) ", " (span(took(bar))) }
                        text x="0" y=(y + 15) { (words::end_of(&bar.path, 25)) }
                        rect class="bar" x=(format!("{from:.1}")) y=(y) width=(format!("{:.1}", (to - from).max(3.0))) height="18" rx="4" {}
                        @if to - from >= 20.0 {
                            text class="sign" x=(format!("{:.1}", from + 6.0)) y=(y + 14) { (look.glyph) }
                        } @else {
                            // Beside a bar that is too small for it.
                            text x=(format!("{:.1}", if to > NAMES + TIME - 20.0 { from - 16.0 } else { to + 5.0 })) y=(y + 14) { (look.glyph) }
                        }
                    }
                }
            }
        }
        @if rebuild.pipelines > DRAWN { p { "And " (rebuild.pipelines - DRAWN) " more pipelines." } }
    }
}

fn between(from: &str, to: &str) -> i64 {
    seconds(to).unwrap_or(0) - seconds(from).unwrap_or(0)
}

fn took(bar: &Bar) -> i64 {
    bar.ended.as_deref().map_or(0, |ended| between(&bar.began, ended))
}
