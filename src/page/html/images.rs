//! The page of the images that come from elsewhere, and of what else the chain's audit finds without asking anybody.

use maud::{Markup, html};

use super::Part;
use crate::page::view::Findings;
use crate::protocol::chain::Finding;

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
            &table(
                "Images that no project of the chain builds",
                "Image",
                &images,
                "All that is built on is built by the chain.",
            ),
        ),
        Part::new("findings", &table("What else the audit finds", "Project", &others, "Nothing.")),
    ]
}

fn table(name: &str, subject: &str, findings: &[&Finding], none: &str) -> Markup {
    html! {
        h2 { (name) }
        @if findings.is_empty() { p { (none) } } @else {
            div class="scroll" tabindex="0" role="region" aria-label=(name) {
                table {
                    caption { (name) ", what somebody has to do something about first" }
                    thead { tr { th scope="col" { (subject) } th scope="col" { "Kind" } th scope="col" { "Verdict" } th scope="col" { "In words" } } }
                    tbody {
                        @for finding in findings.iter().filter(|finding| finding.is_problem).chain(findings.iter().filter(|finding| !finding.is_problem)).take(ROWS) {
                            tr {
                                th scope="row" class="image" { (finding.subject) }
                                td { (finding.kind) }
                                td {
                                    @if finding.is_problem { span class="badge bad" { span aria-hidden="true" { "✕" } " needs somebody" } }
                                    @else { span class="badge soon" { span aria-hidden="true" { "○" } " to know" } }
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
        };
        let found = Findings { findings: vec![finding("a<script>", false), finding("z", true)] };
        let text: String = parts(&found).into_iter().map(|part| part.html).collect();
        assert!(!text.contains("<script>") && !text.contains("<b>"), "{text}");
        assert!(text.find(">z<") < text.find("a&lt;script&gt;"), "{text}");
    }
}
