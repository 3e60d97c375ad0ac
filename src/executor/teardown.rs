//! cleanup: the end of a lease. Every step is tried, all errors are reported together, and what failed is tried again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::image_use::Origin;
use super::past::Cause;
use super::recording::RECORDED_WITHIN;
use super::{Executor, Lease};
use crate::history::Told;

/// Pause before a teardown that failed is tried again; doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Executor {
    /// Ends a lease whose job is over: at once for its caller, its containers go in the background. Ending it again changes nothing.
    pub fn end(self: &Arc<Self>, lease: &Arc<Lease>, reason: &str) {
        self.end_by(lease, Cause::Over, reason);
    }

    /// The same for any cause.
    pub(super) fn end_by(self: &Arc<Self>, lease: &Arc<Lease>, cause: Cause, reason: &str) {
        if lease.begin_end(cause, reason) {
            let record = lease.record();
            if let Some(hold) = record.hold.as_ref().filter(|hold| !hold.kept) {
                // Its job was not one to look at after all.
                self.give_back(hold.wish.clone());
            }
            let _in = lease.span.enter();
            tracing::info!(lease = %lease.id, "job {} of {} ends: {reason}", record.job.id, record.job.project_path);
            self.tear_down(lease);
        }
    }

    /// Takes down what an ending lease has.
    pub(super) fn tear_down(self: &Arc<Self>, lease: &Arc<Lease>) {
        let (executor, lease) = (Arc::clone(self), Arc::clone(lease));
        let span = lease.span.clone();
        let work = async move {
            let mut pause = FIRST_PAUSE;
            let mut recorded = {
                // Whoever runs a stage, or prepares the job, has noted its end before letting go.
                let _gate = lease.gate.lock().await;
                Some(executor.record_job(&lease))
            };
            loop {
                let errors = executor.tear_down_once(&lease, &mut recorded).await;
                if errors.is_empty() {
                    break;
                }
                let problem = errors.join("; ");
                tracing::error!(retry = ?pause, "teardown: {problem}");
                lease.set_problem(Some(format!("teardown: {problem}")));
                tokio::select! {
                    // The next daemon finds the record and goes on.
                    () = executor.shutdown.cancelled() => return,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                }
            }
            lease.free_slot();
            executor.leases().remove(&lease.id);
            tracing::debug!("lease {} is gone", lease.id);
        };
        self.tasks.spawn(work.instrument(span));
    }

    async fn tear_down_once(
        self: &Arc<Self>,
        lease: &Lease,
        recorded: &mut Option<impl Future<Output = Told> + Send>,
    ) -> Vec<String> {
        // Whoever runs a stage sees the end and lets go. A podman that still makes the container has its time for that: what is
        // removed in the making leaves parts behind that nobody finds.
        let _gate = lease.gate.lock().await;
        let record = lease.record();
        let mut errors = Vec::new();
        let containers = record.container_names();
        if !containers.is_empty()
            && let Err(error) = self.podman.remove_containers(&containers).await
        {
            errors.push(error.to_string());
        }
        for image in &record.images {
            self.image_uses.note(image, "", Origin::There, self.lanes.now());
        }
        if errors.is_empty() {
            errors.extend(self.end_lane(lease).await.err().map(|error| format!("{error:#}")));
        }
        if let Some(network) = &record.network {
            errors.extend(self.podman.remove_network(network).await.err().map(|error| error.to_string()));
        }
        if record.work_dir
            && let Err(error) = self.remove_work_dir(&record)
        {
            // The next sweep tries again. A disk that takes no changes must not keep the slot.
            tracing::warn!("{error:#}");
        }
        // A service that could not be removed may be writing still.
        if errors.is_empty()
            && let Err(error) = self.remove_service_logs(&record)
        {
            tracing::warn!("{error:#}");
        }
        if record.attempt > 1 || (record.attempt == 1 && record.container.is_none()) {
            // A container of an earlier attempt has a name of its own, and one adopted in the making is not on record.
            errors.extend(self.remove_leftovers(Some(record.id.short())).await);
        }
        if errors.is_empty()
            && let Some(recorded) = recorded.take()
        {
            // A disk that hangs costs the row at most.
            let told = tokio::time::timeout(RECORDED_WITHIN, recorded).await;
            if told == Ok(Told::Late) && self.shutdown.is_cancelled() {
                errors.push("the next daemon records it".to_owned());
            }
        }
        // Only once all else is gone: as long as the record is there, the work is not done.
        if errors.is_empty()
            && let Err(error) = std::fs::remove_dir_all(&lease.directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            errors.push(format!("remove {}: {error}", lease.directory.display()));
        }
        errors
    }
}
