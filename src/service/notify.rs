//! What systemd is told of the daemon (sd_notify(3)): that it is ready, what it does, that it is alive. Where there is no systemd, nobody hears it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::parts::Parts;
use crate::controller::Controller;
use crate::executor::{Executor, Load};
use crate::loops::{self, Loops};

/// How often free space is looked at.
const SPACE_LOOK: Duration = Duration::from_secs(5);

/// A part of the status line; they are shown in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// How busy the slots are.
    Slots,
    /// Where space is short.
    Space,
    /// What the image chain does.
    Chain,
    /// What has come of the last change of the configuration.
    Configuration,
}

/// The line that `systemctl status` shows: what each part of the daemon has to say.
#[derive(Debug, Default)]
pub struct StatusLine {
    parts: Mutex<BTreeMap<Part, String>>,
}

impl StatusLine {
    /// What a part has to say now; none: nothing.
    pub fn say(&self, part: Part, words: Option<String>) {
        let mut parts = self.parts();
        let before = match words.clone() {
            Some(words) => parts.insert(part, words),
            None => parts.remove(&part),
        };
        if before != words {
            // Still under the lock, so that the last word is the last that is told.
            tell(&[NotifyState::Status(&line(&parts))]);
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<Part, String>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(parts: &BTreeMap<Part, String>) -> String {
    parts.values().map(String::as_str).collect::<Vec<_>>().join("; ")
}

/// It is about to start.
pub fn starting() {
    tell(&[NotifyState::Status("starting: taking up what runs")]);
}

/// It serves, for the first time or after a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It reads its configuration again.
pub fn reloading() {
    // Without the time systemd would not know which of its requests this answers (notify-reload).
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!("read the clock: {error}"),
    }
}

/// It ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ending: running jobs go on")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("tell systemd: {error}");
    }
}

/// Keeps the slots' part of the line true until the shutdown.
pub async fn announce_slots(executor: Arc<Executor>, line: Arc<StatusLine>, shutdown: CancellationToken) {
    loop {
        line.say(Part::Slots, Some(words(executor.load())));
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = loops::rest(executor.changed()) => {}
        }
    }
}

/// Keeps the word on free space true until the shutdown.
pub async fn announce_space(executor: Arc<Executor>, line: Arc<StatusLine>, shutdown: CancellationToken) {
    loop {
        line.say(Part::Space, executor.space_in_short());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = loops::rest(tokio::time::sleep(SPACE_LOOK)) => {}
        }
    }
}

/// Keeps the chain's part of the line true until the shutdown.
pub async fn announce_chain(chain: Arc<Controller>, line: Arc<StatusLine>, shutdown: CancellationToken) {
    let mut passes = chain.passes();
    loop {
        line.say(Part::Chain, Some(format!("chain: {}", chain.in_short())));
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = loops::rest(passes.changed()) => {}
        }
    }
}

fn words(load: Load) -> String {
    let Load { slots, busy, waiting, drained } = load;
    let prefix = if drained { "drained: no new jobs; " } else { "" };
    let waiting = match waiting {
        0 => String::new(),
        1 => ", 1 job waits".to_owned(),
        more => format!(", {more} jobs wait"),
    };
    format!("{prefix}{busy}/{slots} slots busy{waiting}")
}

/// Tells systemd that the loop that has it works, as often as the unit's WatchdogSec= asks for. A daemon that is silent for longer
/// is restarted. Who asks for its health (`/healthz`) gets the same signs.
#[derive(Debug)]
pub struct Watchdog {
    ticks: Option<Interval>,
    health: Arc<Health>,
    loops: Loops,
    /// What was said last of loops that are late.
    said: Option<String>,
    /// For whom the next sign is.
    due: Sign,
    /// Whether the loop has failed since the last sign for each.
    failed: BTreeSet<Sign>,
}

/// Who gets a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    Systemd,
    Health,
}

impl Watchdog {
    /// The one that systemd asks this process for, if it does.
    #[must_use]
    pub fn wanted(health: &Arc<Health>, loops: &Loops) -> Self {
        Self::every(sd_notify::watchdog_enabled().map(|limit| limit / 3), health, loops)
    }

    fn every(pause: Option<Duration>, health: &Arc<Health>, loops: &Loops) -> Self {
        let ticks = pause.filter(|pause| !pause.is_zero()).map(|pause| {
            let mut ticks = tokio::time::interval(pause);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let (health, loops) = (Arc::clone(health), loops.clone());
        Self { ticks, health, loops, said: None, due: Sign::Health, failed: BTreeSet::new() }
    }

    /// Waits for the next time to tell. Cancelling this loses nothing.
    pub async fn due(&mut self) {
        let ticks = async {
            match &mut self.ticks {
                Some(ticks) => drop(ticks.tick().await),
                None => std::future::pending().await,
            }
        };
        self.due = tokio::select! {
            () = ticks => Sign::Systemd,
            () = self.health.asked() => Sign::Health,
        };
    }

    /// The loop could not do its work just now. One failure costs one sign of life; a loop that can't work at all gives none.
    pub fn failed(&mut self) {
        self.failed = BTreeSet::from([Sign::Systemd, Sign::Health]);
    }

    /// Gives a sign of life if all parts answer and all loops go on: this stands still where anything stands still that a job needs.
    pub fn beat(&mut self, parts: &Parts) {
        parts.touch();
        let late = self.loops.late();
        if let Some(words) = late {
            if self.said.is_none() {
                tracing::error!("{words}: no sign of life is given until it goes on; please report that");
            }
            self.said = Some(words);
            return;
        }
        self.said = None;
        if self.failed.remove(&self.due) {
            return;
        }
        match self.due {
            Sign::Systemd => tell(&[NotifyState::Watchdog]),
            Sign::Health => self.health.beat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_costs_the_daemon_its_signs_of_life() {
        let (health, parts) = (Arc::<Health>::default(), Parts::new(None, None, Vec::new()));
        let loops = Loops::new(TaskTracker::new(), CancellationToken::new());
        let limit = Duration::from_secs(60);
        loops.spawn("work", Some(limit), std::future::pending());
        let mut watchdog = Watchdog::every(None, &health, &loops);
        let taking = Arc::clone(&health);
        tokio::spawn(async move {
            loop {
                watchdog.due().await;
                watchdog.beat(&parts);
            }
        });
        assert!(health.is_alive().await);
        tokio::time::sleep(limit * 2).await;
        assert!(!taking.is_alive().await, "nothing is built any more");
    }

    #[test]
    fn the_line_has_what_each_part_says_in_their_order() {
        let status = StatusLine::default();
        status.say(Part::Configuration, Some("restart to take over podman".to_owned()));
        status.say(Part::Slots, Some("3/4 slots busy".to_owned()));
        assert_eq!(line(&status.parts()), "3/4 slots busy; restart to take over podman");
        status.say(Part::Configuration, None);
        assert_eq!(line(&status.parts()), "3/4 slots busy");
    }

    #[test]
    fn slots_that_are_no_more_count_as_busy() {
        let load = Load { slots: 4, busy: 3, waiting: 0, drained: false };
        assert_eq!(words(load), "3/4 slots busy");
        assert_eq!(words(Load { slots: 1, busy: 2, waiting: 1, ..load }), "2/1 slots busy, 1 job waits");
        assert_eq!(
            words(Load { busy: 0, waiting: 3, drained: true, ..load }),
            "drained: no new jobs; 0/4 slots busy, 3 jobs wait"
        );
    }
}
