//! A connection for those who read: beside the writer's, and never in its way.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::History;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(8);
/// How long a statement waits for another's.
const BUSY: Duration = Duration::from_secs(2);

impl History {
    /// Reads; none where nothing was ever written.
    pub(super) async fn read<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<Option<T>> {
        let what = || format!("read the history's database {}", self.path.display());
        let reading = async {
            // One after the other.
            let _turn = self.reading.lock().await;
            if !self.path.exists() {
                return Ok(None);
            }
            let options =
                SqliteConnectOptions::new().filename(&self.path).busy_timeout(BUSY).pragma("query_only", "on");
            // Of its own each time: nobody reads often, and a database that is not open can be moved away.
            let mut connection = options.connect().await?;
            let read = work(&mut connection).await;
            connection.close().await?;
            read.map(Some)
        };
        tokio::time::timeout(WITHIN, reading).await.with_context(what)?.with_context(what)
    }
}
