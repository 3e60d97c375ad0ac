//! What people are told of the chain.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::Controller;
use super::state::State;
use crate::chain::facts::{ProjectId, Time, Upstream};
use crate::chain::reconcile::{self, Decision, Hold};
use crate::chain::words;
use crate::protocol::chain::{BaseLine, ChainStatus, EdgeLine, PlanRow, ProjectLine};

/// Most blockers that are named in a few words.
const BLOCKERS: usize = 3;

/// A state in one word.
pub(super) fn kind(state: &reconcile::State) -> &'static str {
    use reconcile::State as S;
    match state {
        S::Fresh => "fresh",
        S::Running => "running",
        S::Failed => "failed",
        S::Canceled => "canceled",
        S::Skipped => "skipped",
        S::Manual => "manual",
        S::NeverBuilt => "never-built",
        S::Waits { .. } => "waits",
        S::Blocked { .. } => "blocked",
        S::Due => "due",
        S::Starting => "starting",
        S::Settling => "settling",
        S::Held { .. } => "held",
        S::Paused => "paused",
        S::Refused { .. } => "refused",
        S::Retries { .. } => "retries",
        S::GaveUp { .. } => "gave-up",
        S::Cycle { .. } => "cycle",
    }
}

/// A state in words, with the others' names; the same as long as the state is.
pub(super) fn words_of(known: &State, state: &reconcile::State) -> String {
    use reconcile::State as S;
    let names = |ids: &[ProjectId], between: &str| {
        let names: Vec<String> = ids.iter().map(|id| known.path(*id)).collect();
        names.join(between)
    };
    match state {
        S::Fresh => "fresh".to_owned(),
        S::Running => "running".to_owned(),
        S::Failed => "failed".to_owned(),
        S::Canceled => "canceled".to_owned(),
        S::Skipped => "skipped: its last pipeline ran nothing".to_owned(),
        S::Manual => "waits for somebody to start a manual job".to_owned(),
        S::NeverBuilt => "has no pipeline yet".to_owned(),
        S::Waits { on } => format!("waits for {}", names(on, ", ")),
        S::Blocked { by } => format!("blocked by {}", known.path(*by)),
        S::Due => "due".to_owned(),
        S::Starting => "starting".to_owned(),
        S::Settling => "due, as soon as nothing newer has come for a while".to_owned(),
        S::Held { .. } => "due, and held back".to_owned(),
        S::Paused => "due, and paused".to_owned(),
        S::Refused { reason } => format!("due, and GitLab refuses: {reason}"),
        S::Retries { reason } => format!("due, and will be tried again: {reason}"),
        S::GaveUp { reason } => format!("due, and given up after several attempts: {reason}"),
        S::Cycle { path } => format!("builds on itself: {}", names(path, " -> ")),
    }
}

/// A state for people: with why a project is held back, which may change while it is. `quiet` says why nothing is started at all.
pub(super) fn told(known: &State, state: &reconcile::State, quiet: Option<&str>) -> String {
    let words = words_of(known, state);
    match (state, quiet) {
        (reconcile::State::Held { why: Hold::Quiet }, Some(quiet)) => format!("{words}: {quiet}"),
        (reconcile::State::Held { why: Hold::Enough { running, most, before } }, _) => {
            format!("{words}: {}", enough(*running, *most, *before))
        }
        _ => words,
    }
}

fn enough(running: usize, most: usize, before: usize) -> String {
    let runs = if most == 1 { "pipeline runs" } else { "pipelines run" };
    let before = match before {
        0 => String::new(),
        1 => ", and 1 is before it".to_owned(),
        _ => format!(", and {before} are before it"),
    };
    format!("{running} of {most} {runs} (max_running){before}")
}

/// Because of what a project is to be built, by name.
fn because(known: &State, decision: &Decision) -> Vec<String> {
    let asked = decision.asked.then(|| "somebody asked for it".to_owned());
    decision.because.iter().map(|upstream| name(known, upstream)).chain(asked).collect()
}

/// The same in a sentence.
pub(super) fn reason(known: &State, decision: &Decision) -> String {
    let (images, projects): (Vec<&Upstream>, Vec<&Upstream>) =
        decision.because.iter().partition(|upstream| matches!(upstream, Upstream::Image(_)));
    let names = |upstreams: &[&Upstream], what: &str| {
        let names: Vec<String> = upstreams.iter().map(|upstream| name(known, upstream)).collect();
        (!names.is_empty()).then(|| format!("{} {what}", names.join(", ")))
    };
    let asked = (decision.asked || decision.because.is_empty()).then(|| "somebody asked for it".to_owned());
    let reasons = [asked, names(&projects, "succeeded"), names(&images, "moved")];
    reasons.into_iter().flatten().collect::<Vec<String>>().join(", and ")
}

fn name(known: &State, upstream: &Upstream) -> String {
    match upstream {
        Upstream::Project(id) => known.path(*id),
        Upstream::Image(image) => image.clone(),
    }
}

/// What an image was built on, in one word.
pub(super) fn base_word(on_new: Option<bool>) -> &'static str {
    match on_new {
        Some(true) => "new",
        Some(false) => "old",
        None => "unknown",
    }
}

/// A time, for people and programs.
pub(super) fn rfc3339(time: Time) -> String {
    let since = Duration::from_millis(u64::try_from(time).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// What is wrong with the chain as a whole.
fn troubles(state: &State) -> Vec<String> {
    let mut problems = state.last_sync.problems.clone();
    problems.extend(state.trouble.iter().cloned());
    problems.extend(state.image_troubles());
    if let Some(why) = &state.last_sync.rest_alone {
        problems.push(format!("without GraphQL each look costs requests for each project: {why}"));
    }
    problems
}

impl Controller {
    /// What is wrong with the chain as a whole.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        troubles(&self.state())
    }

    /// The whole chain.
    #[must_use]
    pub fn status(&self) -> ChainStatus {
        let plan = self.decide();
        let (held, quiet) = (self.held(), self.quiet());
        let state = self.state();
        let mut projects: Vec<ProjectLine> =
            plan.decisions.iter().filter_map(|(id, decision)| self.line(&state, *id, decision, quiet)).collect();
        projects.sort_by(|one, other| one.path.cmp(&other.path));
        let problems = troubles(&state);
        ChainStatus {
            gitlab: self.gitlab.url().to_string(),
            held,
            looked_at: state.last_sync.began.map(rfc3339),
            took_ms: state.last_sync.took,
            looking: state.last_sync.running,
            problems,
            projects,
        }
    }

    /// Why nothing is started now, whatever is due.
    pub(super) fn held(&self) -> Option<String> {
        let quiet = self.quiet().map(str::to_owned);
        quiet.or_else(|| self.settings.dry_run.then(|| "dry_run is set in [chain]".to_owned()))
    }

    fn line(&self, state: &State, id: ProjectId, decision: &Decision, quiet: Option<&str>) -> Option<ProjectLine> {
        let (about, facts) = (state.about.get(&id)?, state.facts.projects.get(&id)?);
        let upstreams = facts.edges.iter().map(|edge| EdgeLine {
            name: name(state, &edge.upstream),
            project: match edge.upstream {
                Upstream::Project(id) => Some(id),
                Upstream::Image(_) => None,
            },
            pinned: edge.pinned,
            moved_at: match &edge.upstream {
                Upstream::Image(image) => state.looks.get(image).and_then(|look| look.moves.last).map(rfc3339),
                Upstream::Project(_) => None,
            },
        });
        let base = state.built.get(&id).map(|built| BaseLine {
            state: base_word(built.on_new).to_owned(),
            words: built.words.clone(),
            since: rfc3339(built.since),
        });
        let words = words_of(state, &decision.state);
        let hook = about.hook.problem.iter().map(|problem| format!("its webhook: {problem}"));
        Some(ProjectLine {
            id,
            path: about.path.clone(),
            web_url: about.web_url.clone(),
            reference: self.tracked(about).map(str::to_owned),
            state: kind(&decision.state).to_owned(),
            because: because(state, decision),
            // What has changed since the last pass has changed now.
            since: rfc3339(if words == about.state { about.state_since } else { self.gitlab.now() }),
            words: told(state, &decision.state, quiet),
            pipeline: facts.latest.map(|latest| latest.id),
            pipeline_state: facts.latest.map(|latest| words::word(latest.status).to_owned()),
            success: facts.success.map(|success| success.id),
            success_at: facts.success.map(|success| rfc3339(success.at)),
            upstreams: upstreams.collect(),
            paused: facts.paused,
            problems: about.problems.iter().cloned().chain(hook).collect(),
            findings: about.findings.clone(),
            base,
        })
    }

    /// What a pass would do now, of all that is not fresh.
    pub(super) fn plan(&self) -> Vec<PlanRow> {
        let (plan, quiet) = (self.decide(), self.quiet());
        let state = self.state();
        let row = |id: &ProjectId, decision: &Decision, step: &str| PlanRow {
            path: state.path(*id),
            step: step.to_owned(),
            words: if step == "start" { reason(&state, decision) } else { told(&state, &decision.state, quiet) },
            because: because(&state, decision),
        };
        // What is started comes first, in the order in which it is.
        let starts = plan.triggers.iter().filter_map(|(id, _)| Some(row(id, plan.decisions.get(id)?, "start")));
        let others = plan.decisions.iter().filter(|(_, decision)| {
            !matches!(
                decision.state,
                reconcile::State::Fresh
                    | reconcile::State::Due
                    | reconcile::State::Running
                    | reconcile::State::NeverBuilt
            )
        });
        starts.chain(others.map(|(id, decision)| row(id, decision, kind(&decision.state)))).collect()
    }

    /// How many projects are in each state.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, i64> {
        let mut counts = BTreeMap::new();
        for decision in self.decide().decisions.values() {
            *counts.entry(kind(&decision.state)).or_default() += 1;
        }
        counts
    }

    /// Whether GitLab answered when it was asked last; none: it was not asked yet.
    #[must_use]
    pub fn gitlab_answers(&self) -> Option<bool> {
        self.gitlab.answers()
    }

    /// The chain in a few words, for a service manager's status line; none where all is fresh.
    #[must_use]
    pub fn in_short(&self) -> String {
        let plan = self.decide();
        let state = self.state();
        let count =
            |kinds: &[&str]| plan.decisions.values().filter(|decision| kinds.contains(&kind(&decision.state))).count();
        let mut words = vec![format!("{} running", count(&["running", "starting"]))];
        let due = count(&["due", "settling", "held", "waits", "paused", "retries"]);
        if due > 0 {
            words.push(format!("{due} due"));
        }
        let failed = count(&["failed", "canceled", "refused", "gave-up"]);
        if failed > 0 {
            words.push(format!("{failed} failed"));
        }
        let by = plan.decisions.values().filter_map(|decision| match decision.state {
            reconcile::State::Blocked { by } => Some(state.path(by)),
            _ => None,
        });
        words.extend(blocked_in_short(by));
        words.join(", ")
    }
}

/// How many are blocked and by whom, of the blockers' paths: who blocks most comes first, and of many the rest is counted.
fn blocked_in_short(by: impl Iterator<Item = String>) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    by.for_each(|path| *counts.entry(path).or_default() += 1);
    let blocked: usize = counts.values().sum();
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match &counts[..] {
        [] => None,
        [(path, _)] => Some(format!("{blocked} blocked by {path}")),
        _ => {
            let named = counts.iter().take(BLOCKERS).map(|(path, count)| format!("{count} by {path}"));
            let rest: usize = counts.iter().skip(BLOCKERS).map(|(_, count)| count).sum();
            let rest = (rest > 0).then(|| format!("{rest} by others"));
            Some(format!("{blocked} blocked ({})", named.chain(rest).collect::<Vec<String>>().join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_back_is_told_why_and_how_many_are_before_it() {
        let known = State::default();
        let of = |why, quiet| told(&known, &reconcile::State::Held { why }, quiet);
        let enough = |running, most, before| Hold::Enough { running, most, before };
        let paused = Some("the chain is paused");
        assert_eq!(of(Hold::Quiet, paused), "due, and held back: the chain is paused");
        assert_eq!(
            of(enough(4, 4, 6), None),
            "due, and held back: 4 of 4 pipelines run (max_running), and 6 are before it"
        );
        assert_eq!(
            of(enough(4, 4, 1), None),
            "due, and held back: 4 of 4 pipelines run (max_running), and 1 is before it"
        );
        assert_eq!(of(enough(1, 1, 0), None), "due, and held back: 1 of 1 pipeline runs (max_running)");
        // Since when it has been held back does not change with how many are before it.
        let stable = |before| words_of(&known, &reconcile::State::Held { why: enough(4, 4, before) });
        assert_eq!(stable(6), stable(5));
    }

    #[test]
    fn each_blocker_is_named_for_as_many_as_it_blocks() {
        let short = |by: &[&str]| blocked_in_short(by.iter().map(|path| format!("images/{path}")));
        assert_eq!(short(&[]), None);
        assert_eq!(short(&["ruby", "ruby"]).as_deref(), Some("2 blocked by images/ruby"));
        let two = short(&["go", "ruby", "ruby"]);
        assert_eq!(two.as_deref(), Some("3 blocked (2 by images/ruby, 1 by images/go)"));
        let many = short(&["a", "b", "c", "d", "d", "e"]);
        assert_eq!(many.as_deref(), Some("6 blocked (2 by images/d, 1 by images/a, 1 by images/b, 2 by others)"));
    }
}
