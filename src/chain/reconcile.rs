//! From facts to decisions: what is fresh, what waits for what, and which pipelines have to be started now.
//!
//! The wished state: every project's latest pipeline was created after the latest success of everything that it builds on. A pass says what
//! is missing; it knows nothing of the passes before it, so nothing that was lost on the way can make it wrong.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Serialize;

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

/// The projects as numbers, and how they depend on each other.
struct Graph<'a> {
    ids: Vec<ProjectId>,
    projects: Vec<&'a Project>,
    /// By project, those that it builds on; without pinned ones, and without those that nobody knows.
    upstreams: Vec<Vec<usize>>,
    /// Every project behind all that it builds on, as far as that is possible.
    order: Vec<usize>,
    /// For each that builds on itself, the way.
    cycles: Vec<Option<Vec<usize>>>,
}

impl<'a> Graph<'a> {
    fn of(facts: &'a Facts) -> Self {
        let ids: Vec<ProjectId> = facts.projects.keys().copied().collect();
        let projects: Vec<&Project> = facts.projects.values().collect();
        let numbers: HashMap<ProjectId, usize> = ids.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        let upstreams: Vec<Vec<usize>> = projects
            .iter()
            .map(|project| {
                let edges = project.edges.iter().filter(|edge| !edge.pinned);
                let known = edges.filter_map(|edge| match &edge.upstream {
                    Upstream::Project(id) => numbers.get(id).copied(),
                    Upstream::Image(_) => None,
                });
                known.collect()
            })
            .collect();
        let (order, left) = order(&upstreams);
        let mut graph = Self { cycles: vec![None; ids.len()], ids, projects, upstreams, order };
        // What is left is on a cycle, or behind one.
        for &node in &left {
            graph.cycles[node] = graph.way_to_itself(node);
        }
        let free = left.iter().filter(|node| graph.cycles[**node].is_none()).count();
        if free > 0 {
            // Without the edges into cycles, the rest has an order.
            let mut without = graph.upstreams.clone();
            for (node, upstreams) in without.iter_mut().enumerate() {
                if graph.cycles[node].is_some() {
                    upstreams.clear();
                }
            }
            graph.order = self::order(&without).0;
        } else {
            graph.order.extend(left);
        }
        graph
    }

    fn verdicts_of<'b>(&self, node: usize, verdicts: &'b [Verdict]) -> impl Iterator<Item = (ProjectId, &'b Verdict)> {
        self.upstreams[node].iter().map(|upstream| (self.ids[*upstream], &verdicts[*upstream]))
    }

    /// The nearest that is in the way: one that failed itself before one that is blocked. `needs` says whether what has never been built
    /// is in the way.
    fn blocker(&self, node: usize, verdicts: &[Verdict], needs: bool) -> Option<ProjectId> {
        let broken = self.verdicts_of(node, verdicts).filter_map(|(id, verdict)| match verdict {
            Verdict::Broken(by) => Some((*by != id, *by)),
            Verdict::Missing(by) if needs => Some((*by != id, *by)),
            _ => None,
        });
        broken.min().map(|(_, by)| by)
    }

    /// Those that are on their way.
    fn not_yet(&self, node: usize, verdicts: &[Verdict]) -> Vec<ProjectId> {
        self.verdicts_of(node, verdicts).filter(|(_, verdict)| **verdict == Verdict::NotYet).map(|(id, _)| id).collect()
    }

    /// The shortest way from a project over what it builds on back to itself.
    fn way_to_itself(&self, from: usize) -> Option<Vec<usize>> {
        let mut before: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for &upstream in &self.upstreams[node] {
                if upstream == from {
                    let mut path = vec![from, node];
                    let mut at = node;
                    while at != from {
                        at = *before.get(&at)?;
                        path.push(at);
                    }
                    path.dedup();
                    path.reverse();
                    if path.len() == 1 {
                        path.push(from);
                    }
                    return Some(path);
                }
                if upstream != from && !before.contains_key(&upstream) {
                    before.insert(upstream, node);
                    queue.push_back(upstream);
                }
            }
        }
        None
    }
}

/// An order in which each comes behind all that it builds on; and those for which there is none.
fn order(upstreams: &[Vec<usize>]) -> (Vec<usize>, Vec<usize>) {
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); upstreams.len()];
    let mut missing: Vec<usize> = upstreams.iter().map(Vec::len).collect();
    for (node, of_node) in upstreams.iter().enumerate() {
        for &upstream in of_node {
            dependents[upstream].push(node);
        }
    }
    let mut ready: VecDeque<usize> = (0..upstreams.len()).filter(|node| missing[*node] == 0).collect();
    let mut order = Vec::with_capacity(upstreams.len());
    while let Some(node) = ready.pop_front() {
        order.push(node);
        for &dependent in &dependents[node] {
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                ready.push_back(dependent);
            }
        }
    }
    let left = (0..upstreams.len()).filter(|node| missing[*node] > 0).collect();
    (order, left)
}

#[cfg(test)]
mod tests;
