//! The chain's controller: keeps what is known of the projects true, and acts on what `chain` decides from it.
//!
//! Two loops. One looks at everything on a timer (`sync`), the other at projects of which an event came, and makes a pass after each
//! change (`work`). Neither needs the other: what one misses, the other finds.

mod ages;
mod audit;
mod bases;
mod commands;
mod counts;
mod doubt;
mod feed;
mod hooks;
mod look;
mod notify;
pub(crate) mod patterns;
mod record;
mod scan;
mod schedule;
mod secrets;
mod start;
mod state;
mod sync;
mod unsaved;
mod view;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::Notify;
use tokio::sync::watch::{Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::chain::facts::ProjectId;
use crate::config::{ChainSettings, Settings, WebhookSettings};
use crate::gitlab::Client;
use crate::loops;
use crate::registry::Registry;
use crate::store::{NewEvent, Store};
use state::State;

pub use commands::SYNC_MAX;
pub use counts::ImageCounts;
pub use feed::{Feed, News, Place, Unheard};
pub use secrets::HookSecrets;

/// How long until the next pass while something is due that only time brings on.
const SOON: Duration = Duration::from_secs(1);
/// How long until the next pass while nothing is.
const LATER: Duration = Duration::from_secs(30);
/// How often the pipelines that the chain has started are looked at, should their events get lost.
const WATCH: Duration = Duration::from_secs(60);
/// Pause after a look at everything that did not work.
const AGAIN: Duration = Duration::from_secs(60);

/// The controller.
#[derive(Debug)]
pub struct Controller {
    settings: ChainSettings,
    webhook: WebhookSettings,
    gitlab: Arc<Client>,
    store: Arc<Store>,
    /// None: registries are asked nothing.
    registry: Option<Registry>,
    secrets: HookSecrets,
    feed: Arc<Feed>,
    state: Mutex<State>,
    /// Held from taking what is to be saved until it is saved: what is newer is written later.
    saving: tokio::sync::Mutex<()>,
    /// Something happened: there is work.
    work: Notify,
    /// Somebody wants everything to be looked at.
    sync: Notify,
    /// How many passes are over.
    passes: Sender<u64>,
    /// The name of the token's user, once it is known.
    username: tokio::sync::OnceCell<String>,
}

impl Controller {
    /// Takes up what is on record; asks GitLab nothing. None where the settings name no chain.
    ///
    /// # Errors
    /// When the database, the token or the webhook's secret are not to be had.
    pub async fn build(settings: &Settings, gitlab: Option<Arc<Client>>) -> Result<Option<Arc<Self>>> {
        if !settings.chain.is_on() {
            return Ok(None);
        }
        let gitlab = gitlab.context("[chain] needs url in [gitlab]")?;
        if !gitlab.has_token() {
            bail!(
                "[chain] needs a token for GitLab's API: put one with scope api and role Maintainer into a file (mode 0600) and name it as \
                 token_file in [gitlab], or hand it over as the systemd credential gitlab-token"
            );
        }
        let secrets = HookSecrets::read(&settings.webhook, &settings.state_dir)?;
        let store = Store::open(&settings.state_dir).await?;
        let mut state = State::load(&store).await?;
        state.looks = watch::load(&store, &settings.chain.watch.platform).await?;
        let registry = watch::registry(settings)?;
        let feed = Arc::new(Feed::load(&store).await?);
        Ok(Some(Arc::new(Self {
            settings: settings.chain.clone(),
            webhook: settings.webhook.clone(),
            gitlab,
            store: Arc::new(store),
            registry,
            secrets,
            feed,
            state: Mutex::new(state),
            saving: tokio::sync::Mutex::new(()),
            work: Notify::new(),
            sync: Notify::new(),
            passes: Sender::new(0),
            username: tokio::sync::OnceCell::new(),
        })))
    }

    /// The webhook's secrets.
    #[must_use]
    pub fn secrets(&self) -> &HookSecrets {
        &self.secrets
    }

    /// What tells of what was built.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the lock on what is known was had once.
    pub fn touch(&self) {
        drop(self.state());
    }

    /// Changes with each pass that is over. Who looks again after each change misses none, however long a look takes.
    #[must_use]
    pub fn passes(&self) -> Receiver<u64> {
        self.passes.subscribe()
    }

    /// Stores events that have come. They are on the disk when this returns.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn take_events(&self, mut events: Vec<NewEvent>) -> Result<()> {
        for new in &mut events {
            new.verdict = self.verdict(new.event.project, |tracked| new.event.is_aside(tracked));
        }
        let verdicts = self.store.add_events(&events).await?;
        let mut state = self.state();
        for (new, verdict) in events.iter().zip(verdicts) {
            self.gitlab.metrics().event_stored(verdict.is_some());
            if state.about.contains_key(&new.event.project) {
                state.noted.count(new.event.project);
            }
            if verdict.is_none() {
                state.dirty.insert(new.event.project);
                self.work.notify_one();
            }
        }
        Ok(())
    }

    /// Why nobody has to look at a project because of an event.
    fn verdict(&self, project: ProjectId, aside: impl Fn(&str) -> Option<&'static str>) -> Option<String> {
        let state = self.state();
        match state.about.get(&project) {
            None => Some("of a project that is not in the chain".to_owned()),
            Some(about) if state.absent.contains_key(&project) => {
                Some(format!("{} is not in the chain any more", about.path))
            }
            // Without a branch nothing of it counts; somebody looks, to be sure.
            Some(about) => aside(self.tracked(about)?).map(str::to_owned),
        }
    }

    /// Looks at projects of which events came, and makes a pass after each change; until the shutdown.
    pub async fn work_forever(self: Arc<Self>, shutdown: CancellationToken) {
        self.take_up().await;
        let mut watched = tokio::time::Instant::now();
        loop {
            let working = async {
                self.look_at_dirty().await;
                if watched.elapsed() >= WATCH {
                    self.watch().await;
                    watched = tokio::time::Instant::now();
                }
                self.kick_off().await;
                self.pass().await
            };
            let is_soon = tokio::select! {
                // What a request in flight has done is looked up at the next start.
                () = shutdown.cancelled() => return,
                is_soon = working => is_soon,
            };
            self.passes.send_modify(|passes| *passes += 1);
            let pause = if is_soon { SOON } else { LATER };
            let due = async {
                tokio::select! {
                    () = self.work.notified() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = loops::rest(due) => {}
            }
        }
    }

    /// Looks at everything on a timer, and when somebody wants it; until the shutdown.
    pub async fn sync_forever(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let worked = tokio::select! {
                () = shutdown.cancelled() => return,
                worked = self.sync() => worked,
            };
            self.work.notify_one();
            let interval = if worked { self.settings.interval } else { self.settings.interval.min(AGAIN) };
            // Up to a tenth by chance: several hosts' timers shall not go together.
            let chance = fastrand::u64(0..=u64::try_from(interval.as_millis() / 10).unwrap_or(0));
            let due = async {
                tokio::select! {
                    () = self.sync.notified() => {}
                    () = tokio::time::sleep(interval + Duration::from_millis(chance)) => {}
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = loops::rest(due) => {}
            }
        }
    }
}
