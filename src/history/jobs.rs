//! Jobs that were, for `windlass jobs`.

use anyhow::Result;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::History;
use super::rows::digits;
use crate::protocol::history::{JOBS_MAX, JobImage, JobOutcome, JobQuery, JobRow, StageResult, StageRow};

impl History {
    /// The jobs that fit, the newest first.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn jobs(&self, query: &JobQuery) -> Result<Vec<JobRow>> {
        Ok(self.read(async |connection| jobs(connection, query).await).await?.unwrap_or_default())
    }
}

async fn jobs(connection: &mut SqliteConnection, query: &JobQuery) -> Result<Vec<JobRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT * FROM job WHERE (?1 IS NULL OR lower(project_path) = lower(?1) OR CAST(project_id AS TEXT) = ?1 \
         OR lower(instance || '/' || project_path) = lower(?1) OR lower(instance || '/' || project_id) = lower(?1)) \
         AND (?2 IS NULL OR lower(user_login) = lower(?2) OR CAST(user_id AS TEXT) = ?2) \
         AND (?3 IS NULL OR id IN (SELECT job FROM digest WHERE digits >= ?3 AND digits < ?3 || 'g')) \
         AND (?4 IS NULL OR outcome = ?4) AND (?5 IS NULL OR ended >= ?5) ORDER BY came DESC, id DESC LIMIT ?6",
    )
    .bind(&query.project)
    .bind(&query.user)
    .bind(query.image.as_deref().map(digits))
    .bind(query.outcome.map(JobOutcome::word))
    .bind(query.since)
    .bind(query.limit.min(JOBS_MAX))
    .fetch_all(&mut *connection)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i64 = row.try_get("id")?;
        let mut job = job(row)?;
        job.stages = stages(connection, id).await?;
        job.images = images(connection, id).await?;
        found.push(job);
    }
    Ok(found)
}

fn job(row: &SqliteRow) -> Result<JobRow, sqlx::Error> {
    let outcome: String = row.try_get("outcome")?;
    Ok(JobRow {
        lease: row.try_get("lease")?,
        attempts: row.try_get("attempts")?,
        instance: row.try_get("instance")?,
        job_id: row.try_get("job_id")?,
        project_id: row.try_get("project_id")?,
        project_path: row.try_get("project_path")?,
        name: row.try_get("name")?,
        reference: row.try_get("reference")?,
        pipeline: row.try_get("pipeline")?,
        protected: row.try_get("protected")?,
        user_id: row.try_get("user_id")?,
        user: row.try_get("user_login")?,
        profile: row.try_get("profile")?,
        slot: row.try_get("slot")?,
        outcome: JobOutcome::of(&outcome)
            .ok_or_else(|| sqlx::Error::Decode(format!("{outcome:?} is no outcome").into()))?,
        exit_code: row.try_get("exit_code")?,
        reason: row.try_get("reason")?,
        came: row.try_get("came")?,
        waited_ms: unsigned(row.try_get("waited_ms")?),
        prepare_ms: row.try_get::<Option<i64>, _>("prepare_ms")?.map(unsigned),
        ended: row.try_get("ended")?,
        duration_ms: unsigned(row.try_get("duration_ms")?),
        memory_peak: row.try_get::<Option<i64>, _>("memory_peak")?.map(unsigned),
        cpu_us: row.try_get::<Option<i64>, _>("cpu_us")?.map(unsigned),
        written: row.try_get::<Option<i64>, _>("written")?.map(unsigned),
        images: Vec::new(),
        stages: Vec::new(),
    })
}

async fn stages(connection: &mut SqliteConnection, job: i64) -> Result<Vec<StageRow>, sqlx::Error> {
    let rows = sqlx::query("SELECT * FROM stage WHERE job = ? ORDER BY number").bind(job).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(StageRow {
                name: row.try_get("name")?,
                began: row.try_get("began")?,
                ms: row.try_get::<Option<i64>, _>("ms")?.map(unsigned),
                result: StageResult::of(row.try_get("result")?, row.try_get("exit_code")?),
            })
        })
        .collect()
}

async fn images(connection: &mut SqliteConnection, job: i64) -> Result<Vec<JobImage>, sqlx::Error> {
    let rows = sqlx::query("SELECT * FROM image WHERE job = ? ORDER BY number").bind(job).fetch_all(connection).await?;
    rows.iter()
        .map(|row| {
            Ok(JobImage {
                role: row.try_get("role")?,
                name: row.try_get("name")?,
                id: row.try_get("image_id")?,
                digest: row.try_get("digest")?,
                other_digests: Vec::new(),
            })
        })
        .collect()
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
