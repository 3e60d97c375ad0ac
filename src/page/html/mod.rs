//! The page's HTML, checked when the program is compiled; whatever comes from elsewhere is escaped by the templates' library. Each page
//! is made of parts with names of their own, which replace the old ones when something has changed.

pub mod chain;
pub mod disk;
mod doctor;
pub mod door;
pub mod images;
pub mod jobs;
pub mod now;
pub mod project;
mod timeline;

use maud::{DOCTYPE, Markup, html};

use super::assets;
use super::view::seconds;
use super::words::Look;
use crate::words::rough;

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Part {
    /// Its name in the page.
    pub id: &'static str,
    /// What is in it.
    pub html: String,
}

impl Part {
    fn new(id: &'static str, content: &Markup) -> Self {
        Self { id, html: content.0.clone() }
    }
}

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// As ages at this time, in seconds since 1970: for a page that stays as it is.
    At(i64),
    /// As times; the script of the page makes ages of them. So nothing changes only because time goes by.
    Bare,
}

impl Clock {
    fn now(self) -> Option<i64> {
        match self {
            Self::At(now) => Some(now),
            Self::Bare => None,
        }
    }
}

/// Where links lead, and what a page is told of its surroundings.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// What is before every path of the page.
    pub base: &'a str,
    /// The page's name.
    pub title: &'a str,
    /// The path of the entry of the navigation that it is.
    pub here: &'a str,
    /// Where changes of it come from, below `base`; none: it does not change.
    pub live: Option<String>,
    /// What time it is here, in seconds since 1970: the browser's clock may be wrong.
    pub now: i64,
    /// Whether somebody has logged in.
    pub session: bool,
    /// What there is to go to: paths and names.
    pub entries: &'a [(&'static str, &'static str)],
}

/// A whole page.
#[must_use]
pub fn page(frame: &Frame<'_>, head: &Markup, parts: &[Part]) -> String {
    let content = html! {
        (head)
        @for part in std::iter::once(&gone(false)).chain(parts) {
            section id=(part.id) data-part="" { (maud::PreEscaped(&part.html)) }
        }
    };
    whole(frame, &content)
}

/// The part of every page that says that what it shows is not there any more.
#[must_use]
pub fn gone(is_gone: bool) -> Part {
    let words = "This is not in the image chain any more. What is shown here was known of it last.";
    let notice = html! { @if is_gone { p class="notice warn gone" { span aria-hidden="true" { "◆ " } (words) } } };
    Part::new("gone", &notice)
}

/// A page with anything in it.
#[must_use]
pub fn whole(frame: &Frame<'_>, content: &Markup) -> String {
    let base = frame.base;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Windlass" }
                link rel="icon" href={ (base) (assets::address(assets::ICON)) };
                link rel="stylesheet" href={ (base) (assets::address(assets::STYLE)) };
                script src={ (base) (assets::address(assets::SCRIPT)) } defer {}
            }
            body data-release=(assets::release()) data-now=(frame.now.saturating_mul(1000)) data-live=[frame.live.as_ref().map(|live| format!("{base}{live}"))] {
                a class="skip" href="#content" { "Skip to the content" }
                header class="top" {
                    a class="brand" href={ (base) "/" } { img src={ (base) (assets::address(assets::ICON)) } alt="" width="24" height="24"; "Windlass" }
                    nav aria-label="Pages" {
                        ul {
                            @for (path, name) in frame.entries {
                                li { a href={ (base) (path) } aria-current=[(*path == frame.here).then_some("page")] { (name) } }
                            }
                        }
                    }
                    @if frame.live.is_some() {
                        p id="live" class="live" role="status" hidden { "connecting" }
                    }
                    @if frame.session {
                        form method="post" action={ (base) "/logout" } { button type="submit" class="plain" { "Log out" } }
                    }
                }
                main id="content" tabindex="-1" { (content) }
                footer { p { "Windlass " (env!("CARGO_PKG_VERSION")) ". This page changes nothing; its data as JSON: " a href={ (base) "/api/v1/openapi.json" } { "/api/v1" } "." } }
            }
        }
    }
    .into_string()
}

/// A page that says one thing.
#[must_use]
pub fn message(frame: &Frame<'_>, heading: &str, words: &str) -> String {
    whole(frame, &html! { h1 { (heading) } p { (words) } p { a href={ (frame.base) "/" } { "To the first page" } } })
}

/// A time, as an age where that stays true.
fn time(clock: Clock, date: &str) -> Markup {
    let text = match (clock.now(), seconds(date)) {
        (Some(now), Some(then)) => format!("{} ago", span(now.saturating_sub(then))),
        _ => plain(date),
    };
    html! { time datetime=(date) title=(date) { (text) } }
}

/// A time to come, as how long that is where it stays true.
fn to_come(clock: Clock, date: &str) -> Markup {
    let text = match (clock.now(), seconds(date)) {
        (Some(now), Some(then)) => format!("in {}", span(then.saturating_sub(now))),
        _ => plain(date),
    };
    html! { time datetime=(date) title=(date) data-to-come="" { (text) } }
}

/// A time that is still to come, as it is: the page's script makes ages of others.
fn moment(date: &str) -> Markup {
    html! { span title=(date) { (plain(date)) } }
}

fn plain(date: &str) -> String {
    date.replace('T', " ").replace('Z', " UTC")
}

/// A length of time; one that two clocks have made negative is none.
fn span(seconds: i64) -> String {
    rough(seconds.max(0).unsigned_abs())
}

/// A state: sign and word.
fn badge(look: Look) -> Markup {
    html! { span class={ "badge " (look.class) } { span aria-hidden="true" { (look.glyph) } " " (look.word) } }
}

/// A long name that may go on in the next line where one of its parts ends.
fn breakable(name: &str) -> Markup {
    html! { @for part in name.split_inclusive(['/', ':', '@']) { (part) wbr; } }
}

/// A link where there is one, else the text alone.
fn linked(url: Option<&str>, content: &Markup) -> Markup {
    match url {
        Some(url) => html! { a href=(url) rel="noreferrer" { (content) } },
        None => content.clone(),
    }
}

/// A bar of how much of something is used; the words beside it say the same.
fn meter(used: f64, most: f64, peak: Option<f64>) -> Markup {
    let part = |value: f64| if most > 0.0 { (value / most).clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    let class = if part(used) >= 90.0 { "fill high" } else { "fill" };
    html! {
        svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect class="track" width="100" height="6" {}
            rect class=(class) width=(format!("{:.1}", part(used))) height="6" {}
            @if let Some(peak) = peak {
                rect class="peak" x=(format!("{:.1}", (part(peak) - 0.8).max(0.0))) width="0.8" height="6" {}
            }
        }
    }
}

/// A page's parts as a person reads them, for tests: without tags.
#[cfg(test)]
fn as_read(parts: &[Part]) -> String {
    let mut read = String::new();
    let mut in_tag = false;
    for letter in parts.iter().flat_map(|part| part.html.chars()) {
        match letter {
            '<' => in_tag = true,
            '>' => (in_tag, read) = (false, read + " "),
            letter if !in_tag => read.push(letter),
            _ => {}
        }
    }
    read.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_ages_where_they_stay_true() {
        let text = |clock| time(clock, "2026-01-01T00:00:00Z").into_string();
        let new_year = seconds("2026-01-01T00:00:00Z").expect("a date");
        assert!(text(Clock::At(new_year + 3700)).contains(">1h 1m ago<"));
        assert!(text(Clock::Bare).contains(">2026-01-01 00:00:00 UTC<"));
        let later = |clock| to_come(clock, "2026-01-05T00:00:00Z").into_string();
        assert!(later(Clock::At(new_year)).contains(">in 4days<"));
        assert!(later(Clock::Bare).contains("data-to-come=\"\">2026-01-05 00:00:00 UTC<"), "the script writes it");
    }

    #[test]
    fn what_is_gone_is_said_and_nothing_where_it_is_there() {
        assert!(gone(true).html.contains("not in the image chain any more"));
        assert_eq!(gone(false).html, "");
    }

    #[test]
    fn every_page_says_its_language_name_and_landmarks() {
        let frame = Frame {
            base: "/w",
            title: "<Now>",
            here: "/",
            live: Some("/live/now".into()),
            now: 1_768_046_400,
            session: true,
            entries: &[("/", "Now")],
        };
        let text = page(&frame, &html! { h1 { "x" } }, &[Part { id: "a", html: "<p>b</p>".into() }]);
        for wanted in [
            "<html lang=\"en\">",
            "<title>&lt;Now&gt; · Windlass</title>",
            "data-live=\"/w/live/now\"",
            "data-now=\"1768046400000\"",
            "<section id=\"gone\" data-part=\"\"></section>",
            "aria-current=\"page\"",
            "<main id=\"content\"",
            "action=\"/w/logout\"",
        ] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
