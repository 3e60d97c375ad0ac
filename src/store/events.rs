//! Webhook events: stored before they are acknowledged, looked at later, forgotten in the end.

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row as _};

use super::Store;
use crate::chain::event::Event;
use crate::chain::facts::{ProjectId, Time};

/// Most events that are kept, however young.
const EVENTS_MAX: i64 = 100_000;

/// An event that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// When, by the host's clock.
    pub received_at: Time,
    /// GitLab's key of the delivery, if it has one.
    pub delivery: Option<String>,
    /// What it says.
    pub event: Event,
    /// Why nobody has to look because of it; none: somebody has to.
    pub verdict: Option<String>,
}

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its number.
    pub id: i64,
    /// When it came, by the host's clock.
    pub received_at: Time,
    /// The project.
    pub project: ProjectId,
    /// Its path, as the event says.
    pub path: String,
    /// The pipeline.
    pub pipeline: i64,
    /// Its state, in GitLab's word.
    pub status: String,
    /// The branch or tag.
    pub reference: String,
    /// What started it.
    pub source: Option<String>,
    /// What became of the event; none: nobody has looked yet.
    pub verdict: Option<String>,
}

/// What an event has said of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineEvent {
    /// The pipeline.
    pub pipeline: i64,
    /// When the event came, by the host's clock.
    pub received_at: Time,
    /// The pipeline's state, in GitLab's word.
    pub status: String,
}

fn event(row: &SqliteRow) -> Result<EventRow> {
    Ok(EventRow {
        id: row.try_get("id")?,
        received_at: row.try_get("received_at")?,
        project: row.try_get("project")?,
        path: row.try_get("path")?,
        pipeline: row.try_get("pipeline")?,
        status: row.try_get("status")?,
        reference: row.try_get("reference")?,
        source: row.try_get("source")?,
        verdict: row.try_get("verdict")?,
    })
}

impl Store {
    /// Stores events, all or none, and says which of them nobody has to look at. One that came before, or that says what the one before it
    /// of its pipeline said, is a duplicate.
    ///
    /// # Errors
    /// When they can't be written.
    pub async fn add_events(&self, events: &[NewEvent]) -> Result<Vec<Option<String>>> {
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await.context("write to the chain's database")?;
        let mut verdicts = Vec::with_capacity(events.len());
        for NewEvent { received_at, delivery, event, verdict } in events {
            let repeated: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM event WHERE delivery = ?1) OR coalesce((SELECT status = ?4 AND finished_at IS ?5 FROM event \
                 WHERE project = ?2 AND pipeline = ?3 ORDER BY id DESC LIMIT 1), 0)",
            )
            .bind(delivery)
            .bind(event.project)
            .bind(event.pipeline)
            .bind(&event.status)
            .bind(&event.finished_at)
            .fetch_one(&mut *transaction)
            .await
            .context("look for an event")?;
            let verdict = if repeated { Some("a duplicate".to_owned()) } else { verdict.clone() };
            sqlx::query(
                "INSERT INTO event (received_at, delivery, project, path, pipeline, status, reference, source, finished_at, verdict) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(received_at)
            .bind(delivery)
            .bind(event.project)
            .bind(&event.path)
            .bind(event.pipeline)
            .bind(&event.status)
            .bind(&event.reference)
            .bind(&event.source)
            .bind(&event.finished_at)
            .bind(&verdict)
            .execute(&mut *transaction)
            .await
            .context("write an event")?;
            verdicts.push(verdict);
        }
        transaction.commit().await.context("write to the chain's database")?;
        Ok(verdicts)
    }

    /// Whether an event of a pipeline has come.
    ///
    /// # Errors
    /// When that can't be read.
    pub async fn has_event(&self, project: ProjectId, pipeline: i64) -> Result<bool> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM event WHERE project = ? AND pipeline = ?)")
            .bind(project)
            .bind(pipeline)
            .fetch_one(&mut *self.connection().await)
            .await
            .context("look for an event")
    }

    /// The events that nobody has looked at.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn open_events(&self) -> Result<Vec<EventRow>> {
        let rows = sqlx::query("SELECT * FROM event WHERE verdict IS NULL ORDER BY id");
        let rows = rows.fetch_all(&mut *self.connection().await).await;
        rows.context("read the events")?.iter().map(event).collect()
    }

    /// Notes what became of a project's events up to a number.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn close_events(&self, project: ProjectId, up_to: i64, verdict: &str) -> Result<()> {
        sqlx::query("UPDATE event SET verdict = ? WHERE project = ? AND id <= ? AND verdict IS NULL")
            .bind(verdict)
            .bind(project)
            .bind(up_to)
            .execute(&mut *self.connection().await)
            .await
            .context("write to the chain's database")?;
        Ok(())
    }

    /// The last events, the newest first; of one project where one is named.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn events(&self, project: Option<ProjectId>, count: u32) -> Result<Vec<EventRow>> {
        let query = match project {
            Some(_) => "SELECT * FROM event WHERE project = ?1 ORDER BY id DESC LIMIT ?2",
            None => "SELECT * FROM event WHERE ?1 IS NULL ORDER BY id DESC LIMIT ?2",
        };
        let rows = sqlx::query(query).bind(project).bind(count).fetch_all(&mut *self.connection().await).await;
        rows.context("read the events")?.iter().map(event).collect()
    }

    /// What events have said of these pipelines, in the order in which they came.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn events_of(&self, pipelines: &[(ProjectId, i64)]) -> Result<Vec<PipelineEvent>> {
        // From the pipelines to their events, by the index: there may be many more events.
        let rows = sqlx::query(
            "SELECT event.pipeline, event.received_at, event.status FROM json_each(?) AS wanted CROSS JOIN event \
             ON event.project = json_extract(wanted.value, '$[0]') AND event.pipeline = json_extract(wanted.value, '$[1]') ORDER BY event.id",
        )
        .bind(serde_json::to_string(pipelines)?)
        .fetch_all(&mut *self.connection().await)
        .await
        .context("read the events")?;
        let said = |row: &SqliteRow| {
            Ok(PipelineEvent {
                pipeline: row.try_get("pipeline")?,
                received_at: row.try_get("received_at")?,
                status: row.try_get("status")?,
            })
        };
        rows.iter().map(said).collect()
    }

    /// Forgets events and starts from before a time, and what is too much.
    ///
    /// # Errors
    /// When that can't be written.
    pub async fn prune(&self, before: Time) -> Result<()> {
        let mut connection = self.connection().await;
        for statement in
            ["DELETE FROM event WHERE received_at < ? AND verdict IS NOT NULL", "DELETE FROM start WHERE at < ?"]
        {
            sqlx::query(statement).bind(before).execute(&mut *connection).await.context("forget old events")?;
        }
        sqlx::query("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?")
            .bind(EVENTS_MAX)
            .execute(&mut *connection)
            .await
            .context("forget old events")?;
        Ok(())
    }
}
