//! The chain under random lives: a GitLab that people use and that fails, events that get lost, and a service that crashes at any point. All
//! of it comes of one number, so whatever goes wrong can be seen again: `WINDLASS_SEED=N cargo test simulation`.
//!
//! `WINDLASS_SEEDS=N` says how many lives; scripts/simulate.sh runs ten thousand.

mod chance;

use std::collections::{BTreeMap, BTreeSet};

use chance::Chance;

use super::facts::{Facts, Inputs, Outcome, Pipeline, ProjectId, Status, Success, Time, Upstream};
use super::reconcile::{Limits, State, decide};

/// A pipeline as it really is.
#[derive(Debug, Clone)]
struct Real {
    id: i64,
    project: usize,
    status: Status,
    created_at: Time,
    finished_at: Option<Time>,
    ends_at: Time,
    /// For what the chain has started it; none: people did.
    inputs: Option<Inputs>,
}

/// Images that no project builds.
const IMAGES: usize = 3;

/// GitLab, and the registry of others' images.
#[derive(Debug, Default)]
struct Gitlab {
    now: Time,
    pipelines: Vec<Real>,
    edges: Vec<BTreeSet<usize>>,
    /// The images that each builds on and nobody here builds, and how often each of them has moved.
    on_images: Vec<BTreeSet<usize>>,
    images: [i64; IMAGES],
    /// Projects whose rules refuse what the chain starts.
    refuses: BTreeSet<usize>,
    /// How many of a hundred pipelines fail.
    failing: usize,
}

impl Gitlab {
    fn create(&mut self, project: usize, inputs: Option<Inputs>, chance: &mut Chance) -> i64 {
        let id = i64::try_from(self.pipelines.len()).expect("few") + 1;
        let ends_at = self.now + 1000 + i64::try_from(chance.below(120_000)).expect("small");
        let status = Status::Running;
        self.pipelines.push(Real { id, project, status, created_at: self.now, finished_at: None, ends_at, inputs });
        id
    }

    /// Lets time pass; returns the projects of which GitLab sends events.
    fn pass(&mut self, time: Time, chance: &mut Chance) -> Vec<usize> {
        self.now += time;
        let mut events = Vec::new();
        for pipeline in self.pipelines.iter_mut().filter(|pipeline| pipeline.status == Status::Running) {
            if pipeline.ends_at <= self.now {
                let failed = chance.percent(self.failing);
                pipeline.status = if failed { Status::Failed } else { Status::Success };
                pipeline.finished_at = Some(pipeline.ends_at);
                events.push(pipeline.project);
            }
        }
        events
    }

    fn latest(&self, project: usize) -> Option<&Real> {
        self.pipelines.iter().rev().find(|pipeline| pipeline.project == project)
    }

    fn success(&self, project: usize) -> Option<Success> {
        let of_project = |pipeline: &&Real| pipeline.project == project && pipeline.status == Status::Success;
        let found = self.pipelines.iter().rev().find(of_project)?;
        Some(Success { id: found.id, at: found.finished_at.expect("it has ended") })
    }

    /// Somebody does something.
    fn somebody(&mut self, chance: &mut Chance) -> Option<usize> {
        let project = chance.below(self.edges.len());
        let now = self.now;
        match chance.below(10) {
            0..=4 => drop(self.create(project, None, chance)),
            5..=6 => {
                // Retries a job of what failed: the same pipeline runs again.
                let ends_at = now + 1000 + i64::try_from(chance.below(60_000)).expect("small");
                let again = self.pipelines.iter_mut().rev().find(|pipeline| pipeline.project == project)?;
                if !matches!(again.status, Status::Failed | Status::Canceled) {
                    return None;
                }
                (again.status, again.ends_at, again.finished_at) = (Status::Running, ends_at, None);
            }
            7 => {
                let latest = self.pipelines.iter_mut().rev().find(|pipeline| pipeline.project == project)?;
                if latest.status != Status::Running {
                    return None;
                }
                (latest.status, latest.finished_at) = (Status::Canceled, Some(now));
            }
            8 => {
                // A manual job is played after the success: it ends once more, later.
                let latest = self.pipelines.iter_mut().rev().find(|pipeline| pipeline.project == project)?;
                if latest.status == Status::Success {
                    latest.finished_at = Some(now);
                }
            }
            _ => {
                // Edges come and go; only upwards, so that there are no cycles.
                let upstream = chance.below(project.max(1));
                if project > 0 && !self.edges[project].remove(&upstream) {
                    self.edges[project].insert(upstream);
                }
            }
        }
        Some(project)
    }
}

/// The service: what is on record outlives it.
struct Service {
    facts: Facts,
    /// What each image stood for when it was looked up last, and the number of the last move, which are on record too.
    seen: [Option<i64>; IMAGES],
    moves: i64,
    /// Everything that the chain has ever started, by project.
    started: BTreeMap<usize, Vec<Inputs>>,
}

fn id(project: usize) -> ProjectId {
    ProjectId::try_from(project).expect("few")
}

fn name(image: usize) -> String {
    format!("registry.example.com/image-{image}:latest")
}

fn number(project: ProjectId) -> usize {
    usize::try_from(project).expect("few")
}

impl Service {
    /// Looks at one project's pipelines.
    fn look(&mut self, gitlab: &Gitlab, project: usize) {
        let latest = gitlab.latest(project);
        let latest = latest.map(|real| Pipeline { id: real.id, status: real.status, created_at: real.created_at });
        self.facts.observe(id(project), latest, gitlab.success(project));
    }

    /// Looks images up; some registries don't answer. What is seen for the first time has not moved.
    fn watch(&mut self, gitlab: &Gitlab, faults: usize, chance: &mut Chance) {
        for image in 0..IMAGES {
            let now = gitlab.images[image];
            if !chance.percent(faults) && self.seen[image] != Some(now) {
                self.seen[image] = Some(now);
                self.moves += 1;
                self.facts.observe_image(&name(image), Success { id: self.moves, at: gitlab.now });
            }
        }
    }

    /// Looks at everything; some looks fail.
    fn sync(&mut self, gitlab: &Gitlab, faults: usize, chance: &mut Chance) {
        self.watch(gitlab, faults, chance);
        for project in 0..gitlab.edges.len() {
            if !chance.percent(faults) {
                self.look(gitlab, project);
            }
            if !chance.percent(faults) {
                let found = gitlab.edges[project].iter().map(|upstream| (Upstream::Project(id(*upstream)), false));
                let images = gitlab.on_images[project].iter().map(|image| (Upstream::Image(name(*image)), false));
                self.facts.set_edges(id(project), found.chain(images));
            }
        }
        self.resolve(gitlab);
    }

    /// After a crash, or an answer that got lost: whether GitLab has made the pipeline is looked up before anything is sent again.
    fn resolve(&mut self, gitlab: &Gitlab) {
        let pending = self.facts.projects.iter().filter_map(|(project, known)| {
            let attempt = known.attempt.as_ref().filter(|attempt| attempt.outcome == Outcome::Pending)?;
            Some((*project, attempt.at))
        });
        for (project, since) in pending.collect::<Vec<_>>() {
            let made = gitlab.pipelines.iter().find(|pipeline| {
                pipeline.project == number(project) && pipeline.inputs.is_some() && pipeline.created_at >= since
            });
            let outcome = made.map_or(Outcome::Failed("never sent".into()), |made| Outcome::Created(made.id));
            self.facts.settle_attempt(project, outcome);
            self.look(gitlab, number(project));
        }
    }

    /// A pass, with everything that it starts; false when the service crashed in the middle of it.
    fn pass(&mut self, gitlab: &mut Gitlab, crashes: usize, faults: usize, chance: &mut Chance) -> bool {
        let limits = Limits { now: gitlab.now, max_running: 1 + chance.below(20), settle: 0, quiet: false };
        for (project, inputs) in decide(&self.facts, &limits).triggers {
            let at = number(project);
            self.check_trigger(gitlab, at, &inputs);
            // One second a request: attempts are told apart by their time.
            gitlab.now += 1000;
            assert!(self.facts.begin_attempt(project, inputs.clone(), gitlab.now));
            if chance.percent(crashes) {
                return false;
            }
            if gitlab.refuses.contains(&at) {
                self.facts.settle_attempt(project, Outcome::Refused("the rules made no jobs".into()));
                continue;
            }
            let reaches = !chance.percent(faults);
            if reaches {
                let wanted = self.facts.projects[&project].is_wanted();
                let made = self.started.entry(at).or_default();
                assert!(wanted || !made.contains(&inputs), "project {at} is built twice for {inputs:?}");
                made.push(inputs.clone());
                gitlab.create(at, Some(inputs), chance);
            }
            // GitLab did it, and its answer got lost; or the service is gone before it could note it.
            if !reaches || chance.percent(faults) || chance.percent(crashes) {
                return false;
            }
            let made = gitlab.latest(at).expect("just made").id;
            self.facts.settle_attempt(project, Outcome::Created(made));
            self.look(gitlab, at);
        }
        true
    }

    /// What is started has news, and everything that it builds on is built with all that there is, as far as the service knows.
    fn check_trigger(&self, gitlab: &Gitlab, project: usize, inputs: &Inputs) {
        let wanted = self.facts.projects[&id(project)].is_wanted();
        assert!(wanted || !self.facts.projects[&id(project)].edges.is_empty(), "project {project} builds on nothing");
        for edge in &self.facts.projects[&id(project)].edges {
            let Upstream::Project(upstream) = edge.upstream else { continue };
            let Some(known) = self.facts.projects.get(&upstream) else { continue };
            let latest = known.latest.expect("an upstream without a pipeline is not ready");
            assert_eq!(latest.status, Status::Success, "project {project} before {upstream}");
            let newest = self.facts.projects[&upstream].success;
            assert_eq!(inputs.get(&edge.upstream).copied(), newest, "project {project} with old {upstream}");
        }
        let known = &self.facts.projects[&id(project)];
        let is_news = known
            .edges
            .iter()
            .any(|edge| inputs.get(&edge.upstream).is_some_and(|success| edge.baseline.is_older_than(success)));
        assert!(wanted || is_news, "nothing has happened that concerns project {project}");
        // Each input is a success that GitLab knows.
        for (upstream, success) in inputs {
            if let Upstream::Image(image) = upstream {
                assert_eq!(self.facts.images[image], *success, "project {project} with an old {image}");
                continue;
            }
            let real = &gitlab.pipelines[usize::try_from(success.id - 1).expect("it is one")];
            assert_eq!(
                (Upstream::Project(id(real.project)), real.status == Status::Running),
                (upstream.clone(), false)
            );
        }
    }
}

fn live(seed: u64) {
    let chance = &mut Chance(seed);
    let count = if chance.percent(3) { 50 + chance.below(150) } else { 1 + chance.below(12) };
    let mut gitlab = Gitlab { now: 1_800_000_000_000, failing: [0, 10, 40][chance.below(3)], ..Gitlab::default() };
    for project in 0..count {
        let upstreams = if project == 0 { 0 } else { chance.below(4).min(project) };
        gitlab.edges.push((0..upstreams).map(|_| chance.below(project)).collect());
        gitlab.on_images.push((0..IMAGES).filter(|_| chance.percent(15)).collect());
        if chance.percent(5) {
            gitlab.refuses.insert(project);
        }
    }
    // A life before the chain, in any order.
    for _ in 0..count * 2 {
        let project = chance.below(count);
        gitlab.create(project, None, chance);
        let time = i64::try_from(chance.below(60_000)).expect("small");
        gitlab.pass(time, chance);
    }
    gitlab.pass(200_000, chance);
    let mut service = Service { facts: Facts::default(), seen: [None; IMAGES], moves: 0, started: BTreeMap::new() };
    // Turning it on starts nothing, however its first looks fail.
    for _ in 0..3 {
        service.sync(&gitlab, 30, chance);
        assert!(decide(&service.facts, &limits(&gitlab)).triggers.is_empty(), "turning it on starts pipelines");
    }
    service.sync(&gitlab, 0, chance);
    assert!(decide(&service.facts, &limits(&gitlab)).triggers.is_empty(), "turning it on starts pipelines");
    let (faults, crashes, losses) = (chance.below(20), chance.below(10), [0, 30, 100][chance.below(3)]);
    let mut late: Vec<usize> = Vec::new();
    for _ in 0..30 + chance.below(100) {
        let time = 1000 + i64::try_from(chance.below(90_000)).expect("small");
        let mut events = gitlab.pass(time, chance);
        if chance.percent(40) {
            events.extend(gitlab.somebody(chance));
        }
        if chance.percent(5) {
            gitlab.images[chance.below(IMAGES)] += 1;
        }
        if chance.percent(20) {
            service.watch(&gitlab, faults, chance);
        }
        // Events come late, twice, in any order, or never.
        for event in events {
            if !chance.percent(losses) {
                late.push(event);
                if chance.percent(20) {
                    late.push(event);
                }
            }
        }
        while !late.is_empty() && chance.percent(70) {
            let event = late.swap_remove(chance.below(late.len()));
            if !chance.percent(faults) {
                service.look(&gitlab, event);
            }
        }
        // An administrator wants a pipeline, with or without those above.
        if chance.percent(2) {
            service.facts.want(id(chance.below(count)), chance.percent(30));
        }
        if chance.percent(15) {
            service.sync(&gitlab, faults, chance);
        }
        if !service.pass(&mut gitlab, crashes, faults, chance) {
            // It comes back with what is on record, which is all of its facts, and nothing else.
            late.clear();
            service.resolve(&gitlab);
        }
    }
    // The faults stop, people stop: everything becomes fresh, or says honestly what is in its way.
    gitlab.failing = 0;
    for _ in 0..count * 4 + 20 {
        gitlab.pass(130_000, chance);
        service.sync(&gitlab, 0, chance);
        service.pass(&mut gitlab, 0, 0, chance);
    }
    settled(&service, &gitlab);
}

fn limits(gitlab: &Gitlab) -> Limits {
    Limits { now: gitlab.now, max_running: usize::MAX, settle: 0, quiet: false }
}

/// Nothing is left to do but what somebody has to mend.
fn settled(service: &Service, gitlab: &Gitlab) {
    let plan = decide(&service.facts, &limits(gitlab));
    for (project, decision) in &plan.decisions {
        let at = number(*project);
        let mended = |by: &ProjectId| !matches!(plan.decisions[by].state, State::Fresh);
        match &decision.state {
            State::Fresh => {
                // As GitLab has it: its latest pipeline was begun with the latest of all that it builds on.
                let latest = gitlab.latest(at).expect("it has one");
                assert_eq!(latest.status, Status::Success);
                for edge in &service.facts.projects[project].edges {
                    let success = service.facts.success_of(&edge.upstream);
                    let Some(success) = success.filter(|success| edge.baseline.is_older_than(success)) else {
                        continue;
                    };
                    let has = match latest.inputs.as_ref().and_then(|inputs| inputs.get(&edge.upstream)) {
                        Some(input) => input.id == success.id,
                        None => latest.created_at > success.at,
                    };
                    assert!(has, "project {at} is called fresh and lacks {success:?} of {:?}", edge.upstream);
                }
            }
            State::Blocked { by } => assert!(mended(by), "project {at} is blocked by {by}, which is fresh"),
            State::Failed | State::Canceled | State::NeverBuilt | State::GaveUp { .. } => {}
            State::Refused { .. } => assert!(gitlab.refuses.contains(&at)),
            other => panic!("project {at} never gets on: {other:?}"),
        }
    }
}

#[test]
fn random_lives() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("WINDLASS_SEED") {
        return live(seed);
    }
    let count = number("WINDLASS_SEEDS").unwrap_or(1000);
    for seed in 0..count {
        let lived = std::panic::catch_unwind(|| live(seed));
        assert!(lived.is_ok(), "seed {seed} fails; WINDLASS_SEED={seed} shows it again");
    }
}
