//! Images that no project builds: each is looked up in its registry from time to time. One that has moved is a success like any other.
//!
//! When each is looked up next is on record, and so is what was found, before anything is made of it: a restart loses nothing and repeats
//! nothing. A registry that does not answer makes nothing stale.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt as _};
use tokio_util::sync::CancellationToken;

use super::Controller;
use super::hooks::host_now;
use super::patterns::Images;
use super::state::State;
use crate::chain::facts::{Time, Upstream};
use crate::config::{Settings, WatchSettings};
use crate::job::ImageRef;
use crate::loops;
use crate::registry::{Platform, Registry, RegistryError, RegistrySettings};
use crate::store::{ImageLook, ImageSeen, NewDigest, Store};

/// Registries that are asked at once.
const REGISTRIES_AT_ONCE: usize = 16;
/// Most images that are watched.
const IMAGES_MAX: usize = 10_000;
/// Longest pause between two looks at what is due.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Shortest pause.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// What part of the interval passes until an image is looked up again whose registry did not answer.
const SOONER: u32 = 6;
/// The setting with the platform that the digests on record are of.
const PLATFORM: &str = "platform";

/// The registries' client; none where registries are asked nothing.
pub(super) fn registry(settings: &Settings) -> anyhow::Result<Option<Registry>> {
    let watch = &settings.chain.watch;
    if !watch.enabled {
        return Ok(None);
    }
    let plain = RegistrySettings {
        auth_file: watch.auth_file.clone(),
        at_once: usize::try_from(watch.concurrency).unwrap_or(1),
        ..RegistrySettings::default()
    };
    let settings = plain.clone().with_environment(&settings.podman.environment).unwrap_or_else(|error| {
        // Some registry is not asked as it has to be: no reason to start nothing at all.
        tracing::warn!("which registries are insecure is not known: {error:#}");
        plain
    });
    Registry::new(settings).map(Some)
}

/// What is on record of images. Digests of another platform say nothing of this one's.
pub(super) async fn load(store: &Store, platform: &Platform) -> anyhow::Result<BTreeMap<String, ImageLook>> {
    let mut looks = store.looks().await?;
    let now = platform.to_string();
    if store.setting(PLATFORM).await?.is_some_and(|before| before != now) {
        for look in looks.values_mut() {
            (look.seen, look.next_at) = (None, 0);
        }
    }
    store.set(PLATFORM, &now).await?;
    Ok(looks)
}

/// What a registry has said in a round that keeps the others of its images from being asked for.
type Trouble = Mutex<Option<RegistryError>>;

impl Controller {
    /// Looks images up when it is time, and at what was built on which of them; until the shutdown.
    pub async fn watch_forever(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(registry) = &self.registry else { return loops::rest(shutdown.cancelled()).await };
        let mut passes = self.passes();
        loop {
            passes.mark_unchanged();
            let working = async {
                let next = self.look_at_images(registry).await;
                self.check_bases(registry).await;
                next
            };
            let next = tokio::select! {
                () = shutdown.cancelled() => return,
                next = working => next,
            };
            let due = async {
                tokio::select! {
                    _ = passes.changed() => {}
                    () = tokio::time::sleep(next) => {}
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = loops::rest(due) => {}
            }
        }
    }

    /// Looks up what is due; how long until the next is.
    async fn look_at_images(&self, registry: &Registry) -> Duration {
        self.save_again().await;
        let watched = self.watched();
        self.forget_images(&watched).await;
        let now = host_now();
        let mut due: BTreeMap<String, Vec<ImageRef>> = BTreeMap::new();
        {
            let state = self.state();
            let is_due = |name: &&String| {
                !state.unsaved.has_look(name)
                    && state.looks.get(*name).is_none_or(|look| is_due(look, now, &self.settings.watch))
            };
            for name in watched.iter().filter(is_due) {
                let Ok(image) = ImageRef::try_from(name.clone()) else { continue };
                due.entry(image.registry().to_owned()).or_default().push(image);
            }
        }
        let mut work: Vec<BoxFuture<'_, ()>> = Vec::new();
        for images in due.into_values() {
            work.push(Box::pin(self.look_at_registry(registry, images)));
        }
        stream::iter(work).buffer_unordered(REGISTRIES_AT_ONCE).collect::<Vec<()>>().await;
        let now = host_now();
        let state = self.state();
        let waits = |name: &&String| !state.unsaved.has_look(name);
        pause(watched.iter().filter(waits).filter_map(|name| state.looks.get(name)).map(|look| look.next_at), now)
    }

    /// The images that are watched, by their full names.
    pub(super) fn watched(&self) -> BTreeSet<String> {
        if self.registry.is_none() {
            return BTreeSet::new();
        }
        let patterns = Images::of(&self.settings.watch);
        let state = self.state();
        let edges = state.facts.projects.values().flat_map(|project| &project.edges).filter(|edge| !edge.pinned);
        let images = edges.filter_map(|edge| match &edge.upstream {
            Upstream::Image(name) if patterns.has(name) => Some(name.clone()),
            _ => None,
        });
        images.collect::<BTreeSet<String>>().into_iter().take(IMAGES_MAX).collect()
    }

    /// Forgets what nobody builds on any more, and what is watched no more. Of a project that is not in the list just now, nothing is forgotten.
    async fn forget_images(&self, watched: &BTreeSet<String>) {
        let gone: Vec<String> = {
            let state = self.state();
            let absent = state.absent.values().flat_map(|project| &project.edges);
            let kept: BTreeSet<&String> = absent
                .filter_map(|edge| match &edge.upstream {
                    Upstream::Image(name) => Some(name),
                    Upstream::Project(_) => None,
                })
                .collect();
            state.looks.keys().filter(|name| !watched.contains(*name) && !kept.contains(name)).cloned().collect()
        };
        self.state().unsaved.forget_looks(|name| !watched.contains(name));
        if gone.is_empty() {
            return;
        }
        match self.store.forget_images(&gone).await {
            Ok(()) => {
                let mut state = self.state();
                for name in gone {
                    state.looks.remove(&name);
                    state.facts.images.remove(&name);
                }
            }
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    async fn look_at_registry(&self, registry: &Registry, images: Vec<ImageRef>) {
        let trouble = Trouble::default();
        let at_once = usize::try_from(self.settings.watch.concurrency).unwrap_or(1);
        let mut work: Vec<BoxFuture<'_, ()>> = Vec::new();
        for image in images {
            work.push(Box::pin(self.look_at_image(registry, image, &trouble)));
        }
        stream::iter(work).buffer_unordered(at_once).collect::<Vec<()>>().await;
    }

    async fn look_at_image(&self, registry: &Registry, image: ImageRef, trouble: &Trouble) {
        let name = image.as_str();
        let known = self.state().looks.get(name).cloned();
        let is_first = known.is_none();
        let mut look = known.unwrap_or_default();
        let before = trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found = match before {
            Some(error) => Err(error),
            None => self.find_digest(registry, &image, look.seen.as_ref()).await,
        };
        let now = self.gitlab.now();
        let every = self.settings.watch.every;
        let new = match found {
            Ok(seen) => {
                (look.looked_at, look.failed_since, look.error) = (Some(now), None, None);
                // The first looks come all at once; the next are spread over the interval.
                let pause = if is_first { by_chance(every, 10, 100) } else { by_chance(every, 90, 110) };
                look.next_at = host_now() + pause;
                self.news(name, &mut look, seen, now)
            }
            Err(error) => {
                if error.is_about_registry() {
                    trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
                }
                look.failed_since.get_or_insert(now);
                let pause = match &error {
                    RegistryError::Limited { wait, .. } => {
                        by_chance(*wait, 101, 110).max(by_chance(every / SOONER, 90, 110))
                    }
                    _ => by_chance(every / SOONER, 90, 110),
                };
                look.next_at = host_now() + pause;
                let words = match &error {
                    // Without the time, which is another for each image.
                    RegistryError::Limited { registry, .. } => format!("{registry}: has had enough requests for now"),
                    error => error.to_string(),
                };
                if look.error.as_ref() != Some(&words) {
                    tracing::warn!(image = name, "look it up: {words}");
                }
                look.error = Some(words);
                None
            }
        };
        self.keep_look(name, look, new).await;
    }

    /// What a name stands for now: one request, and another where it is an index that nobody has seen yet.
    async fn find_digest(
        &self,
        registry: &Registry,
        image: &ImageRef,
        known: Option<&ImageSeen>,
    ) -> Result<ImageSeen, RegistryError> {
        let head = registry.head(image).await?;
        if let Some(known) = known.filter(|known| known.digest == head.digest) {
            return Ok(known.clone());
        }
        let platform_digest = registry.platform_digest(image, &head, &self.settings.watch.platform).await?;
        Ok(ImageSeen { digest: head.digest, platform_digest })
    }

    /// Takes in what a name stands for; what is new about that, if anything.
    fn news(&self, name: &str, look: &mut ImageLook, seen: ImageSeen, now: Time) -> Option<NewDigest> {
        if look.seen.as_ref() == Some(&seen) {
            return None;
        }
        let moved = look.seen.as_ref().is_some_and(|before| before.platform_digest != seen.platform_digest);
        // What is seen for the first time is where everybody begins.
        let is_first = look.seen.is_none() && !self.state().facts.images.contains_key(name);
        if look.seen.is_none() && look.moves.since == 0 {
            look.moves.since = now;
        }
        if moved {
            look.moves.add(now);
        }
        look.seen = Some(seen.clone());
        Some(NewDigest { seen, moved, at: now, counts: is_first || (moved && self.settings.watch.rebuild) })
    }
}

/// How long until the first of these times, within bounds.
fn pause(times: impl Iterator<Item = Time>, now: Time) -> Duration {
    let Some(next) = times.min() else { return PAUSE_MAX };
    Duration::from_millis(u64::try_from(next - now).unwrap_or(0)).clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Whether an image is to be looked up. A next time that lies too far ahead is of a clock that was set back.
fn is_due(look: &ImageLook, now: Time, settings: &WatchSettings) -> bool {
    let longest = millis(settings.every) * 2;
    // A registry may have asked for a longer pause than that; it says so again.
    look.next_at <= now || look.next_at > now + longest.max(24 * 3600 * 1000)
}

fn millis(time: Duration) -> Time {
    Time::try_from(time.as_millis()).unwrap_or(Time::MAX / 1000)
}

/// A part of a time between these hundredths of it, by chance, in milliseconds.
fn by_chance(time: Duration, from: i64, to: i64) -> Time {
    millis(time) / 100 * fastrand::i64(from..=to) + fastrand::i64(0..=100)
}

impl State {
    /// What registries don't answer, each trouble once, for people.
    pub(super) fn image_troubles(&self) -> Vec<String> {
        let mut troubles: BTreeMap<&str, usize> = BTreeMap::new();
        for error in self.looks.values().filter_map(|look| look.error.as_deref()) {
            *troubles.entry(error).or_default() += 1;
        }
        let words = |(error, count): (&str, usize)| match count {
            1 => format!("not looked up: {error}"),
            count => format!("{count} images not looked up: {error}"),
        };
        troubles.into_iter().map(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_round_comes_with_the_first_that_is_due_and_soon_enough_for_new_images() {
        assert_eq!(pause([9_000, 4_000].into_iter(), 1_000), Duration::from_secs(3));
        assert_eq!(pause([500].into_iter(), 1_000), PAUSE_MIN);
        assert_eq!(pause([Time::MAX].into_iter(), 1_000), PAUSE_MAX);
        assert_eq!(pause(std::iter::empty(), 1_000), PAUSE_MAX, "none of which anybody knows when");
    }

    #[test]
    fn looks_are_spread_and_none_is_lost_to_a_clock() {
        let settings = crate::config::parse(std::path::Path::new("w.toml"), "").expect("valid").chain.watch;
        let at = |next_at| ImageLook { next_at, ..ImageLook::default() };
        let now = 1_000_000_000;
        assert!(is_due(&at(0), now, &settings) && is_due(&at(now), now, &settings));
        assert!(!is_due(&at(now + 3_600_000), now, &settings));
        assert!(is_due(&at(now + 100 * 3_600_000), now, &settings), "the clock was set back");
        for _ in 0..1000 {
            let pause = by_chance(Duration::from_secs(1000), 90, 110);
            assert!((900_000..=1_100_100).contains(&pause), "{pause}");
        }
    }
}
