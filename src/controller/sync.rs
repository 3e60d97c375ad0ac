//! A look at everything: projects, what they build on, their pipelines, their webhooks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::Controller;
use super::scan::{FILES, Found, Listing, some_at_once};
use super::state::{State, SyncReport};
use crate::chain::discovery::{Files, discover};
use crate::chain::facts::{ProjectId, Time};
use crate::store::{About, Kept};

/// How long what is known of a project outlives its place in the list, in milliseconds: a token that lost a group for some days gets
/// everything back.
const ABSENT_MAX: Time = 30 * 24 * 3600 * 1000;
/// The setting with the day on which the places of images were asked for.
const PREFIXES: &str = "prefixes_at";
/// How often they are asked for without need, in milliseconds.
const PREFIXES_EVERY: Time = 24 * 3600 * 1000;

impl Controller {
    /// Looks at everything; whether nothing went wrong with it as a whole.
    pub(super) async fn sync(&self) -> bool {
        let began = Instant::now();
        let number = {
            let mut state = self.state();
            state.last_sync.running = true;
            state.last_sync.number += 1;
            state.last_sync.number
        };
        let mut listing = self.list().await;
        self.add_prefixes(&mut listing).await;
        let problems = std::mem::take(&mut listing.problems);
        let rest_alone = listing.rest_alone.take();
        let (changed, looks) = self.take_listing(listing);
        self.save_or_say(changed).await;
        self.look_at(looks).await;
        self.tend_hooks().await;
        let before = self.gitlab.now() - i64::try_from(self.settings.history.as_millis()).unwrap_or(i64::MAX);
        if let Err(error) = self.store.prune(before).await {
            tracing::error!("{error:#}");
        }
        for problem in &problems {
            tracing::warn!("look at the chain's projects: {problem}");
        }
        let worked = problems.is_empty();
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.gitlab.metrics().chain_synced(worked, began.elapsed());
        let mut state = self.state();
        if worked {
            state.trouble = None;
        }
        if state.last_sync.rest_alone != rest_alone
            && let Some(why) = &rest_alone
        {
            tracing::warn!("GraphQL is not to be had, so each project costs requests of its own: {why}");
        }
        let since = self.gitlab.now() - i64::try_from(took).unwrap_or(0);
        state.last_sync = SyncReport { began: Some(since), number, running: false, took, problems, rest_alone };
        tracing::debug!(took_ms = took, projects = state.facts.projects.len(), "looked at everything");
        worked
    }

    /// Where projects have their images, which only REST says: asked for when there is a project of which that is not known, and once a day.
    async fn add_prefixes(&self, listing: &mut Listing) {
        let now = self.gitlab.now();
        let last = self.store.setting(PREFIXES).await.ok().flatten().and_then(|text| text.parse::<Time>().ok());
        let due = last.is_none_or(|last| now - last >= PREFIXES_EVERY);
        let is_unknown = |found: &&mut Found| {
            found.row.is_none()
                && (due || self.state().about.get(&found.id).is_none_or(|about| about.path != found.path))
        };
        let mut unknown: BTreeMap<ProjectId, &mut Found> =
            listing.found.values_mut().filter(is_unknown).map(|found| (found.id, found)).collect();
        if unknown.is_empty() {
            return;
        }
        let mut problems = Vec::new();
        for group in &self.settings.groups {
            match self.gitlab.group_projects(group).await {
                Ok(rows) => {
                    for row in rows {
                        if let Some(found) = unknown.remove(&row.id) {
                            found.row = Some(row);
                        }
                    }
                }
                Err(error) => problems.push(format!("where the images of group {group} are: {error}")),
            }
        }
        for found in unknown.into_values() {
            match self.gitlab.project(&found.id.to_string()).await {
                Ok(row) => found.row = Some(row),
                Err(error) => found.problems.push(format!("where its images are: {error}")),
            }
        }
        if problems.is_empty() {
            self.store.set(PREFIXES, &now.to_string()).await.unwrap_or_else(|error| tracing::error!("{error:#}"));
        }
        listing.problems.extend(problems);
    }

    /// Takes a listing in: the projects that have changed by it, and those of which it does not say enough.
    fn take_listing(&self, listing: Listing) -> (BTreeSet<ProjectId>, Vec<ProjectId>) {
        let now = self.gitlab.now();
        let mut state = self.state();
        let ids: Vec<ProjectId> = state.about.keys().copied().collect();
        let before: BTreeMap<ProjectId, Kept> = ids.into_iter().filter_map(|id| Some((id, state.kept(id)?))).collect();
        let mut looks = Vec::new();
        let mut seen = Vec::new();
        let present: BTreeSet<ProjectId> = listing.found.keys().copied().collect();
        for found in listing.found.into_values() {
            let id = found.id;
            match found.seen {
                // Somebody has looked since.
                Some(_) if state.looked.get(&id).is_some_and(|looked| *looked >= found.asked_at) => {}
                Some((latest, success)) => seen.push((id, latest, success)),
                None => looks.push(id),
            }
            place(&mut state, found);
        }
        for (id, latest, success) in seen {
            state.facts.observe(id, latest, success);
        }
        if !listing.is_partial {
            let gone: Vec<ProjectId> =
                state.facts.projects.keys().filter(|id| !present.contains(id)).copied().collect();
            for id in gone {
                tracing::info!(project = state.path(id), "is not in the chain any more");
                if let Some(facts) = state.facts.projects.remove(&id) {
                    state.absent.insert(id, facts);
                }
                if let Some(about) = state.about.get_mut(&id) {
                    about.absent_since = Some(now);
                }
            }
        }
        self.discover(&mut state, &present);
        let ids: Vec<ProjectId> = state.about.keys().copied().collect();
        let changed = ids.into_iter().filter(|id| state.kept(*id).as_ref() != before.get(id)).collect();
        (changed, looks)
    }

    /// Finds out what each project builds on. The projects have to be known first: an image may be of any of them.
    fn discover(&self, state: &mut State, present: &BTreeSet<ProjectId>) {
        let catalog = state.catalog(&self.gitlab.hosts());
        for id in present {
            let Some(about) = state.about.get_mut(id) else { continue };
            let found = discover(&files_of(about), &catalog, &self.build_args(about));
            about.findings = found.problems;
            state.named.insert(*id, found.named);
            state.facts.set_edges(*id, found.upstreams);
        }
    }

    /// The values that builds of a project get.
    pub(super) fn build_args(&self, about: &About) -> BTreeMap<String, String> {
        let mut args = self.settings.args.clone();
        // What GitLab gives to every build of the project.
        if let Some(prefix) = &about.registry_prefix {
            let registry = prefix.split('/').next().unwrap_or_default();
            args.entry("CI_REGISTRY_IMAGE".to_owned()).or_insert_with(|| prefix.clone());
            args.entry("CI_REGISTRY".to_owned()).or_insert_with(|| registry.to_owned());
        }
        args
    }

    async fn look_at(&self, ids: Vec<ProjectId>) {
        let mut work: Vec<BoxFuture<'_, ()>> = Vec::new();
        for id in ids {
            work.push(Box::pin(self.look_or_say(id)));
        }
        some_at_once(work).await;
    }

    async fn look_or_say(&self, id: ProjectId) {
        if let Err(error) = self.look(id).await {
            let mut state = self.state();
            tracing::warn!(project = state.path(id), "look at its pipelines: {error:#}");
            if let Some(about) = state.about.get_mut(&id) {
                about.problems.push(format!("its pipelines: {error:#}"));
            }
        }
    }

    /// Forgets what has not been in the list for long.
    pub(super) async fn forget_absent(&self) {
        let now = self.gitlab.now();
        let old: Vec<ProjectId> = {
            let state = self.state();
            let is_old = |id: &&ProjectId| {
                state.about.get(id).and_then(|about| about.absent_since).is_some_and(|since| now - since > ABSENT_MAX)
            };
            state.absent.keys().filter(is_old).copied().collect()
        };
        if old.is_empty() {
            return;
        }
        match self.store.forget(&old).await {
            Ok(()) => {
                let mut state = self.state();
                for id in old {
                    state.absent.remove(&id);
                    state.about.remove(&id);
                }
            }
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    /// Waits until a look at everything that began after this call is over; at most `limit`.
    pub(super) async fn sync_now(&self, limit: Duration) -> bool {
        // One that is under way may have passed by what the caller has just changed.
        let before = self.state().last_sync.number;
        self.sync.notify_one();
        let done = async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let state = self.state();
                if !state.last_sync.running && state.last_sync.number > before {
                    return;
                }
            }
        };
        tokio::time::timeout(limit, done).await.is_ok()
    }
}

/// The files that say what a project builds on.
pub(super) fn files_of(about: &About) -> Files<'_> {
    let file = |path: &str| about.files.get(path).map(String::as_str);
    let further = about.files.iter().filter(|(path, _)| !FILES.contains(&path.as_str()));
    Files {
        deps: file(".gitlab-deps"),
        containerfile: file("Containerfile"),
        dockerfile: file("Dockerfile"),
        further: further.map(|(path, text)| (path.as_str(), text.as_str())).collect(),
    }
}

/// Puts what was found into its place.
fn place(state: &mut State, found: Found) {
    let id = found.id;
    let facts = state.absent.remove(&id);
    state.facts.projects.entry(id).or_insert_with(|| facts.unwrap_or_default());
    let about = state.about.entry(id).or_default();
    about.absent_since = None;
    about.path = found.path;
    about.web_url = found.web_url;
    about.default_branch = found.default_branch;
    about.problems = found.problems;
    if let Some(files) = found.files {
        about.files = files;
    }
    if found.head.is_some() {
        about.head = found.head;
    }
    if let Some(row) = found.row {
        about.visibility = row.visibility;
        about.registry_prefix = row.container_registry_image_prefix;
    }
}
