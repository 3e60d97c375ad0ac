//! What this GitLab knows.

mod hook;
mod pipeline;
mod project;
mod settings;
mod token;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::budget::Budget;
use crate::clock::{Clock, Time};
use crate::faults::Fault;
use crate::life::Step;
use crate::seen::Seen;
use crate::webhooks::{Delivery, Dispatch, Event, Parcel};

pub use hook::{EVENTS, Hook, Link};
pub use pipeline::{Job, JobPlan, MergeRequest, Pipeline, Upstream};
pub use project::{Commit, File, JobTokenScope, Project};
pub use settings::{GraphqlSettings, Settings, Version};
pub use token::{Access, DEVELOPER, MAINTAINER, REPORTER, Token};

/// A minute in milliseconds.
const MINUTE_MS: i64 = 60_000;

/// A group; its path is its identity.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its id.
    pub id: u64,
    /// Its full path.
    pub path: String,
    /// Projects of elsewhere that were shared with it.
    pub shared: Vec<u64>,
}

/// All of it. Nothing here waits for anything.
#[derive(Debug)]
pub struct State {
    /// Its clock.
    pub clock: Clock,
    /// What a test sets for all projects.
    pub settings: Settings,
    /// By their secret.
    pub tokens: BTreeMap<String, Token>,
    /// By their full path in lower case.
    pub groups: BTreeMap<String, Group>,
    /// By id.
    pub projects: BTreeMap<u64, Project>,
    /// Ids by full path in lower case.
    pub paths: HashMap<String, u64>,
    /// Where projects were before they were renamed, in lower case.
    pub moved: HashMap<String, u64>,
    /// By id.
    pub pipelines: BTreeMap<u64, Pipeline>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// How many requests are allowed.
    pub budget: Budget,
    /// All requests so far.
    pub seen: Seen,
    /// How webhooks go wrong.
    pub dispatch: Dispatch,
    /// Every webhook that was sent, or was not.
    pub deliveries: Vec<Delivery>,
    /// Hooks by the chain of events that they were fired in.
    pub chains: HashMap<String, Vec<u64>>,
    /// What has to be done as soon as nobody holds the state.
    pub due: Vec<Due>,
    numbers: BTreeMap<&'static str, u64>,
    recent: HashMap<String, Vec<Time>>,
}

/// What is left to do after the state has changed.
#[derive(Debug)]
pub enum Due {
    /// A pipeline goes on by itself.
    Step(Step),
    /// A pipeline has changed; its project's hooks are to be told of it after a while.
    Event(Event, Duration),
    /// This is to be sent after a while.
    Later(Parcel, Duration),
    /// What waits for this hook is to be sent.
    Drain(u64),
}

impl State {
    /// An empty one.
    pub fn new(url: &str, version: Version) -> Self {
        Self {
            clock: Clock::default(),
            settings: Settings::new(url, version),
            tokens: BTreeMap::new(),
            groups: BTreeMap::new(),
            projects: BTreeMap::new(),
            paths: HashMap::new(),
            moved: HashMap::new(),
            pipelines: BTreeMap::new(),
            faults: Vec::new(),
            budget: Budget::default(),
            seen: Seen::default(),
            dispatch: Dispatch::default(),
            deliveries: Vec::new(),
            chains: HashMap::new(),
            due: Vec::new(),
            numbers: BTreeMap::from([("project", 100), ("pipeline", 9000), ("job", 7000), ("hook", 30), ("group", 7)]),
            recent: HashMap::new(),
        }
    }

    /// Its time.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// The next number of a kind; they are never given twice.
    pub fn number(&mut self, kind: &'static str) -> u64 {
        let number = self.numbers.entry(kind).or_default();
        *number += 1;
        *number
    }

    /// A number of a kind that a test has chosen; later ones come after it.
    pub fn reserve(&mut self, kind: &'static str, number: u64) {
        let last = self.numbers.entry(kind).or_default();
        *last = (*last).max(number);
    }

    /// Counts something that may be done so often within a minute; false where that is too often.
    pub fn allows(&mut self, what: String, most: usize) -> bool {
        let now = self.now();
        let times = self.recent.entry(what).or_default();
        times.retain(|time| (now - MINUTE_MS..=now).contains(time));
        let is_allowed = times.len() < most;
        if is_allowed {
            times.push(now);
        }
        is_allowed
    }

    /// The project with this id or full path, whoever may see it.
    pub fn project_id(&self, name: &str) -> Option<u64> {
        match name.parse() {
            Ok(id) => self.projects.contains_key(&id).then_some(id),
            Err(_) => self.paths.get(&name.to_lowercase()).copied(),
        }
    }

    /// The group with this id or full path.
    pub fn group(&self, name: &str) -> Option<&Group> {
        match name.parse::<u64>() {
            Ok(id) => self.groups.values().find(|group| group.id == id),
            Err(_) => self.groups.get(&name.to_lowercase()),
        }
    }

    /// Makes sure that a project's group and all above it are there.
    pub fn ensure_groups(&mut self, path: &str) {
        for (end, _) in path.match_indices('/') {
            let key = path[..end].to_lowercase();
            if !self.groups.contains_key(&key) {
                let id = self.number("group");
                self.groups.insert(key, Group { id, path: path[..end].to_owned(), shared: Vec::new() });
            }
        }
    }

    /// The projects of a group, by id: its own, and those of its subgroups or shared with it where they are wanted.
    pub fn projects_of(&self, group: &Group, subgroups: bool, shared: bool) -> Vec<&Project> {
        let prefix = format!("{}/", group.path.to_lowercase());
        let below = |project: &Project| {
            let path = project.path.to_lowercase();
            path.strip_prefix(&prefix).is_some_and(|rest| subgroups || !rest.contains('/'))
        };
        let is_shared = |project: &Project| shared && group.shared.contains(&project.id);
        self.projects.values().filter(|project| below(project) || is_shared(project)).collect()
    }

    /// The page of a project.
    pub fn web_url(&self, project: &Project) -> String {
        format!("{}/{}", self.settings.url, project.path)
    }
}
