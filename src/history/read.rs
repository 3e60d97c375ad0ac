//! A connection for those who read: beside the writer's, and never in its way.

use std::time::Duration;

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};

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
            let mut place = self.reading.lock().await;
            if !self.path.exists() {
                *place = None;
                return Ok(None);
            }
            // Taken out: one whose reading was given up or failed is not used again.
            let mut connection = match place.take() {
                Some(connection) => connection,
                None => {
                    let options =
                        SqliteConnectOptions::new().filename(&self.path).busy_timeout(BUSY).pragma("query_only", "on");
                    options.connect().await?
                }
            };
            let read = work(&mut connection).await?;
            *place = Some(connection);
            Ok::<_, sqlx::Error>(Some(read))
        };
        tokio::time::timeout(WITHIN, reading).await.with_context(what)?.with_context(what)
    }
}
