//! What was, day by day, for a page that shows it.

use anyhow::Result;
use sqlx::Row as _;

use super::History;
use super::jobs::unsigned;
use crate::protocol::history::{DiskRow, JobOutcome, OutcomeDay, PullDay, PurgeRow, StageDay};

/// Rows in one answer.
const ROWS_MAX: u32 = 20_000;

/// How long stages took, by day and name, from the first time to before the second.
pub(super) const STAGES: &str = "\
    SELECT began / 86400000 * 86400000 AS day, name, COUNT(*) AS count, CAST(AVG(ms) AS INTEGER) AS mean, MAX(ms) AS most FROM ( \
    SELECT began, CASE WHEN name LIKE 'step\\_%' ESCAPE '\\' THEN 'step' ELSE name END AS name, ms FROM stage WHERE ms IS NOT NULL \
    UNION ALL SELECT came, 'prepare', prepare_ms FROM job WHERE prepare_ms IS NOT NULL \
    UNION ALL SELECT came, 'wait', waited_ms FROM job) WHERE began >= ?1 AND began < ?2 GROUP BY 1, 2 ORDER BY 1, 2 LIMIT ?3";

impl History {
    /// How long stages took that began from one time to before another, by day and name; with `wait` for slots and `prepare`.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn stages_by_day(&self, since: i64, until: i64) -> Result<Vec<StageDay>> {
        let rows = self.read(async |connection| {
            sqlx::query(STAGES)
                .bind(since)
                .bind(until)
                .bind(ROWS_MAX)
                .map(|row: sqlx::sqlite::SqliteRow| StageDay {
                    day: row.get("day"),
                    stage: row.get("name"),
                    count: unsigned(row.get("count")),
                    mean_ms: unsigned(row.get("mean")),
                    max_ms: unsigned(row.get("most")),
                })
                .fetch_all(connection)
                .await
        });
        Ok(rows.await?.unwrap_or_default())
    }

    /// What came of the jobs that ended since then, by day.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn outcomes_by_day(&self, since: i64) -> Result<Vec<OutcomeDay>> {
        let rows = self.read(async |connection| {
            sqlx::query(
                "SELECT ended / 86400000 * 86400000 AS day, outcome, COUNT(*) AS count FROM job WHERE ended >= ?1 \
                 GROUP BY 1, 2 ORDER BY 1, 2 LIMIT ?2",
            )
            .bind(since)
            .bind(ROWS_MAX)
            .map(|row: sqlx::sqlite::SqliteRow| {
                let outcome = JobOutcome::of(row.get("outcome"))?;
                Some(OutcomeDay { day: row.get("day"), outcome, count: unsigned(row.get("count")) })
            })
            .fetch_all(connection)
            .await
        });
        Ok(rows.await?.unwrap_or_default().into_iter().flatten().collect())
    }

    /// The pulls since then, by day.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn pulls_by_day(&self, since: i64) -> Result<Vec<PullDay>> {
        let rows = self.read(async |connection| {
            sqlx::query(
                "SELECT at / 86400000 * 86400000 AS day, result, COUNT(*) AS count, COALESCE(SUM(bytes), 0) AS bytes, \
                 CAST(AVG(ms) AS INTEGER) AS mean FROM pull WHERE at >= ?1 GROUP BY 1, 2 ORDER BY 1, 2 LIMIT ?2",
            )
            .bind(since)
            .bind(ROWS_MAX)
            .map(|row: sqlx::sqlite::SqliteRow| PullDay {
                day: row.get("day"),
                result: row.get("result"),
                count: unsigned(row.get("count")),
                bytes: unsigned(row.get("bytes")),
                mean_ms: unsigned(row.get("mean")),
            })
            .fetch_all(connection)
            .await
        });
        Ok(rows.await?.unwrap_or_default())
    }

    /// The looks at file systems since then, the oldest first.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn disks(&self, since: i64) -> Result<Vec<DiskRow>> {
        let rows = self.read(async |connection| {
            sqlx::query("SELECT * FROM disk WHERE at >= ?1 ORDER BY at LIMIT ?2")
                .bind(since)
                .bind(ROWS_MAX)
                .map(|row: sqlx::sqlite::SqliteRow| DiskRow {
                    at: row.get("at"),
                    path: row.get("path"),
                    free_bytes: unsigned(row.get("free_bytes")),
                    bytes: unsigned(row.get("bytes")),
                    free_inodes: unsigned(row.get("free_inodes")),
                    inodes: unsigned(row.get("inodes")),
                    lanes_bytes: row.get::<Option<i64>, _>("lanes_bytes").map(unsigned),
                    images_bytes: row.get::<Option<i64>, _>("images_bytes").map(unsigned),
                })
                .fetch_all(connection)
                .await
        });
        Ok(rows.await?.unwrap_or_default())
    }

    /// What purges removed since then, the newest first, at most `limit`.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn purges(&self, since: i64, limit: u32) -> Result<Vec<PurgeRow>> {
        let rows = self.read(async |connection| {
            sqlx::query("SELECT * FROM purge WHERE at >= ?1 ORDER BY at DESC, id DESC LIMIT ?2")
                .bind(since)
                .bind(limit.min(ROWS_MAX))
                .map(|row: sqlx::sqlite::SqliteRow| PurgeRow {
                    at: row.get("at"),
                    kind: row.get("kind"),
                    name: row.get("name"),
                    project_path: row.get("project_path"),
                    bytes: row.get::<Option<i64>, _>("bytes").map(unsigned),
                    age_s: unsigned(row.get("age_s")),
                    rule: row.get("rule"),
                })
                .fetch_all(connection)
                .await
        });
        Ok(rows.await?.unwrap_or_default())
    }
}
