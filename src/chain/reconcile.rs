//! From facts to decisions: what is fresh, what waits for what, and which pipelines have to be started now.
//!
//! The wished state: every project's latest pipeline was created after the latest success of everything that it builds on. A pass says what
//! is missing; it knows nothing of the passes before it, so nothing that was lost on the way can make it wrong.

mod graph;

use std::collections::BTreeMap;

use serde::Serialize;

use graph::Graph;

use super::facts::{Facts, Inputs, Outcome, Project, ProjectId, Status, Success, Time, Upstream};

/// After so many attempts at the same inputs that did not work, nothing is tried until something changes.
pub const TRIES_MAX: u32 = 3;
/// Pause after the first attempt that did not work, in milliseconds; after the second it is twice as long.
const PAUSE: Time = 60_000;

/// What bounds the triggers of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Now, by GitLab's clock.
    pub now: Time,
    /// How many pipelines that the chain has started may run at once.
    pub max_running: usize,
    /// How old a success has to be: several that come together make one rebuild. In milliseconds.
    pub settle: Time,
    /// Whether anything may be started at all.
    pub quiet: bool,
}

/// The state of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// Its latest pipeline succeeded and has all that there is.
    Fresh,
    /// Its latest pipeline runs, and has all that there is.
    Running,
    /// Its latest pipeline failed; a retry that succeeds, or something newer to build on, makes it go on.
    Failed,
    /// Its latest pipeline was canceled.
    Canceled,
    /// Its latest pipeline ran nothing.
    Skipped,
    /// Its latest pipeline waits for somebody to start a job.
    Manual,
    /// It has no pipeline, and nothing has happened since it is known that would make one.
    NeverBuilt,
    /// It is due, or will be, and what it builds on is not ready.
    Waits {
        /// For whom.
        on: Vec<ProjectId>,
    },
    /// It is due, or would be, and what it builds on will not be ready by itself.
    Blocked {
        /// The nearest that failed.
        by: ProjectId,
    },
    /// Its pipeline is to be started now.
    Due,
    /// Its pipeline is being started.
    Starting,
    /// It is due, and newer things to build on may follow at once.
    Settling,
    /// It is due, and held back.
    Held {
        /// Why.
        why: Hold,
    },
    /// It is due, and somebody has paused it.
    Paused,
    /// It is due, and GitLab will not start its pipeline: in its words.
    Refused {
        /// Why.
        reason: String,
    },
    /// It is due, and starting its pipeline did not work; it will be tried again.
    Retries {
        /// Why, the last time.
        reason: String,
    },
    /// It is due, and starting its pipeline did not work several times.
    GaveUp {
        /// Why, the last time.
        reason: String,
    },
    /// It builds on itself, by way of these; the chain leaves it alone.
    Cycle {
        /// The way, from itself to itself.
        path: Vec<ProjectId>,
    },
}

/// Why a project that is due is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "hold")]
pub enum Hold {
    /// Nothing may be started at all.
    Quiet,
    /// As many pipelines that the chain has started run as may, or will with those that are started first.
    Enough {
        /// How many run.
        running: usize,
        /// How many may.
        most: usize,
        /// How many that are due come first.
        before: usize,
    },
}

/// What is decided about a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Its state.
    #[serde(flatten)]
    pub state: State,
    /// What it has not been built with yet.
    pub because: Vec<Upstream>,
    /// Whether somebody has asked for it.
    pub asked: bool,
}

/// A pass's result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// By project.
    pub decisions: BTreeMap<ProjectId, Decision>,
    /// The pipelines to start, in this order, and for what.
    pub triggers: Vec<(ProjectId, Inputs)>,
}

/// Decides about everything.
#[must_use]
pub fn decide(facts: &Facts, limits: &Limits) -> Plan {
    let graph = Graph::of(facts);
    let mut plan = Plan::default();
    let mut due: Vec<(Time, usize)> = Vec::new();
    let mut verdicts: Vec<Verdict> = vec![Verdict::Ready; graph.ids.len()];
    let mut decided: Vec<Option<Decision>> = vec![None; graph.ids.len()];
    for &node in &graph.order {
        let project = graph.projects[node];
        let newest = facts.news(project);
        let asked = project.is_wanted();
        let because: Vec<Upstream> = newest.iter().map(|(upstream, _)| upstream.clone()).collect();
        let state = match &graph.cycles[node] {
            Some(path) => State::Cycle { path: path.iter().map(|at| graph.ids[*at]).collect() },
            None if newest.is_empty() && !asked => unless_pending(of_latest(project), &graph, node, &verdicts),
            None => stale(&graph, node, &verdicts, &inputs(facts, project), &newest, limits),
        };
        verdicts[node] = verdict(&state, graph.ids[node], project);
        if state == State::Due {
            due.push((newest.iter().map(|(_, success)| success.at).min().unwrap_or(0), node));
        }
        decided[node] = Some(Decision { state, because, asked });
    }
    let running = graph.projects.iter().filter(|project| is_under_way(project)).count();
    // Who waits longest comes first.
    due.sort_unstable();
    for (place, (_, node)) in due.into_iter().enumerate() {
        let why = match () {
            () if limits.quiet => Hold::Quiet,
            () if running + place >= limits.max_running => {
                Hold::Enough { running, most: limits.max_running, before: place }
            }
            () => {
                plan.triggers.push((graph.ids[node], inputs(facts, graph.projects[node])));
                continue;
            }
        };
        if let Some(decision) = &mut decided[node] {
            decision.state = State::Held { why };
        }
    }
    for (node, decision) in decided.into_iter().enumerate() {
        plan.decisions.extend(decision.map(|decision| (graph.ids[node], decision)));
    }
    plan
}

/// What a project's dependents make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// They may build on it.
    Ready,
    /// They wait for it.
    NotYet,
    /// They wait for somebody to mend this project.
    Broken(ProjectId),
    /// There is nothing of it, and nothing is coming: who needs it can't be built, who has been built goes on.
    Missing(ProjectId),
}

fn verdict(state: &State, id: ProjectId, project: &Project) -> Verdict {
    match state {
        State::Fresh => Verdict::Ready,
        State::Running
        | State::Waits { .. }
        | State::Due
        | State::Starting
        | State::Settling
        | State::Held { .. }
        | State::Retries { .. } => Verdict::NotYet,
        State::Blocked { by } => Verdict::Broken(*by),
        State::NeverBuilt => Verdict::Missing(id),
        State::Failed
        | State::Canceled
        | State::Skipped
        | State::Manual
        | State::Paused
        | State::Refused { .. }
        | State::GaveUp { .. } => Verdict::Broken(id),
        // As if it built on nothing.
        State::Cycle { .. } => match project.latest.map(|latest| latest.status) {
            Some(Status::Success) => Verdict::Ready,
            Some(Status::Running) => Verdict::NotYet,
            None => Verdict::Missing(id),
            _ => Verdict::Broken(id),
        },
    }
}

fn of_latest(project: &Project) -> State {
    match project.latest.map(|latest| latest.status) {
        None => State::NeverBuilt,
        Some(Status::Running) => State::Running,
        Some(Status::Success) => State::Fresh,
        Some(Status::Failed) => State::Failed,
        Some(Status::Canceled) => State::Canceled,
        Some(Status::Skipped) => State::Skipped,
        Some(Status::Manual) => State::Manual,
    }
}

/// Whether a pipeline that the chain has started runs, or is being started.
fn is_under_way(project: &Project) -> bool {
    let is_pending = project.attempt.as_ref().is_some_and(|attempt| attempt.outcome == Outcome::Pending);
    let runs = project.latest.is_some_and(|latest| latest.status == Status::Running);
    is_pending || (runs && project.inputs_of_latest().is_some())
}

/// All that a pipeline of this project would be built with now.
fn inputs(facts: &Facts, project: &Project) -> Inputs {
    let edges = project.edges.iter().filter(|edge| !edge.pinned);
    edges.filter_map(|edge| Some((edge.upstream.clone(), facts.success_of(&edge.upstream)?))).collect()
}

/// A project that has all that there is: fresh, unless something is on its way that it will have to be built with. Who builds on it waits
/// for that too, and is built once.
fn unless_pending(own: State, graph: &Graph<'_>, node: usize, verdicts: &[Verdict]) -> State {
    if own != State::Fresh {
        return own;
    }
    if let Some(by) = graph.blocker(node, verdicts, false) {
        return State::Blocked { by };
    }
    let on = graph.not_yet(node, verdicts);
    if on.is_empty() { State::Fresh } else { State::Waits { on } }
}

fn stale(
    graph: &Graph<'_>,
    node: usize,
    verdicts: &[Verdict],
    inputs: &Inputs,
    news: &[(Upstream, Success)],
    limits: &Limits,
) -> State {
    let project = graph.projects[node];
    if let Some(attempt) = &project.attempt {
        match &attempt.outcome {
            Outcome::Pending => return State::Starting,
            Outcome::Refused(reason) if attempt.inputs == *inputs => return State::Refused { reason: reason.clone() },
            Outcome::Failed(reason) if attempt.inputs == *inputs && attempt.tries >= TRIES_MAX => {
                return State::GaveUp { reason: reason.clone() };
            }
            Outcome::Failed(reason)
                if attempt.inputs == *inputs && limits.now < attempt.at + PAUSE * Time::from(attempt.tries) =>
            {
                return State::Retries { reason: reason.clone() };
            }
            _ => {}
        }
    }
    if let Some(by) = graph.blocker(node, verdicts, true) {
        return State::Blocked { by };
    }
    let on = graph.not_yet(node, verdicts);
    if !on.is_empty() {
        return State::Waits { on };
    }
    if project.paused {
        return State::Paused;
    }
    if news.iter().any(|(_, success)| success.at > limits.now - limits.settle) {
        return State::Settling;
    }
    State::Due
}

#[cfg(test)]
mod tests;
