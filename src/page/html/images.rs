//! The page of the images that come from elsewhere, and of what else the chain's audit finds without asking anybody.

use maud::{Markup, html};

use super::{Part, span};
use crate::page::view::Findings;
use crate::protocol::chain::{Finding, ImageAge};

/// Most rows of a table.
const ROWS: usize = 500;

/// Its parts.
#[must_use]
pub fn parts(found: &Findings) -> Vec<Part> {
    let is_image = |finding: &&Finding| matches!(finding.kind.as_str(), "external-image" | "own-image");
    let (images, others): (Vec<&Finding>, Vec<&Finding>) = found.findings.iter().partition(is_image);
    vec![
        Part::new(
            "external",
            &table("How old images are", "Image", &images, "Nothing is built on an image from elsewhere.", true),
        ),
        Part::new("findings", &table("What else the audit finds", "Project", &others, "Nothing.", false)),
    ]
}

fn table(name: &str, subject: &str, findings: &[&Finding], none: &str, ages: bool) -> Markup {
    html! {
        h2 { (name) }
        @if findings.is_empty() { p { (none) } } @else {
            div class="scroll" tabindex="0" role="region" aria-label=(name) {
                table {
                    caption { (name) ", what somebody has to do something about first" }
                    thead { tr { th scope="col" { (subject) } th scope="col" { "Kind" } th scope="col" { "Verdict" } @if ages { th scope="col" { "Last move" } th scope="col" { "Moves every" } } th scope="col" { "In words" } } }
                    tbody {
                        @for finding in findings.iter().filter(|finding| finding.is_problem).chain(findings.iter().filter(|finding| !finding.is_problem)).take(ROWS) {
                            tr {
                                th scope="row" class="image" { (finding.subject) }
                                td { (finding.kind) }
                                td { (verdict(finding)) }
                                @if ages {
                                    td { (finding.age.as_ref().map_or("", last_move)) }
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

fn last_move(age: &ImageAge) -> &str {
    match (&age.moved_at, &age.watched_since) {
        (Some(at), _) => at,
        (None, Some(_)) => "not while it was watched",
        (None, None) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let text: String = parts(&found).into_iter().map(|part| part.html).collect();
        assert!(!text.contains("<script>") && !text.contains("<b>"), "{text}");
        assert!(text.contains("</span> stale</span>") && text.contains("<td>1day 2h</td>"), "{text}");
        assert!(text.find(">z<") < text.find("a&lt;script&gt;"), "{text}");
    }
}
