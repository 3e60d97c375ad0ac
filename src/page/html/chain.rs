//! The chain's page: the graph, a table of the projects, and the last rebuild.

use maud::{Markup, html};

use super::timeline::timeline;
use super::{Clock, Part, badge, linked, time};
use crate::page::graph::Graph;
use crate::page::layout::Layout;
use crate::page::view::{Chain, pipeline_link};
use crate::page::{svg, words};
use crate::protocol::chain::{ChainStatus, ProjectLine};

/// A chain with more projects opens on what is not fresh, or may not be: where a file was not understood, nobody knows what it builds on.
pub const ALL_UP_TO: usize = 200;
/// The most projects that are drawn.
pub const DRAWN_MAX: usize = 200;

/// What of the chain is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Show {
    /// Whether what is fresh is wanted too; none: as fits the chain's size.
    pub all: Option<bool>,
    /// What the paths have to contain.
    pub text: String,
}

impl Show {
    /// Whether what is fresh is shown.
    #[must_use]
    pub fn is_all(&self, status: &ChainStatus) -> bool {
        self.all.unwrap_or(!self.text.is_empty() || status.projects.len() <= ALL_UP_TO)
    }

    /// The projects that are shown.
    #[must_use]
    pub fn part<'a>(&self, status: &'a ChainStatus) -> Graph<'a> {
        let (all, text) = (self.is_all(status), self.text.to_lowercase());
        Graph::of(status).among(|project| {
            (all || project.state != "fresh" || !project.findings.is_empty())
                && (text.is_empty() || project.path.to_lowercase().contains(&text))
        })
    }

    /// What was asked, as a query.
    #[must_use]
    pub fn query(&self) -> String {
        let show = match self.all {
            Some(true) => "all",
            Some(false) => "not-fresh",
            None => "",
        };
        let text = percent_encoding::utf8_percent_encode(&self.text, percent_encoding::NON_ALPHANUMERIC);
        format!("?show={show}&q={text}")
    }
}

/// Heading and form, which stay as they are while the page is open.
#[must_use]
pub fn head(base: &str, show: &Show) -> Markup {
    let option = |value: &str, is_it: bool, words: &str| {
        html! { option value=(value) selected[is_it] { (words) } }
    };
    html! {
        h1 { "Image chain" }
        form class="filter" method="get" action={ (base) "/chain" } role="search" {
            label { "Projects " select name="show" {
                (option("", show.all.is_none(), "as fits"))
                (option("all", show.all == Some(true), "all"))
                (option("not-fresh", show.all == Some(false), "not fresh"))
            } }
            label { "Path contains " input type="search" name="q" value=(show.text) maxlength="200"; }
            button type="submit" { "Show" }
        }
    }
}

/// Its parts. `layout` belongs to the part of the chain that is shown; none: that is too large to draw.
#[must_use]
pub fn parts(base: &str, chain: &Chain, show: &Show, layout: Option<&Layout>, clock: Clock) -> Vec<Part> {
    let part = show.part(&chain.status);
    let link = |id: i64| format!("{base}/chain/{id}");
    let rebuild = match &chain.rebuild {
        Some(rebuild) => timeline(rebuild, clock, link),
        None if chain.unread.is_some() => html! { h2 { "Last rebuild" } },
        None => html! { h2 { "Last rebuild" } p { "The chain has started nothing yet." } },
    };
    vec![
        Part::new("summary", &summary(&chain.status, clock)),
        Part::new("graph", &graph(&part, &chain.status, show, layout, &link)),
        Part::new("projects", &table(&part, chain, clock, &link)),
        Part::new(
            "rebuild",
            &html! { (rebuild) @if let Some(why) = &chain.unread { p { "What the chain has started, and why:" } (super::unread(why)) } },
        ),
    ]
}

fn summary(status: &ChainStatus, clock: Clock) -> Markup {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for project in &status.projects {
        match counts.iter_mut().find(|(state, _)| *state == project.state) {
            Some((_, count)) => *count += 1,
            None => counts.push((&project.state, 1)),
        }
    }
    let wrong = status.projects.iter().filter(|project| project.is_wrong()).count();
    let on_old = status.projects.iter().filter(|project| project.old_base().is_some()).count();
    counts.sort_by_key(|(state, count)| (*state == "fresh", std::cmp::Reverse(*count)));
    html! {
        @if !status.problems.is_empty() {
            div class="notice bad" { h2 { "Somebody should look at this" } ul { @for problem in &status.problems { li { (problem) } } } }
        }
        @if let Some(held) = &status.held { (super::nothing_is_started(held)) }
        ul class="counts" aria-label="Projects by state" {
            @for (state, count) in counts { li { (badge(words::of_project(state))) " " strong { (count) } } }
            @if wrong > 0 { li { (badge(words::WRONG)) " " strong { (wrong) } } }
            @if on_old > 0 { li { (badge(words::ON_OLD_BASE)) " " strong { (on_old) } } }
        }
        p {
            @match &status.looked_at {
                Some(at) => { "GitLab was looked at as a whole " (time(clock, at)) "." },
                None => { "GitLab is being looked at for the first time." },
            }
        }
    }
}

fn graph(
    part: &Graph<'_>,
    status: &ChainStatus,
    show: &Show,
    layout: Option<&Layout>,
    link: &impl Fn(i64) -> String,
) -> Markup {
    let (shown, all) = (part.nodes.len(), status.projects.len());
    html! {
        h2 { "What builds on what" }
        @if all == 0 {
            p { "The chain has no projects yet." }
        } @else if shown == 0 && !show.is_all(status) && show.text.is_empty() {
            p { span aria-hidden="true" { "✓ " } "All " (all) " projects are fresh." }
        } @else if shown == 0 {
            p { "No project fits." }
        } @else {
            @if shown < all { p { "Shown: " (shown) " of " (all) " projects" @if !show.is_all(status) { ", those that are not fresh or whose files were not understood" } "." } }
            @match layout {
                Some(layout) => {
                    div class="scroll" tabindex="0" role="region" aria-label="Graph of the chain" {
                        (svg::inline(part, layout, |project| link(project.id), None))
                    }
                },
                None => p { "Too many for a picture: choose a project in the table, or show fewer." },
            }
        }
    }
}

/// `chain` says why the projects' last successes were built.
fn table(part: &Graph<'_>, chain: &Chain, clock: Clock, link: &impl Fn(i64) -> String) -> Markup {
    let unknown = if chain.unread.is_some() { "can't be read" } else { "not on record" };
    let built = |project: &ProjectLine| chain.built_because.get(&project.id).map_or(unknown, String::as_str);
    let mut rows: Vec<&ProjectLine> = part.nodes.values().copied().collect();
    rows.sort_by(|one, other| one.path.cmp(&other.path));
    html! {
        h2 { "Projects" }
        @if !rows.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label="Table of the projects" {
                table {
                    caption { "Projects by path" }
                    thead { tr { th scope="col" { "Project" } th scope="col" { "State" } th scope="col" { "Why" } th scope="col" { "Since" } th scope="col" { "Last built" } th scope="col" { "Built because" } th scope="col" { "Pipeline" } } }
                    tbody { @for project in rows { (row(project, built(project), clock, link)) } }
                }
            }
        }
    }
}

fn row(project: &ProjectLine, built: &str, clock: Clock, link: &impl Fn(i64) -> String) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(link(project.id)) { (project.path) } }
            td { (badge(words::of_project(&project.state))) @if project.paused { " (paused)" } @if project.is_wrong() { " " (badge(words::WRONG)) } @if project.old_base().is_some() { " " (badge(words::ON_OLD_BASE)) } }
            td {
                @if let Some(base) = project.old_base() { p class="problem" { (base.words) } }
                @if project.state != "fresh" { (project.words) }
                @if !project.because.is_empty() { " because of " (project.because.join(", ")) }
                @for problem in project.wrong() { p class="problem" { span aria-hidden="true" { "✕ " } (problem) } }
            }
            td { (time(clock, &project.since)) }
            td { @match &project.success_at { Some(at) => (time(clock, at)), None => "never" } }
            td { @if project.success.is_some() { (built) } }
            td { @if let Some(id) = project.pipeline { (linked(pipeline_link(&project.web_url, id).as_deref(), &html! { (id) })) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::page::graph::diamond;
    use crate::protocol::chain::BaseLine;

    fn text(chain: &Chain, show: &Show) -> String {
        let layout = svg::place(&show.part(&chain.status));
        parts("/w", chain, show, Some(&layout), Clock::Bare).into_iter().map(|part| part.html).collect()
    }

    #[test]
    fn a_large_chain_opens_on_what_is_not_fresh() {
        let mut status = diamond();
        let like = status.projects[0].clone();
        let many = 100..100 + i64::try_from(ALL_UP_TO).expect("small");
        status.projects.extend(many.map(|id| ProjectLine { id, path: format!("p/{id}"), ..like.clone() }));
        let chain = Chain { status, rebuild: None, built_because: BTreeMap::new(), unread: None };
        let found = text(&chain, &Show::default());
        assert!(found.contains("images/app") && !found.contains("p/150"), "{found}");
        let all = text(&chain, &Show { all: None, text: "p/15".into() });
        assert!(all.contains("p/150") && !all.contains("images/app"), "{all}");
    }

    #[test]
    fn what_could_not_be_understood_is_told_of_a_fresh_project_too() {
        let mut status = diamond();
        let like = status.projects[0].clone();
        let many = 100..100 + i64::try_from(ALL_UP_TO).expect("small");
        status.projects.extend(many.map(|id| ProjectLine { id, path: format!("p/{id}"), ..like.clone() }));
        status.projects.last_mut().expect("many").findings = vec!["FROM $X: <X> is not known".into()];
        let chain = Chain { status, rebuild: None, built_because: BTreeMap::new(), unread: None };
        let found = text(&chain, &Show::default());
        assert!(found.contains("something is wrong</span> <strong>1</strong>"), "{found}");
        let last = 99 + ALL_UP_TO;
        let row = found.split("<tr>").find(|row| row.contains(&format!(">p/{last}</a></th>"))).expect("a row");
        assert!(row.contains("something is wrong") && row.contains("FROM $X: &lt;X&gt; is not known"), "{row}");
        assert!(!found.contains(&format!(">p/{}</a>", last - 1)), "{found}");
        assert!(found.contains(&format!("aria-label=\"p/{last}: fresh; FROM $X: &lt;X&gt; is not known;")), "{found}");
    }

    #[test]
    fn an_image_on_an_old_base_is_marked_beside_its_state() {
        let mut status = diamond();
        let base = BaseLine {
            state: "old".into(),
            words: "its base was images/base@sha256:1".into(),
            since: status.projects[0].since.clone(),
        };
        status.projects[0].base = Some(base.clone());
        let found = text(
            &Chain { status: status.clone(), rebuild: None, built_because: BTreeMap::new(), unread: None },
            &Show { all: Some(true), text: String::new() },
        );
        assert!(found.contains("on an old base") && found.contains(&base.words), "{found}");
        status.projects[0].base = Some(BaseLine { state: "new".into(), ..base });
        assert!(
            !text(&Chain { status, rebuild: None, built_because: BTreeMap::new(), unread: None }, &Show::default())
                .contains("on an old base")
        );
    }

    #[test]
    fn a_fresh_project_says_when_it_was_built_last_and_why() {
        let mut status = diamond();
        for project in &mut status.projects {
            (project.success, project.success_at) = (Some(project.id * 10), Some("2026-01-01T00:00:00Z".into()));
        }
        (status.projects[4].success, status.projects[4].success_at) = (None, None);
        let built_because = BTreeMap::from([
            (1, "not started by the chain: <push>".to_owned()),
            (3, "images/base succeeded".to_owned()),
        ]);
        let found = text(&Chain { status, rebuild: None, built_because, unread: None }, &Show::default());
        let cells = |path: &str| {
            let row = found.split("<tr>").find(|row| row.contains(&format!(">{path}</a></th>"))).expect("a row");
            row.split("<td>").skip(4).take(2).collect::<String>()
        };
        assert!(found.contains("<th scope=\"col\">Built because</th>"), "{found}");
        assert!(
            cells("images/node").ends_with("2026-01-01 00:00:00 UTC</time></td>images/base succeeded</td>"),
            "{found}"
        );
        assert!(cells("images/base").contains("not started by the chain: &lt;push&gt;"), "{found}");
        assert!(
            cells("images/app").ends_with("not on record</td>") && cells("images/other") == "never</td></td>",
            "{found}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_told_as_nothing() {
        let of = |unread: Option<&str>| {
            let unread = unread.map(str::to_owned);
            text(&Chain { status: diamond(), rebuild: None, built_because: BTreeMap::new(), unread }, &Show::default())
        };
        let nothing = "The chain has started nothing yet";
        assert!(of(None).contains(nothing) && !of(None).contains("can't be read"));
        let found = of(Some("disk I/O error"));
        assert!(!found.contains(nothing) && found.contains("can't be read: disk I/O error"), "{found}");
    }

    #[test]
    fn a_name_is_text_wherever_it_stands() {
        let mut status = diamond();
        let hostile = "<script>alert(1)</script>";
        status.projects[0].path = hostile.into();
        status.projects[0].words = hostile.into();
        status.projects[0].problems = vec![hostile.into()];
        status.projects[0].web_url = "javascript:alert(1)".into();
        status.projects[0].pipeline = Some(1);
        status.held = Some(hostile.into());
        let found =
            text(&Chain { status, rebuild: None, built_because: BTreeMap::new(), unread: None }, &Show::default());
        assert!(!found.contains("<script") && !found.contains("href=\"javascript:"), "{found}");
        let head = head("/w", &Show { all: None, text: "\"><script>".into() }).into_string();
        assert!(!head.contains("<script"), "{head}");
    }
}
