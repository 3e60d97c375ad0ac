//! A project's page: its state and why, what it builds on and what builds on it, its last events and starts.

use maud::{Markup, html};

use super::{Clock, Part, badge, linked, time};
use crate::page::graph::Graph;
use crate::page::layout::Layout;
use crate::page::view::{ProjectPast, link, pipeline_link};
use crate::page::{svg, words};
use crate::protocol::chain::{EdgeLine, ProjectLine};

/// The most projects around one that are drawn.
pub const AROUND_MAX: usize = 120;

/// Heading, which stays as it is while the page is open.
#[must_use]
pub fn head(base: &str, project: &ProjectLine) -> Markup {
    html! {
        p class="crumbs" { a href={ (base) "/chain" } { "Image chain" } }
        h1 { (project.path) }
    }
}

/// Who is in the way of a project that is blocked.
#[must_use]
pub fn blocker<'a>(whole: &Graph<'a>, project: &ProjectLine) -> Option<&'a ProjectLine> {
    // Its words name it.
    let path = project.words.strip_prefix("blocked by ")?;
    whole.nodes.values().find(|other| other.path == path).copied()
}

/// Its parts; `whole` is the chain, `held` why it starts nothing, and `around` the project with what is around it, drawn as `layout` says.
#[must_use]
pub fn parts(
    base: &str,
    project: &ProjectLine,
    (whole, held): (&Graph<'_>, Option<&str>),
    (around, layout): (&Graph<'_>, &Layout),
    past: &ProjectPast,
    clock: Clock,
) -> Vec<Part> {
    vec![
        Part::new("summary", &summary(base, project, blocker(whole, project), held, clock)),
        Part::new("graph", &graph(base, project, around, layout)),
        Part::new("edges", &edges(base, project, whole)),
        Part::new("starts", &starts(project, past, clock)),
        Part::new("events", &events(project, past, clock)),
    ]
}

fn summary(
    base: &str,
    project: &ProjectLine,
    blocker: Option<&ProjectLine>,
    held: Option<&str>,
    clock: Clock,
) -> Markup {
    html! {
        p class="state" { (badge(words::of_project(&project.state))) " since " (time(clock, &project.since)) @if project.paused { " · paused" } }
        @if project.state != "fresh" { p { (project.words) "." } }
        @if let Some(held) = held { (super::nothing_is_started(held)) }
        @if let Some(blocker) = blocker {
            p class="notice warn" {
                span aria-hidden="true" { "◆ " } a href={ (base) "/chain/" (blocker.id) } { (blocker.path) } " is in the way: " (blocker.words)
                @if let Some(id) = blocker.pipeline { ", " (linked(pipeline_link(&blocker.web_url, id).as_deref(), &html! { "pipeline " (id) })) }
                ". Once that succeeds, for example after a retry, this one goes on."
            }
        }
        @if let Some(old) = project.old_base() {
            p class="notice warn" { (badge(words::ON_OLD_BASE)) " since " (time(clock, &old.since)) ": " (old.words) }
        }
        @for problem in project.wrong() {
            p class="problem" { span aria-hidden="true" { "✕ " } (problem) }
        }
        dl class="facts" {
            @if !project.because.is_empty() { div { dt { "Because of" } dd { (project.because.join(", ")) } } }
            div { dt { "Last built" } dd { @match &project.success_at { Some(at) => (time(clock, at)), None => "never" } } }
            @if let Some(of) = &project.base { div { dt { "Its base" } dd { (of.state) ": " (of.words) } } }
            div { dt { "Latest pipeline" } dd { @match project.pipeline {
                Some(id) => (linked(pipeline_link(&project.web_url, id).as_deref(), &html! { (id) })),
                None => "none",
            } } }
            div { dt { "Branch" } dd { (project.reference.as_deref().unwrap_or("none")) } }
            div { dt { "In GitLab" } dd { (linked(link(&project.web_url), &html! { (project.path) })) } }
        }
    }
}

fn graph(base: &str, project: &ProjectLine, around: &Graph<'_>, layout: &Layout) -> Markup {
    html! {
        h2 { "What it builds on, and what builds on it" }
        @if around.nodes.len() >= AROUND_MAX { p { "The nearest " (AROUND_MAX) " projects, what it builds on first." } }
        div class="scroll" tabindex="0" role="region" aria-label="Graph around this project" {
            (svg::inline(around, layout, |other| format!("{base}/chain/{}", other.id), Some(project.id)))
        }
    }
}

fn edges(base: &str, project: &ProjectLine, whole: &Graph<'_>) -> Markup {
    let downstreams = whole.downstreams(project.id);
    let upstream = |edge: &EdgeLine| {
        let known = edge.project.and_then(|id| whole.nodes.get(&id));
        html! {
            @match known {
                Some(other) => { a href={ (base) "/chain/" (other.id) } { (other.path) } " " (badge(words::of_project(&other.state))) },
                None => { code { (edge.name) } @if edge.project.is_none() { " (an external image)" } },
            }
            @if edge.pinned { " by a fixed digest: nothing is rebuilt for it" }
        }
    };
    html! {
        div class="columns" {
            div { h3 { "Builds on" }
                @if project.upstreams.is_empty() { p { "Nothing that is known." } }
                ul { @for edge in &project.upstreams { li { (upstream(edge)) } } }
            }
            div { h3 { "Below it" }
                @if downstreams.is_empty() { p { "Nothing builds on it." } }
                ul { @for other in downstreams.iter().take(AROUND_MAX) { li { a href={ (base) "/chain/" (other.id) } { (other.path) } " " (badge(words::of_project(&other.state))) } } }
                @if downstreams.len() > AROUND_MAX { p { "And " (downstreams.len() - AROUND_MAX) " more." } }
            }
        }
    }
}

fn starts(project: &ProjectLine, past: &ProjectPast, clock: Clock) -> Markup {
    html! {
        h2 { "Started by the chain" }
        @if past.starts.is_empty() { (super::nothing(past.unread.as_ref(), "Nothing that is on record.")) } @else {
            div class="scroll" tabindex="0" role="region" aria-label="What the chain has started" {
                table {
                    caption { "The last starts, the newest first" }
                    thead { tr { th scope="col" { "When" } th scope="col" { "Why" } th scope="col" { "What came of it" } th scope="col" { "Pipeline" } } }
                    tbody { @for start in &past.starts { tr {
                        th scope="row" { (time(clock, &start.at)) }
                        td { (start.reason) }
                        td { (start.outcome) }
                        td { @if let Some(id) = start.pipeline { (linked(pipeline_link(&project.web_url, id).as_deref(), &html! { (id) })) } }
                    } } }
                }
            }
        }
    }
}

fn events(project: &ProjectLine, past: &ProjectPast, clock: Clock) -> Markup {
    html! {
        h2 { "Events from GitLab" }
        @if past.events.is_empty() { (super::nothing(past.unread.as_ref(), "None that are on record. The timer finds what happens all the same.")) } @else {
            div class="scroll" tabindex="0" role="region" aria-label="Events from GitLab" {
                table {
                    caption { "The last events, the newest first" }
                    thead { tr { th scope="col" { "When" } th scope="col" { "Pipeline" } th scope="col" { "Status" } th scope="col" { "Ref" } th scope="col" { "What became of it" } } }
                    tbody { @for event in &past.events { tr {
                        th scope="row" { (time(clock, &event.at)) }
                        td { (linked(pipeline_link(&project.web_url, event.pipeline).as_deref(), &html! { (event.pipeline) })) }
                        td { (event.status) }
                        td { (event.reference) }
                        td { (event.verdict.as_deref().unwrap_or("waits")) }
                    } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::graph::diamond;

    #[test]
    fn the_ways_to_what_it_builds_on_and_to_who_blocks_it_are_there_however_little_is_drawn() {
        let mut status = diamond();
        status.projects[0].words = "failed".into();
        (status.projects[3].state, status.projects[3].words) = ("blocked".into(), "blocked by images/base".into());
        let whole = Graph::of(&status);
        let around = whole.around(4, 1, None);
        let layout = svg::place(&around);
        let past = ProjectPast::default();
        let parts = parts("/w", &status.projects[3], (&whole, None), (&around, &layout), &past, Clock::Bare);
        let html = |id: &str| &parts.iter().find(|part| part.id == id).expect("the part").html;
        assert!(
            html("summary").contains("<a href=\"/w/chain/1\">images/base</a> is in the way: failed"),
            "{}",
            html("summary")
        );
        for upstream in [2, 3] {
            assert!(html("edges").contains(&format!("href=\"/w/chain/{upstream}\"")), "{}", html("edges"));
        }
    }

    #[test]
    fn each_projects_page_says_why_the_chain_starts_nothing_and_what_cannot_be_read() {
        let status = diamond();
        let whole = Graph::of(&status);
        let layout = svg::place(&whole);
        let read = |held| {
            let past = ProjectPast { unread: Some("the disk is <full>".into()), ..ProjectPast::default() };
            let parts = parts("/w", &status.projects[3], (&whole, held), (&whole, &layout), &past, Clock::Bare);
            super::super::as_read(&parts)
        };
        assert!(read(Some("dry_run is <set>")).contains("Nothing is started: dry_run is &lt;set&gt;."));
        assert!(!read(None).contains("Nothing is started"));
        assert_eq!(read(None).matches("can't be read: the disk is &lt;full&gt;").count(), 2);
        assert!(!read(None).contains("on record"), "{}", read(None));
    }
}
