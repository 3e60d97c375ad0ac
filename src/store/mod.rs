//! The chain's database: SQLite, one connection, every change durable when it is acknowledged.
//!
//! One process has it at a time. What can't be read is never overwritten.

mod events;
mod history;
mod images;
mod news;
mod projects;
mod rows;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};

pub use events::{EventRow, NewEvent, PipelineEvent};
pub use history::{BuiltFor, StartNote, StartRow};
pub use images::{Built, ImageLook, ImageSeen, NewDigest};
pub use news::{NEWS_MAX, NewsRow};
pub use projects::{About, HookState, Kept};

/// The file in the state directory.
const FILE: &str = "chain.db";
/// How every file of SQLite begins.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// How long a statement waits for somebody else's, such as an administrator's look with sqlite3.
const BUSY: Duration = Duration::from_secs(5);

static MIGRATOR: Migrator = sqlx::migrate!("src/store/migrations");

/// The database.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<SqliteConnection>,
    path: PathBuf,
    /// Two daemons on one database would start everything twice.
    _lock: Flock<File>,
}

impl Store {
    /// Opens the database in a state directory; makes it where there is none.
    ///
    /// # Errors
    /// When another daemon has it, when it is damaged, or when it was written by a later release.
    pub async fn open(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join(FILE);
        let lock = lock(&path)?;
        check_magic(&path)?;
        let damaged = || {
            format!(
                "the chain's database {} is damaged and is left as it is: put a backup in its place (windlass chain backup makes them), \
                 or move it away; a new one learns everything from GitLab and rebuilds nothing",
                path.display()
            )
        };
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An event is acknowledged when it is on the disk, and not before.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .foreign_keys(true);
        let mut connection = options.connect().await.with_context(damaged)?;
        let verdict: String =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await.with_context(damaged)?;
        if verdict != "ok" {
            return Err(anyhow::anyhow!("{verdict}")).with_context(damaged);
        }
        match MIGRATOR.run_direct(None, &mut connection, false).await {
            Ok(()) => {}
            Err(MigrateError::VersionMissing(version)) => bail!(
                "the chain's database {} was written by a later release of Windlass (migration {version}): install that release, or put a \
                 backup of the older database in its place",
                path.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("bring the chain's database {} up to date", path.display()));
            }
        }
        Ok(Self { connection: Mutex::new(connection), path, _lock: lock })
    }

    async fn connection(&self) -> MutexGuard<'_, SqliteConnection> {
        self.connection.lock().await
    }

    /// Writes a copy of the database as it is now, to a file that is not there yet.
    ///
    /// # Errors
    /// When the file is there, or can't be written.
    pub async fn backup(&self, to: &Path) -> Result<()> {
        let name = to.to_str().with_context(|| format!("{} is no UTF-8", to.display()))?;
        // Only its owner may read it; SQLite writes into an empty file.
        File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(to)
            .with_context(|| format!("make the file {}", to.display()))?;
        let written = sqlx::query("VACUUM INTO ?").bind(name).execute(&mut *self.connection().await).await;
        if let Err(error) = written {
            let _ = std::fs::remove_file(to);
            return Err(error).with_context(|| format!("write the backup {}", to.display()));
        }
        File::open(to).and_then(|file| file.sync_all()).with_context(|| format!("write the backup {}", to.display()))
    }

    /// Its size on the disk, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |about| about.len())
    }

    /// Ends it in good order.
    pub async fn close(self) {
        // What fails here, the next start mends: everything is durable already.
        let _ = self.connection.into_inner().close().await;
    }
}

fn lock(path: &Path) -> Result<Flock<File>> {
    let path = path.with_extension("db.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            bail!("another windlassd has the chain's database: {} is locked", path.display())
        }
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// A file of something else is not made a database of.
fn check_magic(path: &Path) -> Result<()> {
    let mut begin = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("open the chain's database {}", path.display())),
        Ok(file) => {
            let length = u64::try_from(MAGIC.len()).unwrap_or(0);
            file.take(length).read_to_end(&mut begin).with_context(|| format!("read {}", path.display()))?;
        }
    }
    if begin.is_empty() || begin == MAGIC {
        return Ok(());
    }
    bail!(
        "{} is no database of SQLite and is left as it is: move it away, or put a backup in its place (windlass chain backup makes them)",
        path.display()
    )
}

#[cfg(test)]
mod tests;
