//! Slow work on lanes that nobody waits for: their sizes, and what is in the trash. One tree at a time, at idle priority.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use super::Executor;
use super::lane_use::Worker;
use crate::lanes::{LaneId, Part};
use crate::loops;

/// Pause before the trash is emptied again where that failed.
const AGAIN: Duration = Duration::from_secs(600);

/// What is to be done when there is time.
#[derive(Debug)]
pub struct Housekeeping {
    /// There is something in the trash.
    pub trash: Notify,
    /// Something has changed that the purge should look at.
    pub purge: Notify,
    /// What waits to be measured.
    measuring: Mutex<BTreeMap<LaneId, Option<Worker>>>,
    turn: Semaphore,
}

impl Default for Housekeeping {
    fn default() -> Self {
        Self { trash: Notify::new(), purge: Notify::new(), measuring: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Executor {
    /// Measures a lane that a job has left. A job that takes it meanwhile is not hindered.
    pub(super) fn measure_soon(self: &Arc<Self>, id: LaneId, worker: Option<Worker>) {
        let measuring = &self.housekeeping.measuring;
        // Whoever worked on it last counts.
        if measuring.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), worker).is_some() {
            return;
        }
        let executor = Arc::clone(self);
        self.tasks.spawn(async move {
            executor.measure(&id).await;
            executor.housekeeping.purge.notify_one();
        });
    }

    async fn measure(&self, id: &LaneId) {
        let _turn = tokio::select! {
            () = self.shutdown.cancelled() => return,
            turn = self.housekeeping.turn.acquire() => turn,
        };
        let worker = self.housekeeping.measuring.lock().unwrap_or_else(PoisonError::into_inner).remove(id).flatten();
        let Some(record) = self.lanes.record(id) else { return };
        // In a cache jobs of several users store archives, which each of the others has to be able to replace.
        let open = id.part == Part::Cache;
        match self.podman.measure(&self.lanes.files(id), open, self.shutdown.clone()).await {
            Ok(size) => {
                let fits = worker.filter(|worker| worker.owner.is_none() || worker.owner == size.owner);
                if let Err(error) = self.lanes.measured(id, size, record.uses, fits.map(|worker| worker.word)) {
                    tracing::debug!(lane = %id, "{error:#}");
                }
            }
            Err(error) if self.shutdown.is_cancelled() => tracing::debug!(lane = %id, "measure: {error}"),
            // It went to the trash, or a job moved its directories about.
            Err(error) => tracing::debug!(lane = %id, "its size can't be told now: {}", error.message),
        }
    }

    /// Measures what an earlier daemon did not come to.
    pub(super) fn measure_the_rest(self: &Arc<Self>) {
        for lane in self.lanes.list() {
            if lane.holders.is_empty() && !lane.record.is_measured() {
                self.measure_soon(lane.id, None);
            }
        }
    }

    /// Empties the trash whenever something is in it.
    pub async fn empty_trash_forever(self: Arc<Self>) {
        let trash = self.lanes.trash();
        loop {
            // What is in it now goes; what comes meanwhile is for the next time.
            let gone = self.lanes.in_trash();
            let emptied = self.podman.empty(&trash, self.shutdown.clone()).await;
            // What can't be removed must not count as free any longer either.
            self.lanes.emptied(gone);
            let again = match emptied {
                Ok(()) => None,
                Err(_) if self.shutdown.is_cancelled() => return,
                Err(error) => {
                    tracing::warn!("what is in {} can't be removed: {}", trash.display(), error.message);
                    Some(AGAIN)
                }
            };
            let again = async {
                match again {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            let due = async {
                tokio::select! {
                    () = self.housekeeping.trash.notified() => {}
                    () = again => {}
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = loops::rest(due) => {}
            }
        }
    }
}
