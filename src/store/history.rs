//! What the chain has started, and settings of the chain itself.

use anyhow::{Context, Result};
use sqlx::Row as _;

use super::Store;
use crate::chain::facts::{ProjectId, Time};

/// A pipeline that the chain has started, or tried to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRow {
    /// When, by GitLab's clock.
    pub at: Time,
    /// Of which project.
    pub project: ProjectId,
    /// Its path.
    pub path: String,
    /// Why, for people.
    pub reason: String,
    /// What came of it, for people.
    pub outcome: String,
    /// The pipeline.
    pub pipeline: Option<i64>,
}

impl Store {
    /// Notes a start.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn add_start(&self, start: &StartRow) -> Result<()> {
        sqlx::query("INSERT INTO start (at, project, path, reason, outcome, pipeline) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(start.at)
            .bind(start.project)
            .bind(&start.path)
            .bind(&start.reason)
            .bind(&start.outcome)
            .bind(start.pipeline)
            .execute(&mut *self.connection().await)
            .await
            .context("write a start to the chain's database")?;
        Ok(())
    }

    /// The last starts, the newest first; of one project where one is named.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn starts(&self, project: Option<ProjectId>, count: u32) -> Result<Vec<StartRow>> {
        let rows = sqlx::query("SELECT * FROM start WHERE ?1 IS NULL OR project = ?1 ORDER BY id DESC LIMIT ?2")
            .bind(project)
            .bind(count)
            .fetch_all(&mut *self.connection().await)
            .await
            .context("read the starts")?;
        rows.iter()
            .map(|row| {
                Ok(StartRow {
                    at: row.try_get("at")?,
                    project: row.try_get("project")?,
                    path: row.try_get("path")?,
                    reason: row.try_get("reason")?,
                    outcome: row.try_get("outcome")?,
                    pipeline: row.try_get("pipeline")?,
                })
            })
            .collect()
    }

    /// A setting of the chain itself.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn setting(&self, name: &str) -> Result<Option<String>> {
        let value = sqlx::query_scalar("SELECT value FROM setting WHERE name = ?").bind(name);
        value.fetch_optional(&mut *self.connection().await).await.context("read the chain's settings")
    }

    /// Keeps a setting of the chain itself.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn set(&self, name: &str, value: &str) -> Result<()> {
        sqlx::query("INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")
            .bind(name)
            .bind(value)
            .execute(&mut *self.connection().await)
            .await
            .context("write the chain's settings")?;
        Ok(())
    }
}
