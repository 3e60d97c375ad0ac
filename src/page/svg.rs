//! The chain's graph as SVG: boxes with links, from left to right. On the page its colours come from the style sheet, alone it brings its own.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::graph::Graph;
use super::layout::{HEIGHT, Layout, WIDTH, layout};
use super::view;
use super::words;
use crate::protocol::chain::ProjectLine;

/// Characters of a path that fit into a box.
const PATH_FITS: usize = 26;

/// Colours for a picture that stands alone; the same as the page's.
const STYLE: &str = "svg{font:13px system-ui,sans-serif;background:#fff}\
.edge{fill:none;stroke:#8a94a3;stroke-width:1.5}.pinned{stroke-dasharray:4 4}\
.box{fill:#fff;stroke:#8a94a3;stroke-width:1.5}text{fill:#1d2430}.state{font-size:12px}\
.good .box{stroke:#1a7f4b}.good .state{fill:#156a3e}.busy .box{stroke:#1f5fbf;fill:#eef4fd}.busy .state{fill:#1a4f9f}\
.soon .box{stroke:#6b7280}.soon .state{fill:#4b5563}.warn .box{stroke:#9a6700;fill:#fdf6e3}.warn .state{fill:#7d5300}\
.bad .box{stroke:#c0262d;fill:#fdeeee}.bad .state{fill:#a31b22}\
@media (prefers-color-scheme:dark){svg{background:#12161c}.box{fill:#1a2029}text{fill:#e6e9ee}\
.good .box{stroke:#4cc38a}.good .state{fill:#4cc38a}.busy .box{stroke:#6ea8ff;fill:#16243a}.busy .state{fill:#8fbcff}\
.soon .box{stroke:#8a94a3}.soon .state{fill:#b4bcc8}.warn .box{stroke:#d9a441;fill:#2a2417}.warn .state{fill:#e3b558}\
.bad .box{stroke:#ff7b80;fill:#331a1d}.bad .state{fill:#ff9a9e}}";

/// The layout of a graph.
#[must_use]
pub fn place(graph: &Graph<'_>) -> Layout {
    let nodes: BTreeSet<i64> = graph.nodes.keys().copied().collect();
    let edges: BTreeSet<(i64, i64)> = graph.edges.iter().map(|(from, to, _)| (*from, *to)).collect();
    layout(&nodes, &edges)
}

/// The picture for the page. `link` says where a project's box leads; `middle` is the project that it is about.
#[must_use]
pub fn inline(
    graph: &Graph<'_>,
    layout: &Layout,
    link: impl Fn(&ProjectLine) -> String,
    middle: Option<i64>,
) -> Markup {
    let size = size(layout);
    html! {
        svg class="graph" role="group" aria-label="What builds on what, from left to right" width=(size.0) height=(size.1) viewBox=(size.2) {
            (inner(graph, layout, |project| Some(link(project)), middle))
        }
    }
}

/// The picture as a file of its own.
#[must_use]
pub fn file(graph: &Graph<'_>) -> String {
    let mut layout = place(graph);
    let is_empty = graph.nodes.is_empty();
    if is_empty {
        (layout.width, layout.height) = (WIDTH, HEIGHT);
    }
    let size = size(&layout);
    let picture = html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(size.0) height=(size.1) viewBox=(size.2) {
            title { "The image chain: what builds on what" }
            style { (maud::PreEscaped(STYLE)) }
            @if is_empty { text x="11" y="28" { "The chain has no projects" } }
            (inner(graph, &layout, |project| view::link(&project.web_url).map(str::to_owned), None))
        }
    };
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", picture.into_string())
}

fn size(layout: &Layout) -> (String, String, String) {
    let (width, height) = (format!("{:.0}", layout.width), format!("{:.0}", layout.height));
    let view = format!("0 0 {width} {height}");
    (width, height, view)
}

fn inner(
    graph: &Graph<'_>,
    layout: &Layout,
    link: impl Fn(&ProjectLine) -> Option<String>,
    middle: Option<i64>,
) -> Markup {
    // In the order in which they are read: column by column, from above.
    let mut order: Vec<(&i64, &(f64, f64))> = layout.at.iter().collect();
    order.sort_by(|(_, one), (_, other)| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    html! {
        g aria-hidden="true" {
            @for (from, to, pinned) in &graph.edges {
                @if let Some(path) = edge(&layout.at, *from, *to) {
                    path class={ "edge" @if *pinned { " pinned" } } d=(path) {}
                }
            }
        }
        @for (id, at) in order {
            @if let Some(project) = graph.nodes.get(id) {
                (node(project, *at, link(project).as_deref(), middle == Some(*id)))
            }
        }
    }
}

fn node(project: &ProjectLine, (x, y): (f64, f64), link: Option<&str>, is_middle: bool) -> Markup {
    let look = words::of_project(&project.state);
    let class = format!("node {}{}", look.class, if is_middle { " middle" } else { "" });
    let at = format!("translate({x:.1} {y:.1})");
    let content = html! {
        title { (told(project)) }
        rect class="box" width=(WIDTH) height=(HEIGHT) rx="8" {}
        text class="path" x="11" y="19" { (words::end_of(&project.path, PATH_FITS)) }
        text class="state" x="11" y="36" { (look.glyph) " " (look.word) @if project.is_wrong() { " " (words::WRONG.glyph) } }
    };
    let current = is_middle.then_some("true");
    html! {
        @match link {
            Some(link) => a href=(link) class=(class) aria-label=(told(project)) aria-current=[current] transform=(at) { (content) },
            None => g class=(class) role="img" aria-label=(told(project)) aria-current=[current] transform=(at) { (content) },
        }
    }
}

/// What a box is, for those who point at it or have it read to them: its state, why, and when it was built last.
fn told(project: &ProjectLine) -> String {
    let mut text = format!("{}: {}", project.path, project.words);
    if !project.because.is_empty() {
        text.push_str(" because of ");
        text.push_str(&project.because.join(", "));
    }
    for wrong in project.wrong() {
        text.push_str("; ");
        text.push_str(wrong);
    }
    // To the minute.
    match project.success_at.as_deref().and_then(|at| at.get(..16)) {
        Some(at) => format!("{text}; built last {} UTC", at.replace('T', " ")),
        None => format!("{text}; not built yet"),
    }
}

/// A curve from one box's right side to another's left side.
fn edge(at: &BTreeMap<i64, (f64, f64)>, from: i64, to: i64) -> Option<String> {
    let ((x, y), (to_x, to_y)) = (at.get(&from)?, at.get(&to)?);
    let (x, y, to_y) = (x + WIDTH, y + HEIGHT / 2.0, to_y + HEIGHT / 2.0);
    let bend = ((to_x - x) / 2.0).max(30.0);
    Some(format!("M{x:.1} {y:.1}C{:.1} {y:.1} {:.1} {to_y:.1} {to_x:.1} {to_y:.1}", x + bend, to_x - bend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::graph::diamond;

    #[test]
    fn a_file_has_every_project_with_its_state_and_its_page() {
        let status = diamond();
        let text = file(&Graph::of(&status));
        assert!(text.starts_with("<?xml") && text.contains("xmlns=\"http://www.w3.org/2000/svg\""));
        assert_eq!((text.matches("<rect").count(), text.matches("class=\"edge\"").count()), (5, 4), "{text}");
        assert!(
            text.contains("href=\"https://gitlab.example.com/images/ruby\"") && text.contains("▶ running"),
            "{text}"
        );
    }

    #[test]
    fn a_box_says_why_it_is_in_its_state_and_when_it_was_built_last() {
        let mut status = diamond();
        let app = &mut status.projects[3];
        (app.words, app.because) = ("waits for images/ruby".into(), vec!["images/base".into(), "<b>".into()]);
        app.success_at = Some("2026-05-12T15:26:29.123Z".into());
        let text = file(&Graph::of(&status));
        let words =
            "images/app: waits for images/ruby because of images/base, &lt;b&gt;; built last 2026-05-12 15:26 UTC";
        assert!(text.contains(&format!("<title>{words}</title>")), "{text}");
        assert!(text.contains(&format!("aria-label=\"{words}\"")), "{text}");
        assert!(text.contains("<title>images/ruby: running; not built yet</title>"), "{text}");
    }

    #[test]
    fn a_projects_name_is_text_and_nothing_else() {
        let mut status = diamond();
        status.projects[0].path = "x/<script>alert(1)</script>\"'&".into();
        status.projects[0].web_url = "https://h/\"><script>".into();
        let text = file(&Graph::of(&status));
        assert!(!text.contains("<script>") && text.contains("&lt;script&gt;"), "{text}");
    }

    #[test]
    fn only_what_is_on_the_web_is_linked() {
        let mut status = diamond();
        status.projects[0].web_url = "javascript:alert(1)".into();
        let text = file(&Graph::of(&status));
        assert!(!text.contains("javascript:"), "{text}");
        assert_eq!((text.matches("<a href=\"https://").count(), text.matches("<a ").count()), (4, 4), "{text}");
        assert!(text.contains("<g class=\"node good\" role=\"img\" aria-label=\"images/base: fresh"), "{text}");
    }

    #[test]
    fn a_chain_without_projects_is_a_picture_that_says_so() {
        let text = file(&Graph::of(&crate::protocol::chain::ChainStatus::default()));
        assert!(text.contains(">The chain has no projects</text>") && text.contains("width=\"196\""), "{text}");
    }
}
