//! The last rebuild as bars over time, and the same as a table.

use maud::{Markup, html};

use super::{Clock, badge, linked, span, time};
use crate::page::view::seconds;
use crate::page::view::timeline::{Bar, Rebuild, told};
use crate::page::words;

/// Pixels of a row.
const ROW: usize = 26;
/// Pixels that names take.
const NAMES: f64 = 190.0;
/// Pixels that time takes.
const TIME: f64 = 760.0;
/// Bars that are drawn, unless more of them run or have failed.
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
    let bars = drawn(rebuild);
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
        @if let left @ 1.. = rebuild.pipelines - bars.len() { p { "And " (left) " more pipelines." } }
    }
}

/// The bars of the picture: whatever it leaves out has succeeded, and was not the slowest.
fn drawn(rebuild: &Rebuild) -> Vec<Bar> {
    let others = rebuild.bars.iter().filter(|bar| bar.outcome != "success").count();
    told(rebuild.bars.clone(), rebuild.slowest.as_ref(), DRAWN.max(others + 1))
}

fn between(from: &str, to: &str) -> i64 {
    seconds(to).unwrap_or(0) - seconds(from).unwrap_or(0)
}

fn took(bar: &Bar) -> i64 {
    bar.ended.as_deref().map_or(0, |ended| between(&bar.began, ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rebuild(outcome: impl Fn(i64) -> &'static str) -> Rebuild {
        let bar = |pipeline: i64| Bar {
            project: pipeline,
            path: format!("p/{pipeline}"),
            pipeline,
            url: None,
            began: crate::page::view::date(pipeline * 60_000),
            ended: Some(crate::page::view::date(pipeline * 60_000 + if pipeline == 90 { 3_600_000 } else { 60_000 })),
            outcome: outcome(pipeline).into(),
            reason: None,
        };
        let bars: Vec<Bar> = (0..100).map(bar).collect();
        Rebuild { began: bars[0].began.clone(), ended: None, pipelines: 100, slowest: Some(bars[90].clone()), bars }
    }

    fn shown(rebuild: &Rebuild) -> (usize, String) {
        let text = picture(rebuild).into_string();
        (text.matches("class=\"bar\"").count(), text)
    }

    #[test]
    fn the_slow_link_and_what_runs_or_failed_are_drawn_however_late_they_began() {
        let (count, text) = shown(&rebuild(|pipeline| match pipeline {
            80 => "failed",
            99 => "running",
            _ => "success",
        }));
        assert_eq!(count, DRAWN, "{text}");
        for wanted in ["p/0:", "p/80: failed", "p/90: succeeded, 1h", "p/99: running", "And 60 more pipelines"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let (count, text) = shown(&rebuild(|pipeline| if pipeline < 50 { "failed" } else { "success" }));
        assert!(count == 51 && text.contains("p/49: failed") && text.contains("p/90: succeeded"), "{text}");
    }
}
