//! What is known of projects, their pipelines and what they build on.
//!
//! A pipeline's state is always what GitLab said last, never what an event said: events come late, twice, out of order or not at all, and
//! only make somebody look.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// GitLab's id of a project.
pub type ProjectId = i64;

/// Milliseconds since 1970, by GitLab's clock.
pub type Time = i64;

/// What a project builds on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upstream {
    /// Another project's image.
    Project(ProjectId),
    /// An image that no project builds, by its full name.
    Image(String),
}

/// A success: what was there to build on since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success {
    /// Which: the pipeline's id, or for an image a number that grows with each change of its digest.
    pub id: i64,
    /// When.
    pub at: Time,
}

impl Success {
    /// Whether it came after another one.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        self.id > other.id
    }
}

/// The state of a pipeline, as far as the chain cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not ended.
    Running,
    /// All of it succeeded.
    Success,
    /// It failed.
    Failed,
    /// Somebody canceled it.
    Canceled,
    /// Its rules let nothing run.
    Skipped,
    /// It waits for somebody to start a job.
    Manual,
}

/// A pipeline on a project's tracked ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipeline {
    /// GitLab's id: the later, the higher.
    pub id: i64,
    /// Its state.
    pub status: Status,
    /// When it was created.
    pub created_at: Time,
}

/// That a project builds on something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// On what.
    pub upstream: Upstream,
    /// Whether a digest says which: then it never moves, and nothing has to be rebuilt for it.
    pub pinned: bool,
    /// What there was of the upstream when the edge was found, which is no reason to rebuild anything.
    pub baseline: Baseline,
}

/// What there was of an upstream when an edge was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Baseline {
    /// Nobody had looked at it yet.
    Unseen,
    /// It had never succeeded.
    Nothing,
    /// This success.
    Success(Success),
}

impl Baseline {
    fn of(success: Option<Success>) -> Self {
        success.map_or(Self::Nothing, Self::Success)
    }

    /// Whether a success came after it.
    #[must_use]
    pub fn is_older_than(self, success: &Success) -> bool {
        match self {
            Self::Unseen => false,
            Self::Nothing => true,
            Self::Success(known) => success.is_newer_than(&known),
        }
    }
}

/// For which successes a pipeline was started.
pub type Inputs = BTreeMap<Upstream, Success>;

/// The chain's last attempt to start a pipeline of a project. It is on record before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// For what.
    pub inputs: Inputs,
    /// When it was put on record.
    pub at: Time,
    /// What came of it.
    pub outcome: Outcome,
    /// How often it was tried for the same inputs, this time included.
    pub tries: u32,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody knows yet whether GitLab has heard of it.
    Pending,
    /// GitLab made this pipeline.
    Created(i64),
    /// GitLab will not, whoever asks how often, until something changes: in its words.
    Refused(String),
    /// It did not work: in words.
    Failed(String),
}

/// A project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Project {
    /// Whether GitLab has ever said what its pipelines are.
    pub seen: bool,
    /// What it builds on.
    pub edges: Vec<Edge>,
    /// Its latest pipeline.
    pub latest: Option<Pipeline>,
    /// Its latest success.
    pub success: Option<Success>,
    /// The chain's last attempt to start one.
    pub attempt: Option<Attempt>,
    /// The last pipeline that the chain has started, and for what: attempts that came to nothing later don't change that.
    pub started: Option<(i64, Inputs)>,
    /// Whether the chain leaves it alone.
    pub paused: bool,
    /// Somebody wants a pipeline of it that is later than this one, whatever it builds on; 0 is before the first.
    pub wanted: Option<i64>,
    /// Whether that one's success is to be no reason to rebuild anything.
    pub wanted_alone: bool,
    /// The pipeline whose success is no reason to rebuild anything.
    pub alone: Option<i64>,
}

impl Project {
    fn observe(&mut self, latest: Option<Pipeline>, success: Option<Success>) {
        self.latest = latest;
        if !self.is_wanted() {
            (self.wanted, self.wanted_alone) = (None, false);
        }
        if let Some(success) = success
            && self.success.is_none_or(|known| success.is_newer_than(&known))
        {
            self.success = Some(success);
        }
    }

    /// The inputs of the latest pipeline, if the chain has started it.
    #[must_use]
    pub fn inputs_of_latest(&self) -> Option<&Inputs> {
        let (pipeline, inputs) = self.started.as_ref()?;
        (*pipeline == self.latest?.id).then_some(inputs)
    }

    /// Whether somebody wants a pipeline that there is none of yet.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some_and(|after| self.latest.map_or(0, |latest| latest.id) <= after)
    }
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The projects.
    pub projects: BTreeMap<ProjectId, Project>,
    /// Images that no project builds, and when their digest was last seen to have moved.
    pub images: BTreeMap<String, Success>,
}

impl Facts {
    /// The latest success of something that is built on.
    #[must_use]
    pub fn success_of(&self, upstream: &Upstream) -> Option<Success> {
        match upstream {
            Upstream::Project(id) => self.projects.get(id)?.success,
            Upstream::Image(name) => self.images.get(name).copied(),
        }
    }

    /// Takes in what GitLab says of a project's pipelines now. A success counts once: a manual job that is played afterwards makes no new one of it.
    pub fn observe(&mut self, id: ProjectId, latest: Option<Pipeline>, success: Option<Success>) {
        let alone =
            success.filter(|success| self.projects.get(&id).is_some_and(|known| known.alone == Some(success.id)));
        if let Some(success) = alone {
            self.hide(&Upstream::Project(id), success);
        }
        let project = self.projects.entry(id).or_default();
        project.observe(latest, success);
        if std::mem::replace(&mut project.seen, true) {
            return;
        }
        let baseline = Baseline::of(project.success);
        let edges = self.projects.values_mut().flat_map(|project| &mut project.edges);
        for edge in edges.filter(|edge| edge.upstream == Upstream::Project(id) && edge.baseline == Baseline::Unseen) {
            edge.baseline = baseline;
        }
    }

    /// Makes a success no news to whoever has all that came before it.
    fn hide(&mut self, upstream: &Upstream, success: Success) {
        let owners: Vec<ProjectId> = self
            .projects
            .iter()
            .filter(|(_, project)| project.edges.iter().any(|edge| edge.upstream == *upstream))
            .filter(|(_, project)| !self.news(project).iter().any(|(of, _)| of == upstream))
            .map(|(id, _)| *id)
            .collect();
        for owner in owners {
            let edges = self.projects.get_mut(&owner).into_iter().flat_map(|project| &mut project.edges);
            for edge in edges.filter(|edge| edge.upstream == *upstream && edge.baseline.is_older_than(&success)) {
                edge.baseline = Baseline::Success(success);
            }
        }
    }

    /// The successes that a project has not been built with. For a pipeline that the chain has started, its recorded inputs decide, else
    /// the time of its creation.
    #[must_use]
    pub fn news(&self, project: &Project) -> Vec<(Upstream, Success)> {
        let recorded = project.inputs_of_latest();
        let mut news = Vec::new();
        for edge in project.edges.iter().filter(|edge| !edge.pinned) {
            let Some(success) = self.success_of(&edge.upstream) else { continue };
            if !edge.baseline.is_older_than(&success) {
                continue;
            }
            let is_new = match (recorded.and_then(|inputs| inputs.get(&edge.upstream)), project.latest) {
                (Some(built_with), _) => success.is_newer_than(built_with),
                // In the same moment: nobody knows, and a build too many is better than one too few.
                (None, Some(latest)) => success.at >= latest.created_at,
                (None, None) => true,
            };
            if is_new {
                news.push((edge.upstream.clone(), success));
            }
        }
        news
    }

    /// Notes that somebody wants a pipeline of a project, and whether its success is to be nobody's reason.
    pub fn want(&mut self, id: ProjectId, alone: bool) {
        let Some(project) = self.projects.get_mut(&id) else { return };
        project.wanted = Some(project.latest.map_or(0, |latest| latest.id));
        project.wanted_alone = alone;
        // What was in the way before is tried again.
        if project.attempt.as_ref().is_some_and(|attempt| attempt.outcome != Outcome::Pending) {
            project.attempt = None;
        }
    }

    /// What there is of something now.
    fn baseline(&self, upstream: &Upstream) -> Baseline {
        let seen = match upstream {
            Upstream::Project(id) => self.projects.get(id).is_some_and(|project| project.seen),
            Upstream::Image(name) => self.images.contains_key(name),
        };
        if seen { Baseline::of(self.success_of(upstream)) } else { Baseline::Unseen }
    }

    /// Takes in that the digest of an image has been seen: the first time is no move. The projects whose edges begin with that.
    pub fn observe_image(&mut self, name: &str, success: Success) -> Vec<ProjectId> {
        let is_first = self.images.insert(name.to_owned(), success).is_none();
        let mut begun = Vec::new();
        for (id, project) in &mut self.projects {
            let of_image = |edge: &&mut Edge| matches!(&edge.upstream, Upstream::Image(image) if image == name);
            for edge in project.edges.iter_mut().filter(of_image) {
                if is_first {
                    edge.baseline = Baseline::Success(success);
                    begun.push(*id);
                }
            }
        }
        begun
    }

    /// Lets edges on images that were seen begin with what is known now, where a crash came before that was on record.
    pub fn begin_edges(&mut self) {
        for edge in self.projects.values_mut().flat_map(|project| &mut project.edges) {
            if let (Upstream::Image(name), Baseline::Unseen) = (&edge.upstream, edge.baseline)
                && let Some(success) = self.images.get(name)
            {
                edge.baseline = Baseline::Success(*success);
            }
        }
    }

    /// Replaces what a project builds on. An edge that is new counts no success from before; one that stays is as it was.
    pub fn set_edges(&mut self, id: ProjectId, found: impl IntoIterator<Item = (Upstream, bool)>) {
        let before = self.projects.get(&id).map(|project| project.edges.clone()).unwrap_or_default();
        let mut edges: Vec<Edge> = Vec::new();
        for (upstream, pinned) in found {
            // A project that builds on its own image, as a cache, builds on nothing new.
            if upstream == Upstream::Project(id) || edges.iter().any(|edge| edge.upstream == upstream) {
                continue;
            }
            let old = before.iter().find(|edge| edge.upstream == upstream);
            let baseline = old.map_or_else(|| self.baseline(&upstream), |edge| edge.baseline);
            edges.push(Edge { upstream, pinned, baseline });
        }
        self.projects.entry(id).or_default().edges = edges;
    }

    /// Puts an attempt on record, before it is made; returns whether nothing is under way already.
    pub fn begin_attempt(&mut self, id: ProjectId, inputs: Inputs, at: Time) -> bool {
        let Some(project) = self.projects.get_mut(&id) else { return false };
        let before = project.attempt.as_ref();
        if before.is_some_and(|attempt| attempt.outcome == Outcome::Pending) {
            return false;
        }
        let tries = before.filter(|attempt| attempt.inputs == inputs).map_or(0, |attempt| attempt.tries) + 1;
        project.attempt = Some(Attempt { inputs, at, outcome: Outcome::Pending, tries });
        true
    }

    /// Takes an attempt back that GitLab never heard of: it does not count.
    pub fn withdraw_attempt(&mut self, id: ProjectId) {
        let Some(project) = self.projects.get_mut(&id) else { return };
        let Some(attempt) = &mut project.attempt else { return };
        if attempt.tries <= 1 {
            project.attempt = None;
            return;
        }
        attempt.tries -= 1;
        attempt.outcome = Outcome::Failed("GitLab could not be asked".to_owned());
    }

    /// Notes what came of an attempt.
    pub fn settle_attempt(&mut self, id: ProjectId, outcome: Outcome) {
        let Some(project) = self.projects.get_mut(&id) else { return };
        let Some(attempt) = &mut project.attempt else { return };
        if let Outcome::Created(pipeline) = outcome {
            if project.wanted.is_some() && project.wanted_alone {
                project.alone = Some(pipeline);
            }
            (project.wanted, project.wanted_alone) = (None, false);
            project.started = Some((pipeline, attempt.inputs.clone()));
        }
        attempt.outcome = outcome;
    }
}
