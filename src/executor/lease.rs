//! A lease in memory: its record, who uses it, and how it ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::past::{Cause, End, Moment, bounded};
use super::record::{LeaseId, Record, Role, State};
use super::service_logs::Follower;
use super::slots::Slot;
use crate::lanes::Key;

/// A lease.
#[derive(Debug)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Its directory in the runtime directory.
    pub directory: PathBuf,
    /// One stage at a time.
    pub gate: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when the lease begins to end.
    pub ended: CancellationToken,
    /// Cancelled when its job has ended and its containers are kept.
    pub kept: CancellationToken,
    /// Cancelled when it has let go of its lanes, or has none.
    pub lane_free: CancellationToken,
    record: Mutex<Record>,
    notes: Mutex<Notes>,
    slot: Mutex<Option<Slot>>,
    /// Whatever is said of it is said in this, so that the journal can be asked for one job, project, slot or pipeline.
    pub span: Span,
    /// The logs of its services, each read as far as the job log has it; none before this daemon has opened them.
    pub followers: Mutex<Option<Vec<Follower>>>,
}

#[derive(Debug, Default)]
struct Notes {
    /// Why it ends.
    reason: Option<String>,
    /// Why no more stage can run, though the lease lasts until its cleanup.
    broken: Option<String>,
    /// What hinders its teardown.
    problem: Option<String>,
}

impl Lease {
    /// A lease with this record, which lives below `leases_dir`. One that is kept has no slot.
    pub fn new(record: Record, leases_dir: &Path, slot: Option<Slot>) -> Self {
        let (job, pipeline) = (&record.job, record.job.pipeline);
        // Of the highest level, so that no filter takes it away from what passes.
        let name = record.slot_name();
        let span = tracing::error_span!("job", job = job.id, project = %job.project_path, slot = %name, pipeline);
        Self {
            id: record.id.clone(),
            span,
            directory: leases_dir.join(record.id.secret()),
            gate: Arc::default(),
            ended: CancellationToken::new(),
            kept: CancellationToken::new(),
            lane_free: CancellationToken::new(),
            record: Mutex::new(record),
            notes: Mutex::default(),
            slot: Mutex::new(slot),
            followers: Mutex::default(),
        }
    }

    /// The record as it is now.
    pub fn record(&self) -> Record {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record, on disk first. A lease that ends is changed no more.
    ///
    /// # Errors
    /// When the lease ends, or its record can't be written; then it is as before.
    pub fn update(&self, change: impl FnOnce(&mut Record)) -> Result<Record> {
        let mut record = self.lock();
        if record.state == State::Ending {
            anyhow::bail!("the lease ends: {}", self.reason());
        }
        let mut changed = record.clone();
        change(&mut changed);
        changed.save(&self.directory)?;
        *record = changed.clone();
        Ok(changed)
    }

    /// Changes what is kept for the history, also of a lease that ends. None from `change`: there is nothing to change.
    ///
    /// # Errors
    /// When the record can't be written; what is in memory counts all the same.
    pub fn note<T>(&self, change: impl FnOnce(&mut Record) -> Option<T>) -> Result<Option<T>> {
        let mut record = self.lock();
        let Some(noted) = change(&mut record) else { return Ok(None) };
        record.save(&self.directory)?;
        Ok(Some(noted))
    }

    /// Marks it as ending; false when it was already.
    pub fn begin_end(&self, cause: Cause, reason: &str) -> bool {
        let mut record = self.lock();
        if self.ended.is_cancelled() {
            return false;
        }
        record.state = State::Ending;
        // One that was ending when the last daemon died has its reason already.
        record.past.end.get_or_insert_with(|| End { cause, reason: bounded(reason), at: Moment::now() });
        self.notes().reason = Some(reason.to_owned());
        if let Err(error) = record.save(&self.directory) {
            // A daemon that dies now adopts the lease as it was and learns again that it has to end.
            tracing::warn!("{error:#}");
        }
        // Still under the lock: two that end a lease at once do not both.
        self.ended.cancel();
        true
    }

    /// Takes its lanes off the record, while it ends.
    ///
    /// # Errors
    /// When the record can't be written; then it is as before.
    pub fn forget_lane(&self) -> Result<()> {
        let mut record = self.lock();
        let mut changed = record.clone();
        changed.lane = None;
        changed.save(&self.directory)?;
        *record = changed;
        Ok(())
    }

    /// Why it ends.
    pub fn reason(&self) -> String {
        self.notes().reason.clone().unwrap_or_else(|| "it was cleaned up".to_owned())
    }

    /// Notes why no stage can run any more; the first reason counts.
    pub fn set_broken(&self, reason: &str) {
        self.notes().broken.get_or_insert_with(|| reason.to_owned());
    }

    /// Why no stage can run any more.
    pub fn broken(&self) -> Option<String> {
        self.notes().broken.clone()
    }

    /// Notes what hinders its teardown.
    pub fn set_problem(&self, problem: Option<String>) {
        self.notes().problem = problem;
    }

    /// What an administrator should know.
    pub fn problem(&self) -> Option<String> {
        let notes = self.notes();
        notes.problem.clone().or_else(|| notes.broken.clone())
    }

    /// Gives the slot back.
    pub fn free_slot(&self) {
        drop(self.slot.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Where the init of one of its containers listens.
    pub fn init_socket(&self, role: Role) -> PathBuf {
        // Equally long, because a socket's path has a bound that the configuration's check knows.
        self.directory.join(match role {
            Role::Job => "init.sock",
            Role::Helper => "help.sock",
        })
    }

    /// Whose job it is.
    pub fn key(&self) -> Key {
        Key::from(&self.lock().job)
    }
}
