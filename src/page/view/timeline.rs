//! The last rebuild of the chain as bars over time, so that the slow link is seen: which pipelines followed from which, and how long each
//! took. Made from the events and starts on record.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{pipeline_link, seconds};
use crate::protocol::chain::{ChainStatus, EventLine, StartLine};

/// A rebuild: the pipelines that followed from one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuild {
    /// When the first pipeline began.
    pub began: String,
    /// When the last one ended; none: one runs still.
    pub ended: Option<String>,
    /// In the order in which they began.
    pub bars: Vec<Bar>,
}

/// A pipeline of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// The project.
    pub project: i64,
    /// Its path.
    pub path: String,
    /// The pipeline.
    pub pipeline: i64,
    /// Its page.
    pub url: Option<String>,
    /// When it began, as far as known.
    pub began: String,
    /// When it ended; none: it runs still.
    pub ended: Option<String>,
    /// success, failed, canceled, skipped, manual or running.
    pub outcome: String,
    /// Why it was started; none: not by the chain.
    pub reason: Option<String>,
}

/// Most pipelines of a rebuild that are told.
const BARS_MAX: usize = 200;

#[derive(Debug, Clone)]
struct Run {
    project: i64,
    pipeline: i64,
    began: String,
    ended: Option<String>,
    outcome: String,
    reason: Option<String>,
}

/// The last rebuild; none where the chain has started nothing that is on record.
#[must_use]
pub fn last_rebuild(status: &ChainStatus, events: &[EventLine], starts: &[StartLine]) -> Option<Rebuild> {
    let runs = runs(status, events, starts);
    let causes = causes(status, &runs);
    let last = (0..runs.len()).rev().find(|index| runs[*index].reason.is_some())?;
    // Back to where it began, and on to all that followed from there.
    let roots: Vec<usize> =
        closure(last, |at| causes[at].clone()).into_iter().filter(|at| causes[*at].is_empty()).collect();
    let follows = |at: usize| (0..runs.len()).filter(|next| causes[*next].contains(&at)).collect::<Vec<_>>();
    let chosen: BTreeSet<usize> = roots.into_iter().flat_map(|root| closure(root, follows)).collect();
    let paths: BTreeMap<i64, (&str, &str)> =
        status.projects.iter().map(|project| (project.id, (project.path.as_str(), project.web_url.as_str()))).collect();
    let bars: Vec<Bar> = chosen
        .into_iter()
        .map(|index| &runs[index])
        .filter_map(|run| {
            let (path, web_url) = paths.get(&run.project)?;
            Some(Bar {
                project: run.project,
                path: (*path).to_owned(),
                pipeline: run.pipeline,
                url: pipeline_link(web_url, run.pipeline),
                began: run.began.clone(),
                ended: run.ended.clone(),
                outcome: run.outcome.clone(),
                reason: run.reason.clone(),
            })
        })
        .take(BARS_MAX)
        .collect();
    let runs_still = bars.iter().any(|bar| bar.ended.is_none());
    let ended = bars.iter().filter_map(|bar| bar.ended.clone()).max().filter(|_| !runs_still);
    Some(Rebuild { began: bars.first()?.began.clone(), ended, bars })
}

/// Every pipeline that is on record, the first first.
fn runs(status: &ChainStatus, events: &[EventLine], starts: &[StartLine]) -> Vec<Run> {
    let ids: BTreeMap<&str, i64> = status.projects.iter().map(|project| (project.path.as_str(), project.id)).collect();
    let mut runs: BTreeMap<i64, Run> = BTreeMap::new();
    let mut note = |path: &str, pipeline: i64, at: &str, reason: Option<&String>| {
        let project = *ids.get(path)?;
        let run = runs.entry(pipeline).or_insert_with(|| Run {
            project,
            pipeline,
            began: at.to_owned(),
            ended: None,
            outcome: "running".to_owned(),
            reason: None,
        });
        if at < run.began.as_str() {
            at.clone_into(&mut run.began);
        }
        if reason.is_some() {
            run.reason = reason.cloned();
        }
        Some(())
    };
    for start in starts {
        if let Some(pipeline) = start.pipeline {
            note(&start.path, pipeline, &start.at, Some(&start.reason));
        }
    }
    // The newest event comes first: what is read last is the oldest.
    for event in events {
        note(&event.path, event.pipeline, &event.at, None);
    }
    for event in events.iter().rev() {
        let Some(run) = runs.get_mut(&event.pipeline) else { continue };
        match event.status.as_str() {
            end @ ("success" | "failed" | "canceled" | "skipped" | "manual") => {
                (run.outcome, run.ended) = (end.to_owned(), Some(event.at.clone()));
            }
            // A retry: it runs again.
            "running" => (run.outcome, run.ended) = ("running".to_owned(), None),
            _ => {}
        }
    }
    for project in &status.projects {
        settle(project, &mut runs);
    }
    let mut runs: Vec<Run> = runs.into_values().collect();
    runs.sort_by(|one, other| one.began.cmp(&other.began).then(one.pipeline.cmp(&other.pipeline)));
    runs
}

/// What the chain knows of pipelines whose events got lost: GitLab was asked.
fn settle(project: &crate::protocol::chain::ProjectLine, runs: &mut BTreeMap<i64, Run>) {
    for run in runs.values_mut().filter(|run| run.project == project.id) {
        let is_latest = project.pipeline == Some(run.pipeline);
        let success = project.success_at.clone().filter(|at| *at >= run.began);
        match (&run.ended, success) {
            // One that failed, and succeeded when it was tried again.
            (Some(ended), Some(at)) if is_latest && run.outcome != "success" && at > *ended => {
                (run.ended, run.outcome) = (Some(at), "success".to_owned());
            }
            (Some(_), _) => {}
            (None, _) if is_latest && project.state == "running" => {}
            (None, Some(at)) => (run.ended, run.outcome) = (Some(at), "success".to_owned()),
            (None, None) => {
                run.ended = Some(project.since.clone());
                run.outcome = match project.state.as_str() {
                    state @ ("failed" | "canceled" | "skipped" | "manual") if is_latest => state.to_owned(),
                    _ => "unknown".to_owned(),
                };
            }
        }
    }
}

/// For each pipeline of the chain's, the ones that it was built on: of each upstream the latest that had succeeded by then and came after
/// the project's own pipeline before.
fn causes(status: &ChainStatus, runs: &[Run]) -> Vec<Vec<usize>> {
    let upstreams: BTreeMap<i64, Vec<i64>> = status
        .projects
        .iter()
        .map(|project| (project.id, project.upstreams.iter().filter_map(|edge| edge.project).collect()))
        .collect();
    let ended_by = |run: &Run, at: &str| {
        let (Some(end), Some(at)) = (run.ended.as_deref().and_then(seconds), seconds(at)) else { return false };
        // Times are in whole seconds, by two clocks.
        run.outcome == "success" && end <= at + 2
    };
    runs.iter()
        .enumerate()
        .map(|(index, run)| {
            if run.reason.is_none() {
                return Vec::new();
            }
            let before = runs[..index].iter().rev().find(|other| other.project == run.project);
            let is_new = |other: &Run| before.is_none_or(|before| other.ended.as_ref() >= Some(&before.began));
            let of = |upstream: &i64| {
                let latest =
                    (0..index).rev().find(|at| runs[*at].project == *upstream && ended_by(&runs[*at], &run.began));
                latest.filter(|at| is_new(&runs[*at]))
            };
            upstreams.get(&run.project).into_iter().flatten().filter_map(of).collect()
        })
        .collect()
}

/// All that is reached, the start included.
fn closure(start: usize, next: impl Fn(usize) -> Vec<usize>) -> BTreeSet<usize> {
    let mut found = BTreeSet::from([start]);
    let mut queue = vec![start];
    while let Some(at) = queue.pop() {
        queue.extend(next(at).into_iter().filter(|there| found.insert(*there)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::graph::diamond;

    fn event(minute: u32, path: &str, pipeline: i64, status: &str) -> EventLine {
        EventLine {
            at: format!("2026-01-01T00:{minute:02}:00Z"),
            path: format!("images/{path}"),
            pipeline,
            status: status.into(),
            reference: "main".into(),
            source: None,
            verdict: None,
        }
    }

    fn start(minute: u32, path: &str, pipeline: i64) -> StartLine {
        StartLine {
            at: format!("2026-01-01T00:{minute:02}:00Z"),
            path: format!("images/{path}"),
            reason: "something succeeded".into(),
            outcome: "started".into(),
            pipeline: Some(pipeline),
        }
    }

    #[test]
    fn what_followed_from_one_base_build_is_one_rebuild_and_an_older_one_is_another() {
        let mut status = diamond();
        status.projects[1].state = "fresh".into();
        status.projects[3].state = "running".into();
        status.projects[3].pipeline = Some(14);
        let mut events = vec![
            event(1, "base", 1, "running"),
            event(3, "base", 1, "success"),
            event(5, "ruby", 2, "success"),
            event(30, "base", 11, "running"),
            event(33, "base", 11, "success"),
            event(35, "other", 20, "success"),
            event(36, "node", 13, "success"),
            event(41, "ruby", 12, "success"),
        ];
        events.reverse();
        let starts = [start(41, "app", 14), start(33, "node", 13), start(33, "ruby", 12), start(3, "ruby", 2)];
        let found = last_rebuild(&status, &events, &starts).expect("a rebuild");
        let bars: Vec<(i64, &str)> = found.bars.iter().map(|bar| (bar.pipeline, bar.outcome.as_str())).collect();
        assert_eq!(bars, [(11, "success"), (12, "success"), (13, "success"), (14, "running")]);
        assert_eq!((found.began.as_str(), found.ended), ("2026-01-01T00:30:00Z", None));
        assert_eq!(found.bars[1].url.as_deref(), Some("https://gitlab.example.com/images/ruby/-/pipelines/12"));
    }

    #[test]
    fn a_pipeline_whose_last_events_got_lost_is_as_gitlab_says() {
        let mut status = diamond();
        status.projects[1].state = "fresh".into();
        status.projects[1].pipeline = Some(2);
        status.projects[1].success_at = Some("2026-01-01T00:09:00Z".into());
        let mut events = [event(1, "base", 1, "success"), event(5, "ruby", 2, "failed")];
        events.reverse();
        let found = last_rebuild(&status, &events, &[start(1, "ruby", 2)]).expect("a rebuild");
        let ruby = found.bars.iter().find(|bar| bar.pipeline == 2).expect("ruby's");
        assert_eq!((ruby.outcome.as_str(), ruby.ended.as_deref()), ("success", Some("2026-01-01T00:09:00Z")));
    }

    #[test]
    fn a_chain_that_has_started_nothing_has_no_rebuild() {
        assert_eq!(last_rebuild(&diamond(), &[event(1, "base", 1, "success")], &[]), None);
    }
}
