//! Who writes: one task, many rows in one write. It opens the database, keeps it within its bounds, and goes on when it can't.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Entry, Trouble, now};
use crate::config::HistorySettings;
use crate::loops;
use crate::metrics::Metrics;

/// Rows in one write.
const TOGETHER: usize = 256;
/// Pause before a database that failed is opened again.
const AGAIN: Duration = Duration::from_secs(30);
/// How long the database stays open while nothing comes: a file system with a file that is open for writing can't be made read-only.
const IDLE: Duration = Duration::from_secs(3);
/// How long a statement waits for somebody else's, such as an administrator's look with sqlite3.
const BUSY: Duration = Duration::from_secs(5);
/// How often what is too old goes.
const TRIM_EVERY: Duration = Duration::from_secs(3600);
/// Part of `max_jobs` by which the number may be exceeded between two looks.
const SLACK: u32 = 100;

static MIGRATOR: Migrator = sqlx::migrate!("src/history/migrations");

/// Who writes.
#[derive(Debug)]
pub struct Writer {
    entries: mpsc::Receiver<Entry>,
    path: PathBuf,
    settings: HistorySettings,
    metrics: Arc<Metrics>,
    connection: Option<SqliteConnection>,
    not_before: Option<Instant>,
    /// Why the database does not work, which was said.
    trouble: Trouble,
    /// When what is too old went last, and how many rows have come since.
    trimmed: Option<Instant>,
    since: u32,
}

impl Writer {
    pub(super) fn new(
        entries: mpsc::Receiver<Entry>,
        path: PathBuf,
        settings: HistorySettings,
        metrics: Arc<Metrics>,
        trouble: Trouble,
    ) -> Self {
        Self { entries, path, settings, metrics, connection: None, not_before: None, trouble, trimmed: None, since: 0 }
    }

    /// Writes what comes, until the shutdown; what waits then is written still.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut some = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                biased;
                count = loops::rest(self.entries.recv_many(&mut some, TOGETHER)) => if count == 0 { break },
                // Who comes later is told that nobody writes any more, and leaves it to the next daemon.
                () = shutdown.cancelled(), if !self.entries.is_closed() => {
                    self.entries.close();
                    continue;
                }
                () = tokio::time::sleep(IDLE), if self.connection.is_some() => {
                    self.close().await;
                    continue;
                }
            }
            self.write(&some).await;
            for entry in some.drain(..) {
                if let Entry::Job(_, settled) = entry {
                    // Nobody has to wait for it.
                    let _ = settled.send(());
                }
            }
        }
        self.close().await;
    }

    /// Closes the database: all is in one file then.
    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!("close the history's database: {error}");
        }
    }

    async fn write(&mut self, some: &[Entry]) {
        match self.try_write(some).await {
            Ok(true) => {
                if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
                    tracing::info!("the history can be written again");
                }
            }
            Ok(false) => self.metrics.history_dropped(some.len() as u64),
            Err(error) => {
                self.metrics.history_dropped(some.len() as u64);
                self.connection = None;
                self.not_before = Some(Instant::now() + AGAIN);
                let why = Some(format!("{error:#}"));
                if std::mem::replace(&mut *self.trouble.lock().unwrap_or_else(PoisonError::into_inner), why).is_none() {
                    tracing::warn!(
                        "what has been is not recorded, and jobs go on: {error:#}; windlass_history_dropped_total counts what is lost"
                    );
                }
            }
        }
    }

    /// Whether they are written; they are not while the database is left alone for a while.
    async fn try_write(&mut self, some: &[Entry]) -> Result<bool> {
        if self.connection.is_none() {
            if self.not_before.is_some_and(|moment| Instant::now() < moment) {
                return Ok(false);
            }
            self.connection = Some(open(&self.path).await?);
        }
        let Some(connection) = &mut self.connection else { return Ok(false) };
        let mut transaction = connection.begin().await.context("write to the history")?;
        for entry in some {
            super::rows::insert(&mut transaction, entry).await.context("write to the history")?;
        }
        self.since = self.since.saturating_add(u32::try_from(some.len()).unwrap_or(u32::MAX));
        let due = self.trimmed.is_none_or(|then| then.elapsed() >= TRIM_EVERY);
        if due || self.since > self.settings.max_jobs / SLACK {
            let keep = i64::try_from(self.settings.keep.as_millis()).unwrap_or(i64::MAX);
            super::rows::trim(&mut transaction, now().saturating_sub(keep), self.settings.max_jobs)
                .await
                .context("keep the history within its bounds")?;
            (self.trimmed, self.since) = (Some(Instant::now()), 0);
        }
        transaction.commit().await.context("write to the history")?;
        Ok(true)
    }
}

/// Opens the database; makes it where there is none. What can't be read is left as it is.
async fn open(path: &std::path::Path) -> Result<SqliteConnection> {
    let what = || format!("the history's database {} can't be used; move it away for a new one", path.display());
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // What the last moments before a loss of power had may be lost; a daemon that is killed loses nothing.
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY)
        .foreign_keys(true);
    let mut connection = options.connect().await.with_context(what)?;
    match MIGRATOR.run_direct(None, &mut connection, false).await {
        Ok(()) => {}
        Err(MigrateError::VersionMissing(version)) => bail!(
            "the history's database {} was written by a later release of Windlass (migration {version}); move it away for a new one",
            path.display()
        ),
        Err(error) => return Err(error).with_context(what),
    }
    // Who a project's users are is nobody else's business.
    restrict(path).with_context(what)?;
    Ok(connection)
}

fn restrict(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        match std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
