//! Taking up what a daemon before this one left: leases that go on, and leftovers of those that don't.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tracing::Instrument;

use super::builds::Place;
use super::past::Cause;
use super::record::{LeaseId, Record, Role, State, is_of_later_release};
use super::{Executor, Lease};
use crate::lanes::{LaneId, Part};
use crate::podman::Found;
use crate::protocol::history::StageResult;

impl Executor {
    /// Whether an earlier daemon has left leases: they want to be ended, whatever the configuration says by now.
    #[must_use]
    pub fn has_left(run_dir: &Path) -> bool {
        std::fs::read_dir(run_dir.join("leases")).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Whether an earlier daemon, of a later release, has left leases that this one can't look after.
    ///
    /// # Errors
    /// When it has. Nothing is to be touched then: its jobs run on, and that release goes on with them.
    pub fn refuse_leases_of_later_release(run_dir: &Path) -> Result<()> {
        let directory = run_dir.join("leases");
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let later = entries.filter(|entry| is_of_later_release(&entry.path())).count();
        anyhow::ensure!(
            later == 0,
            "{later} lease(s) in {} were written by a later release of Windlass, and are left as they are with their jobs: install that \
             release again, and have it end them (windlass drain --wait) before you go back to this one",
            directory.display()
        );
        Ok(())
    }

    /// Adopts the leases on record. To be called once, before anybody can ask for anything.
    ///
    /// # Errors
    /// When the leases' directory can't be read, or podman does not answer: then nothing is known, and nothing is removed.
    pub async fn adopt(self: &Arc<Self>) -> Result<()> {
        let found = self.podman.containers(&self.label()).await.context("list this daemon's containers")?;
        let running: HashMap<&str, bool> =
            found.iter().map(|Found { name, running, .. }| (name.as_str(), *running)).collect();
        let directory = self.leases_dir();
        let entries = std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("read {}", directory.display()))?.path();
            match load(&path) {
                Ok(record) => self.adopt_one(record, &running),
                Err(error) => {
                    // Without a record nobody can call its stages; its containers go with the sweep.
                    tracing::warn!("removing a lease that can't be adopted: {error:#}");
                    if let Err(error) = std::fs::remove_dir_all(&path) {
                        tracing::warn!("remove {}: {error}", path.display());
                    }
                }
            }
        }
        self.settle_wishes();
        self.sweep_soon();
        Ok(())
    }

    fn adopt_one(self: &Arc<Self>, mut record: Record, running: &HashMap<&str, bool>) {
        if record.state == State::Preparing {
            // Its shim asks again. The container that was being made has another name than the next.
            record.state = State::Leased;
            record.forget_containers();
            super::auth::forget(&self.leases_dir().join(record.id.secret()));
        }
        let slot = (!record.is_kept())
            .then(|| self.slots.adopt(&record.profile, record.slot, &record.id).with_project(self.place_of(&record)));
        if let Some(lane) = &record.lane {
            let kept = (record.builds == Some(Place::Kept)).then(|| lane.part(Part::Storage));
            let used: Vec<LaneId> = [lane.builds(), lane.part(Part::Cache)].into_iter().chain(kept).collect();
            self.lanes.hold(&used, record.id.short());
        }
        let lease = Arc::new(Lease::new(record.clone(), &self.leases_dir(), slot));
        self.leases().insert(lease.id.clone(), Arc::clone(&lease));
        let _in = lease.span.enter();
        let job = &record.job;
        tracing::info!(lease = %lease.id, state = ?record.state, "job {} of {} goes on in slot {}", job.id, job.project_path, record.slot_name());
        if record.state == State::Ending {
            lease.begin_end(Cause::Over, "it was ending when the daemon was restarted");
            self.tear_down(&lease);
            return;
        }
        if record.is_kept() {
            let container = record.container.as_ref().map_or("", |container| container.name.as_str());
            if running.get(container) == Some(&true) {
                self.keep(&lease);
            } else {
                self.end(&lease, "its container ended while windlassd was away");
            }
            return;
        }
        for container in [&record.container, &record.helper].into_iter().flatten() {
            if running.get(container.name.as_str()) != Some(&true) {
                lease.set_broken(&format!("container {} ended while windlassd was away", container.name));
            }
        }
        self.watch(&lease);
        if record.stage.is_some() {
            self.await_shim(&lease);
        }
    }

    /// A stage ran when the last daemon ended. Its shim, if it lives, comes back; if it does not, nobody waits for the stage.
    fn await_shim(self: &Arc<Self>, lease: &Arc<Lease>) {
        let (executor, lease) = (Arc::clone(self), Arc::clone(lease));
        let span = lease.span.clone();
        let patience = self.settings().socket.daemon_wait.max(Duration::from_secs(10));
        let waiting = async move {
            tokio::select! {
                () = executor.shutdown.cancelled() => return,
                () = lease.ended.cancelled() => return,
                () = tokio::time::sleep(patience) => {}
            }
            // Whoever has come back holds the gate, or has closed its stage.
            if let Ok(_gate) = lease.gate.try_lock()
                && lease.record().stage.is_some()
            {
                let record = lease.record();
                let role = record.stage.as_ref().map_or(Role::Job, |stage| record.role_of(&stage.name));
                executor.settle(&lease, role, StageResult::Unknown).await;
            }
        };
        self.tasks.spawn(waiting.instrument(span));
    }
}

fn load(directory: &Path) -> Result<Record> {
    let record = Record::load(directory)?;
    let name = directory.file_name().and_then(|name| name.to_str()).and_then(LeaseId::parse);
    anyhow::ensure!(name.as_ref() == Some(&record.id), "{} holds the record of another lease", directory.display());
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a release before lanes, holds and the history wrote it.
    const OLDER: &str = include_str!("fixtures/older_lease.json");

    #[test]
    fn the_lease_of_an_older_release_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let lease = directory.path().join("63055f3018e303c09c5c42d3184217e4");
        std::fs::create_dir(&lease).expect("a directory");
        std::fs::write(lease.join("lease.json"), OLDER).expect("a file");
        let record = load(&lease).expect("it is understood");
        assert_eq!((record.job.id, record.slot, record.state), (11378, 0, State::Ready));
        assert_eq!(record.container_names(), ["windlass-63055f3018e3-job"]);
        assert_eq!(record.stage.as_ref().map(|stage| stage.name.as_str()), Some("build_script"));
        assert_eq!((record.builds, &record.lane, record.is_kept()), (Some(Place::Lease), &None, false));
        // Whatever this release writes of it, it reads again.
        record.save(&lease).expect("it is written");
        assert_eq!(load(&lease).expect("it is read"), record);
    }

    #[test]
    fn the_lease_of_a_later_release_is_refused_whatever_else_is_in_it() {
        let run_dir = tempfile::tempdir().expect("a directory");
        let lease = run_dir.path().join("leases/63055f3018e303c09c5c42d3184217e4");
        assert!(Executor::refuse_leases_of_later_release(run_dir.path()).is_ok(), "there is none");
        std::fs::create_dir_all(&lease).expect("a directory");
        for (content, refused) in
            [(r#"{"version": 2, "slots": ["a"]}"#, true), (OLDER, false), ("", false), ("{}", false)]
        {
            std::fs::write(lease.join("lease.json"), content).expect("a file");
            let said = Executor::refuse_leases_of_later_release(run_dir.path());
            assert_eq!(said.is_err(), refused, "{content}");
        }
    }
}
