//! What has been: jobs, pulls, purges and free space, in a database of its own, bounded by age and number.
//!
//! It is told without waiting: what comes goes through a bounded queue to one task that writes many rows at once. A database that can't
//! be written costs history, and nothing else; how many rows, `windlass_history_dropped_total` counts.

mod days;
mod jobs;
mod read;
mod rows;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, mpsc, oneshot};

use crate::config::HistorySettings;
use crate::metrics::Metrics;
use crate::protocol::history::{DiskRow, JobRow, PullRow, PurgeRow};

pub use writer::Writer;

/// The file in the state directory.
const FILE: &str = "history.db";
/// Rows that wait to be written; what comes when there are so many is dropped.
const WAITING: usize = 4096;

/// Something that has been.
#[derive(Debug)]
enum Entry {
    Job(Box<JobRow>, oneshot::Sender<()>),
    Pull(PullRow),
    Purge(PurgeRow),
    Disk(DiskRow),
}

/// The history. Telling it something never waits.
#[derive(Debug)]
pub struct History {
    entries: mpsc::Sender<Entry>,
    path: PathBuf,
    reading: Mutex<()>,
    metrics: Arc<Metrics>,
    trouble: Trouble,
}

/// Why nothing can be written; none: it can, as far as known.
type Trouble = Arc<std::sync::Mutex<Option<String>>>;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is written, or dropped for good.
    Settled,
    /// Nobody writes any more.
    Late,
}

impl History {
    /// The history in a state directory, and who writes it. The database is opened by the latter, when there is something to write.
    #[must_use]
    pub fn new(state_dir: &Path, settings: HistorySettings, metrics: &Arc<Metrics>) -> (Arc<Self>, Writer) {
        let (sender, entries) = mpsc::channel(WAITING);
        let path = state_dir.join(FILE);
        let trouble = Trouble::default();
        let writer = Writer::new(entries, path.clone(), settings, Arc::clone(metrics), Arc::clone(&trouble));
        let (reading, metrics) = (Mutex::default(), Arc::clone(metrics));
        (Arc::new(Self { entries: sender, path, reading, metrics, trouble }), writer)
    }

    /// What an administrator should know of it: that what happens is not written down, and why.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().map(|why| format!("what has been is not recorded, and jobs go on: {why}"))
    }

    /// A job is over. Telling it again changes nothing. What is returned says when the row is settled.
    pub fn job(&self, row: JobRow) -> impl Future<Output = Told> + Send + use<> {
        let (settled, settles) = oneshot::channel();
        let taken = self.tell(Entry::Job(Box::new(row), settled));
        async move {
            match (taken, settles.await) {
                (Err(Told::Late), _) | (Ok(()), Err(_)) => Told::Late,
                _ => Told::Settled,
            }
        }
    }

    /// A pull has ended.
    pub fn pull(&self, row: PullRow) {
        let _ = self.tell(Entry::Pull(row));
    }

    /// Something was purged.
    pub fn purge(&self, row: PurgeRow) {
        let _ = self.tell(Entry::Purge(row));
    }

    /// A file system was looked at.
    pub fn disk(&self, row: DiskRow) {
        let _ = self.tell(Entry::Disk(row));
    }

    fn tell(&self, entry: Entry) -> Result<(), Told> {
        self.entries.try_send(entry).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                // The disk hangs: who writes will say so when it is over.
                self.metrics.history_dropped(1);
                Told::Settled
            }
            mpsc::error::TrySendError::Closed(_) => Told::Late,
        })
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
