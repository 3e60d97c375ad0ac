//! The last rebuild of the chain as bars over time, so that the slow link is seen: which pipelines followed from one another (`followed`),
//! and how long each took. All times are the host's: those of events and starts are, and what GitLab says is put right.

use std::collections::BTreeMap;

use serde::Serialize;

use super::followed::{Link, Links};
use super::{date, milliseconds, pipeline_link};
use crate::chain::facts::Time;
use crate::protocol::chain::{ChainStatus, ProjectLine};
use crate::store::PipelineEvent;

/// A rebuild: the pipelines that followed from one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rebuild {
    /// When the first pipeline began.
    pub began: String,
    /// When the last one ended; none: one runs still.
    pub ended: Option<String>,
    /// How many pipelines it has.
    pub pipelines: usize,
    /// Of those that have ended, the one that took longest; none where none took any time.
    pub slowest: Option<Bar>,
    /// In the order in which they began. Of very many some are left out that succeeded, those that began last, but never the slowest.
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
    /// success, failed, canceled, skipped, manual, running, or unknown.
    pub outcome: String,
    /// Why it was started; none: not by the chain.
    pub reason: Option<String>,
}

/// Most pipelines of a rebuild that are told.
const BARS_MAX: usize = 200;

/// A pipeline; times in milliseconds since 1970, by the host's clock.
struct Run<'a> {
    project: &'a ProjectLine,
    pipeline: i64,
    link: &'a Link,
    began: Option<Time>,
    ended: Option<Time>,
    outcome: String,
}

impl Run<'_> {
    fn began(&self) -> Time {
        self.began.or(self.ended).unwrap_or_default()
    }

    fn took(&self) -> Option<Time> {
        Some(self.ended? - self.began())
    }

    fn bar(&self) -> Bar {
        Bar {
            project: self.project.id,
            path: self.project.path.clone(),
            pipeline: self.pipeline,
            url: pipeline_link(&self.project.web_url, self.pipeline),
            began: date(self.began()),
            ended: self.ended.map(date),
            outcome: self.outcome.clone(),
            reason: self.link.reason.clone(),
        }
    }
}

/// The last rebuild, of these pipelines and what events have said of them in the order in which they came; none where the chain has started
/// nothing that is on record. GitLab's clock is so many milliseconds ahead of the host's.
#[must_use]
pub fn rebuild(status: &ChainStatus, links: &Links, events: &[PipelineEvent], ahead: Time) -> Option<Rebuild> {
    let projects: BTreeMap<i64, &ProjectLine> = status.projects.iter().map(|project| (project.id, project)).collect();
    let mut said: BTreeMap<i64, Vec<&PipelineEvent>> = BTreeMap::new();
    for event in events {
        said.entry(event.pipeline).or_default().push(event);
    }
    let run = |(id, pipeline): (i64, i64), link| -> Option<Run<'_>> {
        let project: &ProjectLine = projects.get(&id)?;
        let mut run = Run { project, pipeline, link, began: None, ended: None, outcome: "running".to_owned() };
        let events = said.get(&pipeline).map_or(&[][..], Vec::as_slice);
        run.began = link.asked_at.into_iter().chain(events.iter().map(|event| event.received_at)).min();
        events.iter().for_each(|event| take(&mut run, event));
        settle(&mut run, ahead);
        Some(run)
    };
    let mut runs: Vec<Run<'_>> = links.iter().filter_map(|(key, link)| run(*key, link)).collect();
    // GitLab's ids grow: whose times are the same are in the order in which they were made.
    runs.sort_by_key(|run| (run.began(), run.pipeline));
    let first = runs.first()?.began();
    let runs_still = runs.iter().any(|run| run.ended.is_none());
    let last = runs.iter().filter_map(|run| run.ended).max().filter(|_| !runs_still);
    let slowest = runs.iter().filter(|run| run.took() > Some(0)).max_by_key(|run| run.took()).map(Run::bar);
    Some(Rebuild {
        began: date(first),
        ended: last.map(date),
        pipelines: runs.len(),
        bars: told(runs.iter().map(Run::bar).collect(), slowest.as_ref(), BARS_MAX),
        slowest,
    })
}

/// Those that are told, or drawn, in their order: the slowest, and what runs or has failed, which somebody may have to do something about,
/// are never left out for what has succeeded.
#[must_use]
pub fn told(bars: Vec<Bar>, slowest: Option<&Bar>, most: usize) -> Vec<Bar> {
    let rank = |bar: &Bar| match () {
        () if slowest.is_some_and(|slowest| slowest.pipeline == bar.pipeline) => 0,
        () if bar.outcome != "success" => 1,
        () => 2,
    };
    let mut order: Vec<(usize, Bar)> = bars.into_iter().enumerate().collect();
    order.sort_by_key(|(place, bar)| (rank(bar), *place));
    order.truncate(most);
    order.sort_by_key(|(place, _)| *place);
    order.into_iter().map(|(_, bar)| bar).collect()
}

fn take(run: &mut Run<'_>, event: &PipelineEvent) {
    match event.status.as_str() {
        end @ ("success" | "failed" | "canceled" | "skipped" | "manual") => {
            (run.outcome, run.ended) = (end.to_owned(), Some(event.received_at));
        }
        // A retry: it runs again.
        "running" => (run.outcome, run.ended) = ("running".to_owned(), None),
        _ => {}
    }
}

/// What the chain knows of pipelines whose events got lost: GitLab was asked.
fn settle(run: &mut Run<'_>, ahead: Time) {
    let project = run.project;
    let here = |text: &str| milliseconds(text).map(|at| at - ahead);
    let is_latest = project.pipeline == Some(run.pipeline);
    let its_own = project.success.filter(|success| *success == run.pipeline).and(project.success_at.as_deref());
    let success = run.link.success_at.map(|at| at - ahead).or_else(|| its_own.and_then(here));
    let not_before = |at: Time| run.began.map_or(at, |began| at.max(began));
    let latest = project.pipeline_state.as_deref().filter(|_| is_latest);
    match (run.ended, success, latest) {
        // One that failed, and succeeded when it was tried again.
        (Some(ended), Some(at), _) if run.outcome != "success" && at > ended => {
            (run.ended, run.outcome) = (Some(at), "success".to_owned());
        }
        (Some(_), ..) | (None, _, Some("running")) => {}
        (None, Some(at), _) => (run.ended, run.outcome) = (Some(not_before(at)), "success".to_owned()),
        (None, None, Some(state)) => {
            (run.ended, run.outcome) = (here(&project.since).map(not_before).or(run.began), state.to_owned());
        }
        // Nobody knows any more.
        (None, None, None) => (run.ended, run.outcome) = (Some(run.began()), "unknown".to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::followed::followed;
    use super::*;
    use crate::chain::facts::{Success, Upstream};
    use crate::page::graph::diamond;
    use crate::store::StartRow;

    /// A second, in the middle of a day.
    fn second(number: i64) -> Time {
        1_767_268_800_000 + number * 1000
    }

    /// A start at the second of its pipeline's number, for successes of projects at the seconds of theirs.
    pub(in super::super) fn start(project: i64, pipeline: i64, causes: &[(i64, i64)]) -> StartRow {
        let causes = causes.iter().map(|(of, id)| (Upstream::Project(*of), Success { id: *id, at: second(*id) }));
        StartRow {
            at: second(pipeline),
            project,
            path: String::new(),
            reason: "something succeeded".into(),
            causes: Some(causes.collect()),
            outcome: "started".into(),
            pending: false,
            pipeline: Some(pipeline),
        }
    }

    fn event(at: i64, pipeline: i64, status: &str) -> PipelineEvent {
        PipelineEvent { pipeline, received_at: second(at), status: status.into() }
    }

    fn bars(rebuild: &Rebuild) -> Vec<(i64, &str)> {
        rebuild.bars.iter().map(|bar| (bar.pipeline, bar.outcome.as_str())).collect()
    }

    /// base's pipeline 11 to app's 14.
    fn starts() -> [StartRow; 3] {
        [start(4, 14, &[(2, 12), (3, 13)]), start(3, 13, &[(1, 11)]), start(2, 12, &[(1, 11)])]
    }

    fn events() -> Vec<PipelineEvent> {
        vec![event(5, 11, "running"), event(11, 11, "success"), event(13, 12, "success"), event(17, 13, "success")]
    }

    /// The diamond while app's pipeline 14 runs.
    fn status() -> ChainStatus {
        let mut status = diamond();
        (status.projects[3].pipeline, status.projects[3].pipeline_state) = (Some(14), Some("running".into()));
        status
    }

    #[test]
    fn a_rebuild_is_its_pipelines_in_their_order_and_the_slow_one() {
        let found = rebuild(&status(), &followed(&starts()), &events(), 0).expect("a rebuild");
        assert_eq!(bars(&found), [(11, "success"), (12, "success"), (13, "success"), (14, "running")]);
        assert_eq!((found.began.as_str(), found.ended.as_deref()), ("2026-01-01T12:00:05Z", None));
        assert_eq!(found.bars[1].url.as_deref(), Some("https://gitlab.example.com/images/ruby/-/pipelines/12"));
        assert_eq!(found.slowest.map(|bar| bar.pipeline), Some(11));
    }

    #[test]
    fn a_clock_of_gitlabs_that_is_wrong_costs_no_link_and_no_time() {
        for ahead in [-3_600_000, -20_000, 20_000, 3_600_000] {
            let mut starts = starts();
            for start in &mut starts {
                for success in start.causes.iter_mut().flat_map(BTreeMap::values_mut) {
                    success.at += ahead;
                }
            }
            // Nothing was heard of ruby's and app's ends.
            let mut status = status();
            let app = &mut status.projects[3];
            (app.pipeline_state, app.success) = (Some("success".into()), Some(14));
            app.success_at = Some(date(second(30) + ahead));
            let events = [event(5, 11, "running"), event(11, 11, "success"), event(17, 13, "success")];
            let found = rebuild(&status, &followed(&starts), &events, ahead).expect("a rebuild");
            assert_eq!(bars(&found), [(11, "success"), (12, "success"), (13, "success"), (14, "success")]);
            let times = (found.began.as_str(), found.ended.as_deref());
            assert_eq!(times, ("2026-01-01T12:00:05Z", Some("2026-01-01T12:00:30Z")), "{ahead}");
        }
    }

    #[test]
    fn a_thousand_projects_on_one_base_are_one_rebuild_that_runs_while_any_of_them_does() {
        let like = diamond().projects[2].clone();
        let mut status = ChainStatus::default();
        status.projects.extend((1..=1001).map(|id| ProjectLine {
            id,
            path: format!("images/p{id:04}"),
            ..like.clone()
        }));
        let last = status.projects.last_mut().expect("many");
        (last.pipeline, last.pipeline_state) = (Some(2001), Some("running".into()));
        let starts: Vec<StartRow> = (2..=1001).rev().map(|id| start(id, id + 1000, &[(1, 1001)])).collect();
        let mut events: Vec<PipelineEvent> = (2..1001).map(|id| event(id + 1005, id + 1000, "success")).collect();
        let found = rebuild(&status, &followed(&starts), &events, 0).expect("a rebuild");
        assert_eq!((found.pipelines, found.bars.len(), found.ended.as_deref()), (1001, BARS_MAX, None));
        assert_eq!((found.bars[0].pipeline, found.bars[BARS_MAX - 1].pipeline), (1001, 2001), "what runs is told");
        // It fails, and took longest.
        events.push(event(5000, 2001, "failed"));
        let found = rebuild(&status, &followed(&starts), &events, 0).expect("a rebuild");
        assert_eq!((found.ended, found.slowest.map(|bar| bar.pipeline)), (Some(date(second(5000))), Some(2001)));
        assert_eq!(found.bars.last().map(|bar| bar.outcome.as_str()), Some("failed"));
        // It succeeds in the end, and is still the one that everybody waited for.
        events.push(event(6000, 2001, "success"));
        let found = rebuild(&status, &followed(&starts), &events, 0).expect("a rebuild");
        assert_eq!(found.bars.last().map(|bar| (bar.pipeline, bar.outcome.as_str())), Some((2001, "success")));
    }

    #[test]
    fn a_pipeline_whose_last_events_got_lost_is_as_gitlab_says() {
        let mut status = diamond();
        let ruby = &mut status.projects[1];
        (ruby.pipeline, ruby.pipeline_state, ruby.state) = (Some(12), Some("success".into()), "waits".into());
        (ruby.success, ruby.success_at) = (Some(12), Some(date(second(90))));
        let starts = [start(2, 12, &[(1, 11)])];
        let found = rebuild(&status, &followed(&starts), &[event(50, 12, "failed")], 0).expect("a rebuild");
        assert_eq!(bars(&found), [(11, "success"), (12, "success")]);
        assert_eq!(found.bars[1].ended, Some(date(second(90))));
        // One that runs while something newer has come is not over.
        status.projects[1].pipeline_state = Some("running".into());
        status.projects[1].success = None;
        let found = rebuild(&status, &followed(&starts), &[], 0).expect("a rebuild");
        assert_eq!((bars(&found)[1], found.ended.clone()), ((12, "running"), None));
        // One that another has followed, and of which nobody has heard.
        status.projects[1].pipeline = Some(99);
        let found = rebuild(&status, &followed(&starts), &[], 0).expect("a rebuild");
        assert_eq!((bars(&found)[1], found.ended.clone()), ((12, "unknown"), Some(date(second(12)))));
    }

    #[test]
    fn a_chain_that_has_started_nothing_has_no_rebuild() {
        assert_eq!(rebuild(&diamond(), &followed(&[]), &[event(1, 1, "success")], 0), None);
    }
}
