//! config: a slot and a lease for a job.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Context;

use super::past::Moment;
use super::places::Place;
use super::record::{LeaseId, Record, unix_time};
use super::recording::Unleased;
use super::slots::Slot;
use super::{BUILDS_DIR, CACHE_DIR, Executor, Failure, JobLog, Lease};
use crate::config::Profile;
use crate::job::{Job, Secret, policy};
use crate::protocol::daemon::{Configured, ProcessId};

/// Jobs that wait for a slot.
pub type Waiting = Mutex<BTreeMap<LeaseId, Waiter>>;

/// A job that waits for a slot.
#[derive(Debug, Clone)]
pub struct Waiter {
    /// The job.
    pub job: Job,
    /// Its profile.
    pub profile: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// When it fails, in seconds since 1970.
    pub until: u64,
    /// Where it is a job of its own project that has to end first: how many may run at once, and the rule that says so.
    pub place: Option<(u32, String)>,
}

/// For what a job of a profile waits. `place`: where it is a job of its own project that has to end first, how many may run at once and the
/// rule that says so; `slots` is how many the profile has, `holders` names the jobs that have them.
pub fn waits_for(place: Option<&(u32, String)>, drained: bool, profile: &str, slots: usize, holders: &str) -> String {
    match (place, slots) {
        _ if drained => "this host to take new jobs again (windlass undrain)".to_owned(),
        (Some((most, rule)), _) => {
            format!("another job of its project to end: {most} may run at once (max_slots of {rule})")
        }
        (None, 0) => format!("a slot of profile {profile}, which has none any more"),
        (None, slots) => format!("a slot of profile {profile}: all {slots} are in use (by job {holders})"),
    }
}

/// The profile that the top level of the configuration is.
const DEFAULT_PROFILE: &str = "default";

impl Executor {
    /// Asks GitLab whether a job is what its response says, where the administrator wants that.
    ///
    /// # Errors
    /// When it is not, or GitLab can't be asked.
    pub async fn verify(&self, job: &Job, token: &Secret) -> Result<(), Failure> {
        match &self.gitlab {
            Some(gitlab) if self.settings().gitlab.verify_jobs => gitlab.verify(job, token).await.map_err(|refused| {
                tracing::warn!(job = job.id, project = %job.project_path, "refused: {}", refused.0);
                Failure::system(refused.0)
            }),
            _ => Ok(()),
        }
    }

    /// Leases a slot for a job; waits for one as long as the profile says.
    ///
    /// # Errors
    /// When there is no such profile, no slot came free in time, or the lease can't be recorded.
    pub async fn lease_for(
        self: &Arc<Self>,
        profile: Option<&str>,
        job: Job,
        runner: ProcessId,
        directory: Option<PathBuf>,
        log: &JobLog,
    ) -> Result<Arc<Lease>, Failure> {
        let name = profile.unwrap_or(DEFAULT_PROFILE);
        let settings = self.settings();
        let profile = settings.profiles.get(name).ok_or_else(|| {
            let known: Vec<&str> = settings.profiles.keys().map(String::as_str).collect();
            Failure::system(format!(
                "the runner's config_args name the profile {name:?}, which windlass.toml lacks; there are: {}",
                known.join(", ")
            ))
        })?;
        if profile.slots == 0 {
            let message = format!("the profile {name:?} has no slots: its `slots` is 0 in windlass.toml of this host");
            return Err(Failure::system(message));
        }
        self.end_leases_of(&job, runner, "gitlab-runner tries the job again");
        let id = LeaseId::random()?;
        let unleased = Unleased::new(self, &job, name);
        let came = unleased.came;
        let leasing = async {
            let slot = self.take_slot(&id, name, profile, &job, log).await?;
            let mut record = Record::new(id.clone(), job.clone(), name, &profile.job, slot.index, runner);
            (record.past.came, record.past.waited_ms) = (Some(came), Moment::now().since(came));
            record.directory = directory.filter(|path| path.is_absolute() && path.is_dir());
            let lease = Arc::new(Lease::new(record, &self.leases_dir(), Some(slot)));
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(&lease.directory)
                .with_context(|| format!("make the directory {}", lease.directory.display()))?;
            lease.update(|_| ())?;
            Ok(lease)
        };
        let lease = match leasing.await {
            Ok(lease) => lease,
            Err(failure) => {
                unleased.failed(&failure);
                return Err(failure);
            }
        };
        self.leases().insert(lease.id.clone(), Arc::clone(&lease));
        unleased.leased();
        self.watch(&lease);
        let record = lease.record();
        let (job, slot) = (&record.job, record.slot);
        lease.span.in_scope(|| {
            tracing::info!(lease = %lease.id, profile = name, "job {} of {} has slot {name}/{slot}", job.id, job.project_path);
        });
        Ok(lease)
    }

    async fn take_slot(
        &self,
        id: &LeaseId,
        name: &str,
        profile: &Profile,
        job: &Job,
        log: &JobLog,
    ) -> Result<Slot, Failure> {
        let rule = policy::rule_for(&profile.job.policy, &job.project_path).map_err(Failure::system)?;
        let project = format!("{} {}", job.instance, job.project_id);
        let places = rule.max_slots.map(|most| (most, self.slots.of_project(name, &project, most)));
        // A job that waits for its own project's place waits for no slot yet, so it stands in nobody's way.
        let place = places.as_ref().and_then(|(_, places)| places.try_take());
        if (places.is_none() || place.is_some())
            && let Some(slot) = self.slots.try_take(name, id).filter(|_| self.drain.now().is_none())
        {
            return Ok(slot.with_project(place));
        }
        let since = unix_time();
        let until = since.saturating_add(profile.slot_wait.as_secs());
        let waits = places.as_ref().filter(|_| place.is_none()).map(|(most, _)| (*most, rule.name.to_string()));
        let waiter = Waiter { job: job.clone(), profile: name.to_owned(), since, until, place: waits };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), waiter);
        let _listed = Listed { executor: self, id };
        self.changed.notify_one();
        let wait = humantime::format_duration(profile.slot_wait);
        let drained = self.drain.now().is_some();
        match &places {
            _ if drained => log.line(format!("Waiting until this host takes new jobs again (windlass drain), up to {wait}")),
            Some((most, _)) if place.is_none() => log.line(format!(
                "Waiting for another job of this project to end, up to {wait}: {most} may run at once (max_slots of {})",
                rule.name
            )),
            _ => log.line(format!(
                "Waiting for a free slot, up to {wait}: all {} of profile {name} are in use (by job {})",
                profile.slots,
                self.holders(name)
            )),
        }
        let since = Instant::now();
        let turn = async {
            let place = match (place, places) {
                (None, Some((_, places))) => {
                    let place = places.take().await;
                    if let Some(waiter) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
                        waiter.place = None;
                    }
                    place
                }
                (place, _) => place,
            };
            // Looked at with the slot in hand: whoever waits for a drained host to be idle sees this slot taken, or this looks later.
            loop {
                self.drain.over().await;
                let slot = self.slots.take(name, id).await?;
                if self.drain.now().is_none() {
                    return Some(slot.with_project(place));
                }
            }
        };
        let Ok(Some(slot)) = tokio::time::timeout(profile.slot_wait, turn).await else {
            if let Some(drained) = self.drain.now() {
                let since = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(drained.since));
                return Err(Failure::system(format!(
                    "this host takes no new jobs since {since}, and that did not end within {wait}: see `windlass undrain`; a runner that is paused in GitLab is given none"
                )));
            }
            return Err(Failure::system(format!(
                "no slot of profile {name} came free within {wait}; `slots`, `max_slots` and `slot_wait` in windlass.toml, and `concurrent` or `limit` in the runner's config.toml, decide how many jobs come at once"
            )));
        };
        log.line(format!(
            "Got slot {} after {}",
            slot.index,
            humantime::format_duration(Duration::from_secs(since.elapsed().as_secs()))
        ));
        Ok(slot)
    }

    /// The place of its project that an adopted lease goes on holding.
    pub(super) fn place_of(&self, record: &Record) -> Option<Place> {
        let (job, rules) = (&record.job, &record.settings.policy);
        let most = policy::rule_for(rules, &job.project_path).ok()?.max_slots?;
        let project = format!("{} {}", job.instance, job.project_id);
        Some(self.slots.of_project(&record.profile, &project, most).take_anyway())
    }

    /// The jobs that hold a profile's slots.
    pub(super) fn holders(&self, profile: &str) -> String {
        let records = self.all_leases().into_iter().map(|lease| lease.record());
        let holders = records
            .filter(|record| record.profile == profile && !record.is_kept())
            .map(|record| record.job.id.to_string());
        holders.collect::<Vec<_>>().join(", ")
    }

    /// What gitlab-runner is told about a lease.
    #[must_use]
    pub fn configured(&self, lease: &Lease) -> Configured {
        let record = lease.record();
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        // It ends up between double quotes in a shell script.
        let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || "-._".contains(*c)).collect();
        Configured {
            lease: record.id.secret().to_owned(),
            builds_dir: BUILDS_DIR.to_owned(),
            cache_dir: CACHE_DIR.to_owned(),
            hostname: format!("{host}, slot {} of profile {}", record.slot, record.profile),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Ends what a runner's earlier attempts at a job left: attempts come one after the other.
    pub fn end_leases_of(self: &Arc<Self>, job: &Job, runner: ProcessId, reason: &str) {
        for lease in self.all_leases() {
            let record = lease.record();
            if !record.is_kept()
                && record.job.id == job.id
                && record.job.instance == job.instance
                && record.runner == runner
            {
                self.end(&lease, reason);
            }
        }
    }
}

/// Takes a job out of the list of those that wait, however its waiting ends.
struct Listed<'a> {
    executor: &'a Executor,
    id: &'a LeaseId,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.executor.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(self.id);
        self.executor.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_what_keeps_the_job() {
        let of = |place, drained, slots, holders| waits_for(place, drained, "big", slots, holders);
        assert_eq!(of(None, false, 2, "7, 8"), "a slot of profile big: all 2 are in use (by job 7, 8)");
        assert_eq!(of(None, false, 0, ""), "a slot of profile big, which has none any more");
        let place = (1, "group/*".to_owned());
        // Whether a slot is free or not: it is the other job that has to end.
        assert!(of(Some(&place), false, 2, "7").contains("1 may run at once (max_slots of group/*)"));
        assert!(of(Some(&place), true, 2, "7").contains("windlass undrain"));
    }
}
