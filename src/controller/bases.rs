//! Built on the new base? After each success the image that was pushed is compared with what its base is now: a build that took an old base
//! from a cache is a success all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Controller;
use super::patterns::Images;
use super::state::State;
use super::sync::files_of;
use crate::chain::base::{Evidence, Published, base_of, is_on};
use crate::chain::facts::ProjectId;
use crate::job::ImageRef;
use crate::registry::{Registry, RegistryError};
use crate::store::Built;

/// How long until a check is tried again that a registry did not answer.
const AGAIN: Duration = Duration::from_secs(300);
/// Checks in one round; the others' turn comes with the next.
const ROUND: usize = 50;

/// What is compared.
struct Pair {
    pushed: ImageRef,
    base: ImageRef,
}

/// What is looked at in a round, each with its last success.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// What was built before this was watched: that is noted, and nobody is asked.
    first: Vec<(ProjectId, i64)>,
    /// What was built since.
    work: Vec<(ProjectId, i64)>,
}

fn wanted(state: &State, now: Instant) -> Wanted {
    let mut wanted = Wanted::default();
    for (id, project) in &state.facts.projects {
        let success = project.success.map_or(0, |success| success.id);
        match state.built.get(id) {
            None if project.seen => wanted.first.push((*id, success)),
            Some(built) if built.pipeline != success && state.base_again.get(id).is_none_or(|again| *again <= now) => {
                wanted.work.push((*id, success));
            }
            _ => {}
        }
    }
    wanted
}

/// Notes that a registry did not answer: the same success is looked at again after a while. The pipeline that was looked at before.
fn unanswered(state: &mut State, id: ProjectId, now: Instant) -> i64 {
    state.base_again.insert(id, now + AGAIN);
    state.built.get(&id).map_or(0, |before| before.pipeline)
}

impl Controller {
    /// Looks at what the projects have pushed whose last success nobody has looked at.
    pub(super) async fn check_bases(&self, registry: &Registry) {
        if let Some(login) = self.gitlab.registry_login() {
            let state = self.state();
            let prefixes = state.about.values().filter_map(|about| about.registry_prefix.as_deref());
            for host in prefixes.filter_map(|prefix| prefix.split('/').next()) {
                registry.offer_login(host, login.clone());
            }
        }
        let Wanted { first, work } = wanted(&self.state(), Instant::now());
        let now = self.gitlab.now();
        for (id, pipeline) in first {
            let words = "not looked at: it was built before".to_owned();
            self.keep_built(id, Built { pipeline, on_new: None, words, since: now }).await;
        }
        for (id, pipeline) in work.into_iter().take(ROUND) {
            self.check_base(registry, id, pipeline).await;
        }
    }

    async fn check_base(&self, registry: &Registry, id: ProjectId, pipeline: i64) {
        let before = self.state().built.get(&id).cloned();
        let checked = match self.pair(id) {
            Ok(pair) => self.compare(registry, &pair).await,
            Err(words) => Ok((None, words)),
        };
        let (pipeline, on_new, words) = match checked {
            Ok((on_new, words)) => (pipeline, on_new, words),
            Err(error) => {
                let mut state = self.state();
                tracing::warn!(project = state.path(id), "what it was built on is not known: {error}");
                (unanswered(&mut state, id, Instant::now()), None, error.to_string())
            }
        };
        let same = before.filter(|before| before.on_new == on_new);
        let since = same.map_or_else(|| self.gitlab.now(), |before| before.since);
        if on_new == Some(false) {
            tracing::warn!(project = self.state().path(id), "{words}");
        }
        self.keep_built(id, Built { pipeline, on_new, words, since }).await;
    }

    /// What a project has pushed and what it says it builds on; or why there is nothing to compare.
    fn pair(&self, id: ProjectId) -> Result<Pair, String> {
        let state = self.state();
        let about = state.about.get(&id).ok_or("it is not in the chain any more")?;
        let prefix = about.registry_prefix.as_deref().ok_or("it has no registry")?;
        let base = base_of(&files_of(about), &self.build_args(about)).ok_or("it is not known what it builds on")?;
        if base.contains('@') {
            return Err("a digest says what it builds on".to_owned());
        }
        let is_project = state.catalog(&self.gitlab.hosts()).project_of(&base).is_some();
        if !is_project && !Images::of(&self.settings.watch).has(&base) {
            return Err(format!("{base} is not watched"));
        }
        // What most of those name that build on it; else what people call the newest.
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let named = state.named.iter().filter(|(owner, _)| **owner != id).filter_map(|(_, named)| named.get(&id));
        named.flatten().for_each(|name| *names.entry(name).or_default() += 1);
        let most = names.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name.to_owned());
        let pushed = most.unwrap_or_else(|| format!("{}:latest", prefix.to_ascii_lowercase()));
        Ok(Pair { pushed: ImageRef::try_from(pushed)?, base: ImageRef::try_from(base)? })
    }

    /// Whether what was pushed was built on what its base is now, and that in words.
    async fn compare(&self, registry: &Registry, pair: &Pair) -> Result<(Option<bool>, String), RegistryError> {
        let platform = &self.settings.watch.platform;
        let Pair { pushed, base } = pair;
        let unless_missing = |error: RegistryError| match error {
            // Nobody has to push there: that is no trouble of the registry's.
            RegistryError::NotFound { image, .. } => Ok((None, format!("there is no image {image}"))),
            RegistryError::NoPlatform { .. } => Ok((None, error.to_string())),
            error => Err(error),
        };
        let found = async {
            let head = registry.head(pushed).await?;
            registry.image_manifest(pushed, &head.digest, platform).await
        };
        let image = match found.await {
            Ok(image) => image,
            Err(error) => return unless_missing(error),
        };
        let head = match registry.head(base).await {
            Ok(head) => head,
            Err(error) => return unless_missing(error),
        };
        let of_platform = registry.platform_digest(base, &head, platform).await?;
        let mut digests = vec![head.digest.clone(), of_platform.clone()];
        // An index moves with every platform, and stands for the same image of ours before and after.
        digests.extend(self.store.digests_of(base.as_str(), &of_platform).await.unwrap_or_default());
        let named = image.base();
        let (mut layers, mut base_layers) = (Vec::new(), Vec::new());
        if named.is_none() {
            let manifest = registry.image_manifest(base, &of_platform, platform).await?;
            layers = registry.config(pushed, &image).await?.diff_ids().to_vec();
            base_layers = registry.config(base, &manifest).await?.diff_ids().to_vec();
        }
        let evidence = Evidence { named: named.as_ref(), layers: &layers };
        let on_new = is_on(&evidence, &Published { digests: &digests, layers: &base_layers });
        let now = of_platform.short();
        let words = match (on_new, &named) {
            (Some(true), _) => format!("{pushed} is built on {base} as it is now ({now})"),
            (Some(false), Some(named)) => {
                format!("{pushed} is built on an old base: {} of {base}, which is {now} now", named.short())
            }
            (Some(false), None) => {
                format!("{pushed} is built on an old base: its lowest layers are not those of {base} ({now})")
            }
            (None, _) => format!("{pushed} does not say what it was built on"),
        };
        Ok((on_new, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::facts::{Project, Success};

    fn succeeded(state: &mut State, id: i64) {
        let success = Some(Success { id, at: 0 });
        state.facts.projects.insert(1, Project { seen: true, success, ..Project::default() });
    }

    fn work(state: &State, now: Instant) -> Vec<(ProjectId, i64)> {
        wanted(state, now).work
    }

    #[test]
    fn each_success_is_looked_at_once_and_what_was_built_before_never() {
        let (mut state, now) = (State::default(), Instant::now());
        succeeded(&mut state, 7);
        assert_eq!(wanted(&state, now), Wanted { first: vec![(1, 7)], work: Vec::new() });
        let built = |pipeline| Built { pipeline, on_new: None, words: String::new(), since: 0 };
        state.built.insert(1, built(7));
        assert_eq!(wanted(&state, now), Wanted::default());
        succeeded(&mut state, 8);
        assert_eq!(work(&state, now), [(1, 8)]);
        state.built.insert(1, built(8));
        assert_eq!(work(&state, now), []);
    }

    #[test]
    fn what_a_registry_did_not_answer_is_asked_again_after_a_while_and_not_before() {
        let (mut state, now) = (State::default(), Instant::now());
        succeeded(&mut state, 8);
        state.built.insert(1, Built { pipeline: 7, on_new: Some(true), words: String::new(), since: 0 });
        let pipeline = unanswered(&mut state, 1, now);
        assert_eq!(pipeline, 7, "the success is not looked at yet");
        state.built.insert(1, Built { pipeline, on_new: None, words: "no answer".to_owned(), since: 0 });
        let second = Duration::from_secs(1);
        assert_eq!(work(&state, now + AGAIN - second), []);
        // Another success meanwhile is no reason to ask sooner.
        succeeded(&mut state, 9);
        assert_eq!(work(&state, now + AGAIN - second), []);
        assert_eq!(work(&state, now + AGAIN), [(1, 9)]);
        // And again, as often as it does not answer.
        unanswered(&mut state, 1, now + AGAIN);
        assert_eq!(work(&state, now + AGAIN + second), []);
        assert_eq!(work(&state, now + AGAIN + AGAIN), [(1, 9)]);
    }
}
