//! What the chain has started, and settings of the chain itself.

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::Store;
use super::rows::{inputs_of, inputs_to_text};
use crate::chain::facts::{Inputs, ProjectId, Time};

/// A pipeline that the chain has started, or tried to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRow {
    /// When GitLab was asked, by the host's clock.
    pub at: Time,
    /// Of which project.
    pub project: ProjectId,
    /// Its path.
    pub path: String,
    /// Why, for people.
    pub reason: String,
    /// The successes for which it was made: those that the project had not been built with. None: an older release did not say.
    pub causes: Option<Inputs>,
    /// What came of it, for people.
    pub outcome: String,
    /// Whether nobody knows yet what came of it.
    pub pending: bool,
    /// The pipeline.
    pub pipeline: Option<i64>,
}

/// What is written of a start together with its project.
#[derive(Debug, Clone, Copy)]
pub enum StartNote<'a> {
    /// It is about to be made.
    Begins(&'a StartRow),
    /// What came of the one that is pending: outcome and pipeline of this row. The whole row where none is.
    Ends(&'a StartRow),
}

/// Why a project's last success was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuiltFor {
    /// Why the chain has started it; none: it has not, or that is forgotten.
    pub reason: Option<String>,
    /// What started it, in GitLab's word, where an event has said so.
    pub source: Option<String>,
}

fn start(row: &SqliteRow) -> Result<StartRow> {
    Ok(StartRow {
        at: row.try_get("at")?,
        project: row.try_get("project")?,
        path: row.try_get("path")?,
        reason: row.try_get("reason")?,
        causes: row.try_get::<Option<String>, _>("causes")?.as_deref().map(inputs_of).transpose()?,
        outcome: row.try_get("outcome")?,
        pending: row.try_get("pending")?,
        pipeline: row.try_get("pipeline")?,
    })
}

/// Writes what there is to note of a start.
pub(super) async fn note(connection: &mut SqliteConnection, note: StartNote<'_>) -> Result<()> {
    match note {
        StartNote::Begins(start) => {
            // One whose end could not be written: it is not this one.
            sqlx::query("UPDATE start SET pending = 0 WHERE project = ? AND pending")
                .bind(start.project)
                .execute(&mut *connection)
                .await?;
            add(connection, start).await
        }
        StartNote::Ends(start) => {
            let done =
                sqlx::query("UPDATE start SET outcome = ?, pipeline = ?, pending = ? WHERE project = ? AND pending")
                    .bind(&start.outcome)
                    .bind(start.pipeline)
                    .bind(start.pending)
                    .bind(start.project)
                    .execute(&mut *connection)
                    .await?;
            if done.rows_affected() > 0 { Ok(()) } else { add(connection, start).await }
        }
    }
}

async fn add(connection: &mut SqliteConnection, start: &StartRow) -> Result<()> {
    let causes = start.causes.as_ref().map(inputs_to_text).transpose()?;
    sqlx::query("INSERT INTO start (at, project, path, reason, causes, outcome, pending, pipeline) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(start.at)
        .bind(start.project)
        .bind(&start.path)
        .bind(&start.reason)
        .bind(causes)
        .bind(&start.outcome)
        .bind(start.pending)
        .bind(start.pipeline)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

impl Store {
    /// The last starts, the newest first; of one project where one is named.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn starts(&self, project: Option<ProjectId>, count: u32) -> Result<Vec<StartRow>> {
        let query = match project {
            Some(_) => "SELECT * FROM start WHERE project = ?1 ORDER BY id DESC LIMIT ?2",
            None => "SELECT * FROM start WHERE ?1 IS NULL ORDER BY id DESC LIMIT ?2",
        };
        let rows = sqlx::query(query).bind(project).bind(count).fetch_all(&mut *self.connection().await).await;
        rows.context("read the starts")?.iter().map(start).collect()
    }

    /// The last pipelines that the chain has started, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn started(&self, count: u32) -> Result<Vec<StartRow>> {
        let rows = sqlx::query("SELECT * FROM start WHERE pipeline IS NOT NULL ORDER BY id DESC LIMIT ?");
        let rows = rows.bind(count).fetch_all(&mut *self.connection().await).await;
        rows.context("read the starts")?.iter().map(start).collect()
    }

    /// Why each project's last success was built, as far as that is on record.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn built_for(&self) -> Result<Vec<(ProjectId, BuiltFor)>> {
        let rows = sqlx::query(
            "SELECT id, (SELECT reason FROM start WHERE start.pipeline = success_id AND start.project = project.id LIMIT 1) AS reason, \
             (SELECT source FROM event WHERE event.project = project.id AND event.pipeline = success_id AND source IS NOT NULL LIMIT 1) \
             AS source FROM project WHERE success_id IS NOT NULL AND absent_since IS NULL",
        )
        .fetch_all(&mut *self.connection().await)
        .await
        .context("read why projects were built")?;
        let built = |row: &SqliteRow| {
            Ok((row.try_get("id")?, BuiltFor { reason: row.try_get("reason")?, source: row.try_get("source")? }))
        };
        rows.iter().map(built).collect()
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
