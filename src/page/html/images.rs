//! The page of the images that come from elsewhere, and of what else the chain's audit finds without asking anybody.

use maud::{Markup, html};

use super::{Clock, Part, span, time};
use crate::page::view::Findings;
use crate::protocol::chain::{Finding, ImageAge};

/// Most rows of a table.
const ROWS: usize = 500;

/// Its parts.
#[must_use]
pub fn parts(found: &Findings, clock: Clock) -> Vec<Part> {
    let is_image = |finding: &&Finding| matches!(finding.kind.as_str(), "external-image" | "own-image");
    let (images, others): (Vec<&Finding>, Vec<&Finding>) = found.findings.iter().partition(is_image);
    vec![
        Part::new(
            "external",
            &table("How old images are", "Image", &images, "Nothing is built on an image from elsewhere.", Some(clock)),
        ),
        Part::new("findings", &table("What else the audit finds", "Project", &others, "Nothing.", None)),
    ]
}

/// `ages` says how times of images are written; none: nothing here has any.
fn table(name: &str, subject: &str, findings: &[&Finding], none: &str, ages: Option<Clock>) -> Markup {
    html! {
        h2 { (name) }
        @if findings.is_empty() { p { (none) } } @else {
            div class="scroll" tabindex="0" role="region" aria-label=(name) {
                table {
                    caption { (name) ", what somebody has to do something about first" }
                    thead { tr { th scope="col" { (subject) } th scope="col" { "Kind" } th scope="col" { "Verdict" } @if ages.is_some() { th scope="col" { "Last move" } th scope="col" { "Moves every" } } th scope="col" { "In words" } } }
                    tbody {
                        @for finding in findings.iter().filter(|finding| finding.is_problem).chain(findings.iter().filter(|finding| !finding.is_problem)).take(ROWS) {
                            tr {
                                th scope="row" class="image" { (finding.subject) }
                                td { (finding.kind) }
                                td { (verdict(finding)) }
                                @if let Some(clock) = ages {
                                    td { @if let Some(age) = &finding.age { (last_move(age, clock)) } }
                                    td { (finding.age.as_ref().and_then(|age| age.every_s).map(span).unwrap_or_default()) }
                                }
                                td { (finding.words) }
                            }
                        }
                    }
                }
            }
            @if findings.len() > ROWS { p { "And " (findings.len() - ROWS) " more: windlass chain audit." } }
        }
    }
}

/// With a sign, so that nothing is told by colour alone.
fn verdict(finding: &Finding) -> Markup {
    let age = finding.age.as_ref().map(|age| age.verdict.as_str());
    let (class, sign, words) = match (age, finding.is_problem) {
        (Some("ok"), false) => ("good", "✓", "ok"),
        (Some("stale"), _) => ("bad", "✕", "stale"),
        (Some("too-young"), false) => ("soon", "○", "too young to say"),
        (Some(_), false) => ("soon", "○", "not watched"),
        (_, true) => ("bad", "✕", "needs somebody"),
        (None, false) => ("soon", "○", "to know"),
    };
    html! { span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (words) } }
}

fn last_move(age: &ImageAge, clock: Clock) -> Markup {
    match (&age.moved_at, &age.watched_since) {
        (Some(at), _) => time(clock, at),
        (None, Some(since)) => html! { "none since " (time(clock, since)) },
        (None, None) => html! {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_move_is_an_age_as_everywhere() {
        let text = |moved_at: Option<&str>, watched_since: Option<&str>| {
            let (moved_at, watched_since) = (moved_at.map(str::to_owned), watched_since.map(str::to_owned));
            let age = ImageAge { verdict: "ok".into(), moved_at, watched_since, ..ImageAge::default() };
            let finding = Finding {
                kind: "external-image".into(),
                subject: "debian".into(),
                words: "in words".into(),
                is_problem: false,
                age: Some(age),
            };
            let at = crate::page::view::seconds("2026-01-01T02:00:00Z").expect("a date");
            parts(&Findings { findings: vec![finding] }, Clock::At(at)).swap_remove(0).html
        };
        let (moved, watched) = (Some("2026-01-01T00:59:30Z"), Some("2026-01-01T00:00:00Z"));
        let age =
            |date: &str, words: &str| format!("<time datetime=\"{date}\" title=\"{date}\">{words} ago</time></td>");
        let found = text(moved, watched);
        assert!(found.contains(&format!("<td>{}", age("2026-01-01T00:59:30Z", "1h"))), "{found}");
        let found = text(None, watched);
        assert!(found.contains(&format!("<td>none since {}", age("2026-01-01T00:00:00Z", "2h"))), "{found}");
    }

    #[test]
    fn what_needs_somebody_comes_first_and_names_are_text() {
        let finding = |subject: &str, is_problem| Finding {
            kind: "external-image".into(),
            subject: subject.into(),
            words: "built on by <b>".into(),
            is_problem,
            age: None,
        };
        let age = ImageAge { verdict: "stale".into(), every_s: Some(93_600), ..ImageAge::default() };
        let old = Finding { age: Some(age), ..finding("old", true) };
        let found = Findings { findings: vec![finding("a<script>", false), finding("z", true), old] };
        let text: String = parts(&found, Clock::Bare).into_iter().map(|part| part.html).collect();
        assert!(!text.contains("<script>") && !text.contains("<b>"), "{text}");
        assert!(text.contains("</span> stale</span>") && text.contains("<td>1day 2h</td>"), "{text}");
        assert!(text.find(">z<") < text.find("a&lt;script&gt;"), "{text}");
    }
}
