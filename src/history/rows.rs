//! Rows in, and those that are too old or too many out.

use sqlx::SqliteConnection;

use super::Entry;
use crate::protocol::history::{DiskRow, JobRow, PullRow, PurgeRow};

type Done = Result<(), sqlx::Error>;

pub(super) async fn insert(connection: &mut SqliteConnection, entry: &Entry) -> Done {
    match entry {
        Entry::Job(row, _) => job(connection, row).await,
        Entry::Pull(row) => pull(connection, row).await,
        Entry::Purge(row) => purge(connection, row).await,
        Entry::Disk(row) => disk(connection, row).await,
    }
}

/// SQLite's numbers have a sign.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn maybe(number: Option<u64>) -> Option<i64> {
    number.map(signed)
}

/// One row for each job: that of its last attempt. The same lease again (a daemon that died after this, and before the lease's own record was
/// gone) is the same attempt.
async fn job(connection: &mut SqliteConnection, row: &JobRow) -> Done {
    let id: Option<i64> = sqlx::query_scalar(
        "INSERT INTO job (lease, attempts, instance, job_id, project_id, project_path, name, reference, pipeline, protected, user_id, user_login, \
         profile, slot, outcome, exit_code, reason, came, waited_ms, prepare_ms, ended, duration_ms, memory_peak, cpu_us, written) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         ON CONFLICT (instance, job_id) DO UPDATE SET attempts = attempts + (lease <> excluded.lease), lease = excluded.lease, \
         project_id = excluded.project_id, project_path = excluded.project_path, name = excluded.name, reference = excluded.reference, \
         pipeline = excluded.pipeline, protected = excluded.protected, user_id = excluded.user_id, user_login = excluded.user_login, \
         profile = excluded.profile, slot = excluded.slot, outcome = excluded.outcome, exit_code = excluded.exit_code, \
         reason = excluded.reason, came = excluded.came, waited_ms = excluded.waited_ms, prepare_ms = excluded.prepare_ms, \
         ended = excluded.ended, duration_ms = excluded.duration_ms, memory_peak = excluded.memory_peak, cpu_us = excluded.cpu_us, \
         written = excluded.written WHERE excluded.came >= came RETURNING id",
    )
    .bind(&row.lease)
    .bind(row.attempts)
    .bind(&row.instance)
    .bind(row.job_id)
    .bind(row.project_id)
    .bind(&row.project_path)
    .bind(&row.name)
    .bind(&row.reference)
    .bind(row.pipeline)
    .bind(row.protected)
    .bind(row.user_id)
    .bind(&row.user)
    .bind(&row.profile)
    .bind(row.slot)
    .bind(row.outcome.word())
    .bind(row.exit_code)
    .bind(&row.reason)
    .bind(row.came)
    .bind(signed(row.waited_ms))
    .bind(maybe(row.prepare_ms))
    .bind(row.ended)
    .bind(signed(row.duration_ms))
    .bind(maybe(row.memory_peak))
    .bind(maybe(row.cpu_us))
    .bind(maybe(row.written))
    .fetch_optional(&mut *connection)
    .await?;
    // None: a later attempt is on record already.
    let Some(id) = id else { return Ok(()) };
    for table in
        ["DELETE FROM stage WHERE job = ?", "DELETE FROM image WHERE job = ?", "DELETE FROM digest WHERE job = ?"]
    {
        sqlx::query(table).bind(id).execute(&mut *connection).await?;
    }
    for (number, stage) in (0_i64..).zip(&row.stages) {
        sqlx::query("INSERT INTO stage (job, number, name, began, ms, result, exit_code) VALUES (?, ?, ?, ?, ?, ?, ?)")
            .bind(id)
            .bind(number)
            .bind(&stage.name)
            .bind(stage.began)
            .bind(maybe(stage.ms))
            .bind(stage.result.word())
            .bind(stage.result.exit_code())
            .execute(&mut *connection)
            .await?;
    }
    for (number, image) in (0_i64..).zip(&row.images) {
        sqlx::query("INSERT INTO image (job, number, role, name, image_id, digest) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(id)
            .bind(number)
            .bind(&image.role)
            .bind(&image.name)
            .bind(&image.id)
            .bind(&image.digest)
            .execute(&mut *connection)
            .await?;
        for digest in image.digest.iter().chain(&image.other_digests).chain([&image.id]) {
            sqlx::query("INSERT OR IGNORE INTO digest (digits, job) VALUES (?, ?)")
                .bind(digits(digest))
                .bind(id)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// The digits of a digest or an id: without its algorithm, in lower case.
pub(super) fn digits(digest: &str) -> String {
    digest.rsplit_once(':').map_or(digest, |(_, digits)| digits).to_ascii_lowercase()
}

async fn pull(connection: &mut SqliteConnection, row: &PullRow) -> Done {
    sqlx::query("INSERT INTO pull (at, image, digest, bytes, ms, result) VALUES (?, ?, ?, ?, ?, ?)")
        .bind(row.at)
        .bind(&row.image)
        .bind(&row.digest)
        .bind(maybe(row.bytes))
        .bind(signed(row.ms))
        .bind(&row.result)
        .execute(connection)
        .await
        .map(drop)
}

async fn purge(connection: &mut SqliteConnection, row: &PurgeRow) -> Done {
    sqlx::query("INSERT INTO purge (at, kind, name, project_path, bytes, age_s, rule) VALUES (?, ?, ?, ?, ?, ?, ?)")
        .bind(row.at)
        .bind(&row.kind)
        .bind(&row.name)
        .bind(&row.project_path)
        .bind(maybe(row.bytes))
        .bind(signed(row.age_s))
        .bind(&row.rule)
        .execute(connection)
        .await
        .map(drop)
}

async fn disk(connection: &mut SqliteConnection, row: &DiskRow) -> Done {
    sqlx::query(
        "INSERT INTO disk (at, path, free_bytes, bytes, free_inodes, inodes, lanes_bytes, images_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(row.at)
    .bind(&row.path)
    .bind(signed(row.free_bytes))
    .bind(signed(row.bytes))
    .bind(signed(row.free_inodes))
    .bind(signed(row.inodes))
    .bind(maybe(row.lanes_bytes))
    .bind(maybe(row.images_bytes))
    .execute(connection)
    .await
    .map(drop)
}

/// Removes what is from before `oldest`, and of each kind what is beyond `most`.
pub(super) async fn trim(connection: &mut SqliteConnection, oldest: i64, most: u32) -> Done {
    for statement in [
        "DELETE FROM job WHERE ended < ?",
        "DELETE FROM pull WHERE at < ?",
        "DELETE FROM purge WHERE at < ?",
        "DELETE FROM disk WHERE at < ?",
    ] {
        sqlx::query(statement).bind(oldest).execute(&mut *connection).await?;
    }
    for statement in [
        "DELETE FROM job WHERE id IN (SELECT id FROM job ORDER BY ended DESC, id DESC LIMIT -1 OFFSET ?)",
        "DELETE FROM pull WHERE id IN (SELECT id FROM pull ORDER BY id DESC LIMIT -1 OFFSET ?)",
        "DELETE FROM purge WHERE id IN (SELECT id FROM purge ORDER BY id DESC LIMIT -1 OFFSET ?)",
    ] {
        sqlx::query(statement).bind(most).execute(&mut *connection).await?;
    }
    Ok(())
}
