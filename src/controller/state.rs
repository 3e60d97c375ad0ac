//! What the controller knows, in memory; the database has the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use tokio::time::Instant;

use super::Controller;
use super::unsaved::Unsaved;
use crate::chain::discovery::Catalog;
use crate::chain::facts::{Facts, Project, ProjectId, Time};
use crate::config::ChainSettings;
use crate::store::{About, Built, ImageLook, Kept, StartNote, Store};

/// The setting that says whether the whole chain is paused.
pub(super) const PAUSED: &str = "paused";

/// What the controller knows.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What decides; of projects that are in the chain.
    pub facts: Facts,
    /// The rest, of all projects.
    pub about: BTreeMap<ProjectId, About>,
    /// Facts of projects that are not in the list any more: should they come back, nothing is forgotten.
    pub absent: BTreeMap<ProjectId, Project>,
    /// Images that no project builds, by their full names.
    pub looks: BTreeMap<String, ImageLook>,
    /// What the projects' last successes were built on.
    pub built: BTreeMap<ProjectId, Built>,
    /// When that is looked at again, where a registry did not answer.
    pub base_again: BTreeMap<ProjectId, Instant>,
    /// What the database did not take.
    pub unsaved: Unsaved,
    /// By project, and by what it builds on: the images that its files name.
    pub named: BTreeMap<ProjectId, BTreeMap<ProjectId, BTreeSet<String>>>,
    /// Projects that somebody has to look at.
    pub dirty: BTreeSet<ProjectId>,
    /// When each was looked at last: what a scan saw before that is old.
    pub looked: BTreeMap<ProjectId, Instant>,
    /// Whether nothing is to be started.
    pub paused: bool,
    /// The last look at everything.
    pub last_sync: SyncReport,
    /// Why GitLab could not be asked to start anything, the last time.
    pub trouble: Option<String>,
    /// What was put on record.
    pub noted: Noted,
    /// When the kickoffs were looked at last, in minutes since 1970 of the host's local time.
    pub kicked: Option<i64>,
}

/// How often something was put on record that is shown and decides nothing: events, what became of them, starts.
#[derive(Debug, Default)]
pub(super) struct Noted {
    all: u64,
    of: BTreeMap<ProjectId, u64>,
}

impl Noted {
    /// Something of a project of the chain.
    pub(super) fn count(&mut self, id: ProjectId) {
        self.all += 1;
        *self.of.entry(id).or_default() += 1;
    }

    /// Of all projects.
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// Of this one.
    pub(super) fn of(&self, id: ProjectId) -> u64 {
        self.of.get(&id).copied().unwrap_or_default()
    }
}

/// A look at everything.
#[derive(Debug, Clone, Default)]
pub(super) struct SyncReport {
    /// When it began, by GitLab's clock; none: there was none yet.
    pub began: Option<Time>,
    /// How many have begun, this one included.
    pub number: u64,
    /// Whether one is under way.
    pub running: bool,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// What went wrong with it as a whole.
    pub problems: Vec<String>,
    /// Whether GraphQL is not to be had, and why.
    pub rest_alone: Option<String>,
}

impl State {
    /// What is on record.
    pub(super) async fn load(store: &Store) -> Result<Self> {
        let mut state =
            Self { paused: store.setting(PAUSED).await?.is_some_and(|value| value == "yes"), ..Self::default() };
        state.facts.images = store.images().await?;
        state.built = store.built().await?;
        for (id, kept) in store.projects().await? {
            if kept.about.absent_since.is_some() {
                state.absent.insert(id, kept.facts);
            } else {
                state.facts.projects.insert(id, kept.facts);
            }
            state.about.insert(id, kept.about);
        }
        state.facts.begin_edges();
        Ok(state)
    }

    /// A project with all that is kept of it.
    pub(super) fn kept(&self, id: ProjectId) -> Option<Kept> {
        let facts = self.facts.projects.get(&id).or_else(|| self.absent.get(&id))?;
        Some(Kept { facts: facts.clone(), about: self.about.get(&id)?.clone() })
    }

    /// The project that an administrator names, by path or id.
    pub(super) fn named(&self, name: &str) -> Option<ProjectId> {
        let in_chain = |id: &ProjectId| self.facts.projects.contains_key(id);
        if let Some(id) = name.parse().ok().filter(in_chain) {
            return Some(id);
        }
        let name = name.trim_matches('/');
        self.about.iter().find(|(id, about)| about.path.eq_ignore_ascii_case(name) && in_chain(id)).map(|(id, _)| *id)
    }

    /// The path of a project, or its number where that is not known.
    pub(super) fn path(&self, id: ProjectId) -> String {
        self.about.get(&id).map_or_else(|| format!("project {id}"), |about| about.path.clone())
    }

    /// The projects that can be built on.
    pub(super) fn catalog(&self, hosts: &[String]) -> Catalog {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let mut catalog = Catalog::new(&hosts);
        for id in self.facts.projects.keys() {
            let Some(about) = self.about.get(id) else { continue };
            catalog.add(*id, &about.path, about.registry_prefix.as_deref());
        }
        catalog
    }
}

/// The branch of a project whose pipelines count.
pub(super) fn tracked<'a>(settings: &'a ChainSettings, about: &'a About) -> Option<&'a str> {
    let own = settings.overrides.get(&about.path.to_ascii_lowercase());
    own.and_then(|own| own.reference.as_deref()).or(about.default_branch.as_deref())
}

impl Controller {
    pub(super) fn tracked<'a>(&'a self, about: &'a About) -> Option<&'a str> {
        tracked(&self.settings, about)
    }

    /// The job whose success is the pipeline's.
    pub(super) fn done_when(&self, path: &str) -> Option<&str> {
        let own = self.settings.overrides.get(&path.to_ascii_lowercase());
        own.and_then(|own| own.done_when.as_deref()).or(self.settings.done_when.as_deref())
    }

    /// Writes what is known of these projects now.
    pub(super) async fn save(&self, ids: impl IntoIterator<Item = ProjectId>) -> Result<()> {
        self.write(ids, None).await
    }

    /// Writes what is known of a project now together with a start of it, both or neither.
    pub(super) async fn save_start(&self, id: ProjectId, note: StartNote<'_>) -> Result<()> {
        self.write([id], Some(note)).await?;
        self.state().noted.count(id);
        Ok(())
    }

    async fn write(&self, ids: impl IntoIterator<Item = ProjectId>, start: Option<StartNote<'_>>) -> Result<()> {
        let _turn = self.saving.lock().await;
        let kept: Vec<(ProjectId, Kept)> = {
            let state = self.state();
            ids.into_iter().filter_map(|id| Some((id, state.kept(id)?))).collect()
        };
        let rows: Vec<(ProjectId, &Kept)> = kept.iter().map(|(id, kept)| (*id, kept)).collect();
        let news = match start {
            None => self.store.save(&rows).await?,
            Some(_) => self.store.save_with(&rows, start).await?,
        };
        self.feed.add(&news);
        Ok(())
    }

    /// Writes, and says so where that fails: what is in memory goes on to count, and is written with the next change.
    pub(super) async fn save_or_say(&self, ids: impl IntoIterator<Item = ProjectId>) {
        if let Err(error) = self.save(ids).await {
            tracing::error!("{error:#}");
        }
    }
}
