//! What registries have said and the database did not take: it is kept in memory and written again from time to time. No registry is asked
//! once more for it: a full disk must not become a flood of requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::Controller;
use crate::chain::facts::ProjectId;
use crate::store::{Built, ImageLook, NewDigest};

/// How long until it is written again.
const AGAIN: Duration = Duration::from_secs(30);

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Unsaved {
    /// Looks at images, which count when they are on record and not before.
    looks: BTreeMap<String, (ImageLook, Option<NewDigest>)>,
    /// Projects of which it is known what they were built on, and not on record.
    built: BTreeSet<ProjectId>,
    /// Before that nothing is written.
    again: Option<Instant>,
}

impl Unsaved {
    /// Whether a look at an image waits; until then it is not looked up.
    pub(super) fn has_look(&self, name: &str) -> bool {
        self.looks.contains_key(name)
    }

    pub(super) fn add_look(&mut self, name: &str, look: ImageLook, new: Option<NewDigest>) {
        self.looks.insert(name.to_owned(), (look, new));
    }

    pub(super) fn add_built(&mut self, id: ProjectId) {
        self.built.insert(id);
    }

    /// Forgets looks at images that nobody builds on any more.
    pub(super) fn forget_looks(&mut self, is_gone: impl Fn(&str) -> bool) {
        self.looks.retain(|name, _| !is_gone(name));
    }

    /// The database takes nothing now.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.again = Some(now + AGAIN);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.again.is_none_or(|again| again <= now)
    }
}

impl Controller {
    /// Writes what could not be written before, until something fails again.
    pub(super) async fn save_again(&self) {
        let (looks, built) = {
            let state = self.state();
            if !state.unsaved.is_due(Instant::now()) {
                return;
            }
            (state.unsaved.looks.clone(), state.unsaved.built.clone())
        };
        for (name, (look, new)) in looks {
            if !self.keep_look(&name, look, new).await {
                return;
            }
        }
        for id in built {
            let built = self.state().built.get(&id).cloned();
            let Some(built) = built else { continue };
            if !self.keep_built(id, built).await {
                return;
            }
        }
    }

    /// Puts a look at an image on record, and after that makes of it what is to be made of it; whether that was possible.
    pub(super) async fn keep_look(&self, name: &str, look: ImageLook, new: Option<NewDigest>) -> bool {
        let success = match self.store.save_look(name, &look, new.as_ref()).await {
            Ok(success) => success,
            Err(error) => {
                tracing::error!("{error:#}");
                let mut state = self.state();
                state.unsaved.add_look(name, look, new);
                state.unsaved.postpone(Instant::now());
                return false;
            }
        };
        let begun = {
            let mut state = self.state();
            state.unsaved.looks.remove(name);
            state.looks.insert(name.to_owned(), look);
            success.map(|success| state.facts.observe_image(name, success))
        };
        if let Some(begun) = begun {
            // A crash before that: the next start begins with the same (`Facts::begin_edges`).
            self.save_or_say(begun).await;
            self.work.notify_one();
        }
        if let Some(new) = new.filter(|new| new.moved) {
            tracing::info!(image = name, digest = new.seen.platform_digest.as_str(), "has moved");
        }
        true
    }

    /// Notes what a project was built on, which counts from now on, and puts it on record; whether that did not fail.
    pub(super) async fn keep_built(&self, id: ProjectId, built: Built) -> bool {
        let saved = self.store.save_built(id, &built).await;
        let mut state = self.state();
        state.built.insert(id, built);
        match saved {
            Ok(true) => drop(state.unsaved.built.remove(&id)),
            // It was found just now, and is not on record itself yet; or it is gone.
            Ok(false) if state.facts.projects.contains_key(&id) => state.unsaved.add_built(id),
            Ok(false) => drop(state.unsaved.built.remove(&id)),
            Err(error) => {
                tracing::error!("{error:#}");
                state.unsaved.add_built(id);
                state.unsaved.postpone(Instant::now());
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_did_not_take_is_written_again_after_a_while_and_not_before() {
        let mut unsaved = Unsaved::default();
        let now = Instant::now();
        assert!(unsaved.is_due(now));
        unsaved.add_look("r.example.com/x:1", ImageLook::default(), None);
        unsaved.postpone(now);
        assert!(unsaved.has_look("r.example.com/x:1") && !unsaved.has_look("r.example.com/y:1"));
        assert!(!unsaved.is_due(now + AGAIN / 2) && unsaved.is_due(now + AGAIN));
        unsaved.forget_looks(|name| name.ends_with("x:1"));
        assert!(!unsaved.has_look("r.example.com/x:1"));
    }
}
