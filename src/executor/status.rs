//! What `windlass status` shows.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, UNIX_EPOCH};

use super::leasing::waits_for;
use super::record::{Record, State};
use super::slots::Held;
use super::{Executor, Lease};
use crate::protocol::daemon::{DaemonStatus, LeaseStatus, SlotStatus, Status, Wait};

/// How busy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How many slots there are, by the configuration.
    pub slots: usize,
    /// How many are held; more than there are while leases have some that are no more.
    pub busy: usize,
    /// How many jobs wait for one.
    pub waiting: usize,
    /// Whether no new jobs are taken.
    pub drained: bool,
}

impl Executor {
    /// Slots and leases as they are now.
    #[must_use]
    pub fn status(&self) -> Status {
        let held = self.slots.list();
        let slots = held.iter().cloned().map(|held| SlotStatus {
            profile: held.profile,
            index: held.index,
            lease: held.lease.map(|id| id.short().to_owned()),
            goes: held.goes,
        });
        let mut leases: Vec<LeaseStatus> = self.all_leases().iter().map(|lease| lease_status(lease)).collect();
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (drained, mut holders) = (self.drain.now().is_some(), BTreeMap::new());
        for (id, waiter) in waiting {
            let own = |held: &&Held| held.profile == waiter.profile && !held.goes;
            let count = held.iter().filter(own).count();
            let holders = holders.entry(waiter.profile.clone()).or_insert_with(|| self.holders(&waiter.profile));
            let what = waits_for(waiter.place.as_ref(), drained, &waiter.profile, count, holders);
            leases.push(LeaseStatus {
                id: id.short().to_owned(),
                state: "waiting".to_owned(),
                profile: waiter.profile.clone(),
                slot: None,
                job_id: waiter.job.id,
                project_id: waiter.job.project_id,
                project_path: waiter.job.project_path.clone(),
                instance: waiter.job.instance.clone(),
                image: waiter.job.image.clone(),
                container: None,
                stage: None,
                since: date(waiter.since),
                stage_since: None,
                problem: None,
                held_until: None,
                steps: Vec::new(),
                waits: Some(Wait { what, until: date(waiter.until) }),
            });
        }
        leases.sort_by(|a, b| {
            (&a.profile, a.slot.is_none(), a.slot, &a.since).cmp(&(&b.profile, b.slot.is_none(), b.slot, &b.since))
        });
        let history = self.history().warning();
        Status {
            daemon: DaemonStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                started_at: humantime::format_rfc3339_seconds(self.started_at).to_string(),
                warnings: [
                    self.missing.get().cloned().unwrap_or_default(),
                    self.warnings(),
                    self.space_warnings(),
                    self.note().into_iter().chain(history).collect(),
                ]
                .concat(),
                drained_since: self.drain.now().map(|drained| date(drained.since)),
            },
            slots: slots.collect(),
            leases,
        }
    }

    /// How busy it is, in numbers.
    #[must_use]
    pub fn load(&self) -> Load {
        let slots = self.slots.list();
        Load {
            slots: slots.iter().filter(|held| !held.goes).count(),
            busy: slots.iter().filter(|held| held.lease.is_some()).count(),
            waiting: self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len(),
            drained: self.drain.now().is_some(),
        }
    }

    /// Waits until slots, waiting jobs or the drain have changed since this was last waited for. For one listener.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn note(&self) -> Option<String> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is configured and can't be had on this host.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.limits.warnings(&self.settings())
    }
}

fn lease_status(lease: &Lease) -> LeaseStatus {
    let record: Record = lease.record();
    let kept = record.hold.as_ref().filter(|hold| hold.kept && record.state != State::Ending);
    let state = match (record.state, &record.stage) {
        _ if kept.is_some() => "held",
        (State::Ready, Some(_)) => "running",
        (State::Ready, None) => "ready",
        (State::Leased, _) => "leased",
        (State::Preparing, _) => "preparing",
        (State::Ending, _) => "ending",
    };
    LeaseStatus {
        id: record.id.short().to_owned(),
        state: state.to_owned(),
        slot: (!record.is_kept()).then_some(record.slot),
        held_until: kept.map(|hold| super::keep::date(hold.until)),
        job_id: record.job.id,
        project_id: record.job.project_id,
        image: record.container.as_ref().map(|container| container.image.clone()).or(record.job.image),
        project_path: record.job.project_path,
        instance: record.job.instance,
        container: record.container.map(|container| container.name),
        since: date(record.since),
        stage_since: record.stage.as_ref().map(|stage| date(stage.since)),
        stage: record.stage.map(|stage| stage.name),
        profile: record.profile,
        problem: lease.problem(),
        steps: lease.steps.list(),
        waits: None,
    }
}

/// Seconds since 1970 as RFC 3339.
fn date(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
