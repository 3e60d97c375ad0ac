//! A host that takes no new jobs: what runs goes on to its end, what comes waits. It outlasts the daemon, until somebody ends it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Executor;
use super::record::unix_time;
use crate::sys::files;

/// Whether new jobs are taken.
#[derive(Debug)]
pub struct Drain {
    /// Held while it is changed.
    file: Mutex<PathBuf>,
    state: watch::Sender<Option<Drained>>,
}

/// Since when they are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// In seconds since 1970.
    pub since: u64,
}

impl Drain {
    /// As the last daemon left it.
    ///
    /// # Errors
    /// When that can't be read: a host that is to take no jobs must not begin to by mistake.
    pub fn load(state_dir: &Path) -> Result<Self> {
        let file = state_dir.join("drain.json");
        let state = match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
            // What is damaged was there: only the time is lost.
            Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap_or(Drained { since: unix_time() })),
        };
        Ok(Self { file: Mutex::new(file), state: watch::Sender::new(state) })
    }

    /// Since when no new jobs are taken; none: they are.
    pub fn now(&self) -> Option<Drained> {
        *self.state.borrow()
    }

    /// Waits until jobs are taken.
    pub async fn over(&self) {
        // The sender is there as long as this is.
        let _ = self.state.subscribe().wait_for(Option::is_none).await;
    }

    /// Takes no new jobs from now on, or takes them again; says whether that is a change.
    fn set(&self, on: bool) -> Result<bool> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if self.now().is_some() == on {
            return Ok(false);
        }
        let state = on.then(|| Drained { since: unix_time() });
        match state {
            Some(drained) => {
                let bytes = serde_json::to_vec(&drained).context("encode the time")?;
                files::write_atomically(&file, &bytes, 0o600, files::Survives::PowerLoss)
                    .with_context(|| format!("write {}", file.display()))?;
            }
            None => std::fs::remove_file(&*file).with_context(|| format!("remove {}", file.display()))?,
        }
        self.state.send_replace(state);
        Ok(true)
    }
}

impl Executor {
    /// Takes no new jobs from now on, or takes them again.
    ///
    /// # Errors
    /// When that can't be noted for the next daemon; then all is as before.
    pub fn set_drained(&self, on: bool) -> Result<()> {
        if self.drain.set(on)? {
            tracing::info!(
                "{}",
                if on { "no new jobs are taken (windlass drain)" } else { "new jobs are taken again" }
            );
            self.changed.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_outlasts_the_daemon_and_ends_when_somebody_says_so() {
        let directory = tempfile::tempdir().expect("tempdir");
        let drain = Drain::load(directory.path()).expect("load");
        assert_eq!(drain.now(), None);
        drain.over().await;
        assert!(drain.set(true).expect("set") && !drain.set(true).expect("set"));
        let next = Drain::load(directory.path()).expect("load");
        assert!(next.now().is_some() && next.now() == drain.now());
        let mut over = Box::pin(next.over());
        assert!(super::super::places::is_waiting(&mut over));
        assert!(next.set(false).expect("set"));
        over.await;
        assert_eq!(Drain::load(directory.path()).expect("load").now(), None);
    }

    #[test]
    fn a_damaged_note_still_means_that_no_jobs_are_taken() {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join("drain.json"), "").expect("write");
        assert!(Drain::load(directory.path()).expect("load").now().is_some());
    }
}
