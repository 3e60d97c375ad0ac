//! What was built, for those who are told of it: a row for each success that is new, in the transaction that makes it known.

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::{Kept, Store};
use crate::chain::facts::{ProjectId, Time};

/// How many rows are kept: whoever has missed more looks at everything.
pub const NEWS_MAX: i64 = 1000;
/// The setting with the name of this row of numbers.
const SERIES: &str = "news-series";

/// A success that somebody may want to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewsRow {
    /// Its number; it never comes again.
    pub id: i64,
    /// When the pipeline ended, by GitLab's clock.
    pub at: Time,
    /// The project's path.
    pub path: String,
    /// Where its images are.
    pub images: String,
    /// The pipeline.
    pub pipeline: i64,
}

impl Store {
    /// The news, the oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn news(&self) -> Result<Vec<NewsRow>> {
        let rows = sqlx::query("SELECT * FROM news ORDER BY id").fetch_all(&mut *self.connection().await).await;
        rows.context("read the news")?.iter().map(news).collect()
    }

    /// The highest number that was ever given.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn last_news(&self) -> Result<i64> {
        // SQLite has it of a table with AUTOINCREMENT, rows that are gone included.
        let last = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'news'");
        let last = last.fetch_optional(&mut *self.connection().await).await.context("read the news")?;
        Ok(last.unwrap_or(0))
    }

    /// The name of this row of numbers: a new database has another, so that its numbers are not taken for the old ones.
    ///
    /// # Errors
    /// When it can't be read or written.
    pub async fn news_series(&self) -> Result<String> {
        if let Some(known) = self.setting(SERIES).await? {
            return Ok(known);
        }
        let new = format!("{:08x}", fastrand::u32(..));
        self.set(SERIES, &new).await?;
        Ok(new)
    }
}

/// Notes a success that is newer than the one on record, of a project that was looked at before: what was built before it was known is no news.
pub(super) async fn note(connection: &mut SqliteConnection, id: ProjectId, kept: &Kept) -> Result<Option<NewsRow>> {
    let (Some(success), Some(images)) = (kept.facts.success, &kept.about.registry_prefix) else { return Ok(None) };
    let row = sqlx::query(
        "INSERT INTO news (at, project, path, images, pipeline) SELECT ?2, ?1, ?3, ?4, ?5 FROM project \
         WHERE id = ?1 AND seen AND coalesce(success_id, 0) < ?5 RETURNING *",
    )
    .bind(id)
    .bind(success.at)
    .bind(&kept.about.path)
    .bind(images)
    .bind(success.id)
    .fetch_optional(&mut *connection)
    .await
    .context("write the news")?;
    row.as_ref().map(news).transpose()
}

/// Forgets the oldest.
pub(super) async fn trim(connection: &mut SqliteConnection) -> Result<()> {
    let old = sqlx::query("DELETE FROM news WHERE id <= (SELECT max(id) FROM news) - ?").bind(NEWS_MAX);
    old.execute(connection).await.context("forget old news")?;
    Ok(())
}

fn news(row: &SqliteRow) -> Result<NewsRow> {
    Ok(NewsRow {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        path: row.try_get("path")?,
        images: row.try_get("images")?,
        pipeline: row.try_get("pipeline")?,
    })
}
