//! What this daemon does: run jobs, look after the chain, or both.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use crate::controller::Controller;
use crate::doctor::{Level, Rounds};
use crate::executor::{Executor, Failure};
use crate::protocol::daemon::{DaemonStatus, DoctorError, Report, Status};

/// What is said where the chain could not begin.
pub const WITHOUT_CHAIN: &str = "the image chain does not run";

/// The parts that callers can reach.
#[derive(Debug)]
pub struct Parts {
    /// Runs jobs; none with `slots = 0`.
    executor: Option<Arc<Executor>>,
    /// Looks after the chain; none where the configuration names no group and no project.
    chain: Option<Arc<Controller>>,
    /// What an administrator should know of the last reload.
    note: Mutex<Option<String>>,
    /// What could not begin.
    missing: Vec<String>,
    /// What doctor found last, where it goes on rounds.
    doctor: OnceLock<Rounds>,
    started_at: SystemTime,
}

impl Parts {
    /// These parts, as of now, and what could not begin.
    #[must_use]
    pub fn new(executor: Option<Arc<Executor>>, chain: Option<Arc<Controller>>, missing: Vec<String>) -> Self {
        if let Some(executor) = &executor {
            executor.set_missing(missing.clone());
        }
        let (note, doctor) = (Mutex::default(), OnceLock::new());
        Self { executor, chain, note, missing, doctor, started_at: SystemTime::now() }
    }

    /// What could not begin.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.missing.clone()
    }

    /// What runs jobs, if anything does.
    #[must_use]
    pub fn has_executor(&self) -> Option<&Arc<Executor>> {
        self.executor.as_ref()
    }

    /// What runs jobs.
    ///
    /// # Errors
    /// When this daemon is for the chain alone.
    pub fn executor(&self) -> Result<&Arc<Executor>, Failure> {
        self.executor.as_ref().ok_or_else(|| {
            Failure::system("this windlassd runs no jobs: slots is 0 in windlass.toml; set it and restart windlassd")
        })
    }

    /// What looks after the chain, if anything does.
    #[must_use]
    pub fn has_chain(&self) -> Option<&Arc<Controller>> {
        self.chain.as_ref()
    }

    /// What looks after the chain.
    ///
    /// # Errors
    /// When this daemon is for jobs alone.
    pub fn chain(&self) -> Result<&Arc<Controller>, Failure> {
        self.chain.as_ref().ok_or_else(|| match self.missing.iter().find(|words| words.starts_with(WITHOUT_CHAIN)) {
            Some(words) => Failure::system(words.clone()),
            None => Failure::system("this daemon has no chain: name groups or projects in [chain] of windlass.toml"),
        })
    }

    /// Slots and leases; without jobs the daemon alone.
    #[must_use]
    pub fn status(&self) -> Status {
        if let Some(executor) = &self.executor {
            return executor.status();
        }
        let note = self.note.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: humantime::format_rfc3339_seconds(self.started_at).to_string(),
            warnings: self.missing.iter().cloned().chain(note).collect(),
            drained_since: None,
        };
        Status { daemon, slots: Vec::new(), leases: Vec::new() }
    }

    /// The same with what doctor calls an error, for people.
    #[must_use]
    pub fn report(&self) -> Report {
        let found = self.doctor.get().and_then(|rounds| rounds.borrow().clone());
        let rounds = found.iter().flat_map(|found| found.rounds());
        let errors = rounds.flat_map(|(_, round)| round.of(Level::Error)).map(|row| DoctorError {
            check: row.finding.check.to_owned(),
            what: row.finding.what.clone(),
            remedy: row.finding.remedy.clone(),
        });
        Report { doctor: errors.collect(), status: self.status() }
    }

    /// Where to see what doctor finds on its rounds.
    pub fn set_doctor(&self, rounds: Rounds) {
        let _ = self.doctor.set(rounds);
    }

    /// What an administrator should know of the last reload.
    pub fn set_note(&self, note: Option<String>) {
        match &self.executor {
            Some(executor) => executor.set_note(note),
            None => *self.note.lock().unwrap_or_else(PoisonError::into_inner) = note,
        }
    }

    /// Returns when every lock that a job or the chain needs was had once. Where one of them is never given back, it does not return.
    pub fn touch(&self) {
        let leases = self.status().leases.len();
        if let Some(chain) = &self.chain {
            chain.touch();
        }
        tracing::trace!(leases, "alive");
    }
}
