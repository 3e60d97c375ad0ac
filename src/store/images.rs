//! Images that no project builds: when they are looked up, every digest that they had; and what projects' images were built on.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sqlx::{Connection as _, Row as _};

use super::Store;
use crate::chain::age::Moves;
use crate::chain::facts::{ProjectId, Success, Time};
use crate::registry::Digest;

/// What is known of an image that no project builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageLook {
    /// When it is looked up next, by the host's clock.
    pub next_at: Time,
    /// When its registry answered last.
    pub looked_at: Option<Time>,
    /// Since when its registry does not answer what it should.
    pub failed_since: Option<Time>,
    /// What it says instead.
    pub error: Option<String>,
    /// What its name stood for last.
    pub seen: Option<ImageSeen>,
    /// When it moved.
    pub moves: Moves,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSeen {
    /// The index, or the manifest where there is none.
    pub digest: Digest,
    /// The image for the chain's platform.
    pub platform_digest: Digest,
}

/// What a look has found that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDigest {
    /// What the name stands for now.
    pub seen: ImageSeen,
    /// Whether the platform's image is another than before; the first is no move.
    pub moved: bool,
    /// Since when, by GitLab's clock.
    pub at: Time,
    /// Whether it is a success that is built for.
    pub counts: bool,
}

/// What a project's last success was built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The pipeline that was looked at; 0 before the first.
    pub pipeline: i64,
    /// Whether that is what its base was then; none: not known.
    pub on_new: Option<bool>,
    /// In words.
    pub words: String,
    /// Since when it has been so.
    pub since: Time,
}

impl Store {
    /// What is known of the images that are looked up.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn looks(&self) -> Result<BTreeMap<String, ImageLook>> {
        let mut connection = self.connection().await;
        let mut looks = BTreeMap::new();
        let rows =
            sqlx::query("SELECT * FROM image_look").fetch_all(&mut *connection).await.context("read the images")?;
        for row in rows {
            let look = ImageLook {
                next_at: row.try_get("next_at")?,
                looked_at: row.try_get("looked_at")?,
                failed_since: row.try_get("failed_since")?,
                error: row.try_get("error")?,
                ..ImageLook::default()
            };
            looks.insert(row.try_get::<String, _>("name")?, look);
        }
        let rows = sqlx::query("SELECT * FROM image_digest ORDER BY id").fetch_all(&mut *connection).await;
        for row in rows.context("read the images' digests")? {
            let Some(look) = looks.get_mut(&row.try_get::<String, _>("name")?) else { continue };
            let digest = |column: &str| -> Result<Digest> {
                Digest::try_from(row.try_get::<String, _>(column)?).map_err(anyhow::Error::msg)
            };
            if look.seen.is_none() {
                look.moves.since = row.try_get("first_seen")?;
            }
            if row.try_get("moved")? {
                look.moves.add(row.try_get("first_seen")?);
            }
            look.seen = Some(ImageSeen { digest: digest("digest")?, platform_digest: digest("platform_digest")? });
        }
        Ok(looks)
    }

    /// Writes what came of a look, all or none of it. The success, where something new is one.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn save_look(&self, name: &str, look: &ImageLook, new: Option<&NewDigest>) -> Result<Option<Success>> {
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await.context("write to the chain's database")?;
        sqlx::query(
            "INSERT OR REPLACE INTO image_look (name, next_at, looked_at, failed_since, error) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(name)
        .bind(look.next_at)
        .bind(look.looked_at)
        .bind(look.failed_since)
        .bind(&look.error)
        .execute(&mut *transaction)
        .await
        .context("write an image's look")?;
        let mut success = None;
        if let Some(new) = new {
            let id = sqlx::query(
                "INSERT INTO image_digest (name, digest, platform_digest, moved, first_seen, last_seen) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
            )
            .bind(name)
            .bind(new.seen.digest.as_str())
            .bind(new.seen.platform_digest.as_str())
            .bind(new.moved)
            .bind(new.at)
            .execute(&mut *transaction)
            .await
            .context("write an image's digest")?
            .last_insert_rowid();
            if new.counts {
                sqlx::query("INSERT OR REPLACE INTO image (name, success_id, success_at) VALUES (?, ?, ?)")
                    .bind(name)
                    .bind(id)
                    .bind(new.at)
                    .execute(&mut *transaction)
                    .await
                    .context("write an image's success")?;
                success = Some(Success { id, at: new.at });
            }
        } else if let Some(at) = look.looked_at {
            sqlx::query(
                "UPDATE image_digest SET last_seen = ? WHERE id = (SELECT max(id) FROM image_digest WHERE name = ?)",
            )
            .bind(at)
            .bind(name)
            .execute(&mut *transaction)
            .await
            .context("write an image's digest")?;
        }
        transaction.commit().await.context("write to the chain's database")?;
        Ok(success)
    }

    /// All digests that have stood for the image for the platform that a name stands for now.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn digests_of(&self, name: &str, platform_digest: &Digest) -> Result<Vec<Digest>> {
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT DISTINCT digest FROM image_digest WHERE name = ? AND platform_digest = ?")
                .bind(name)
                .bind(platform_digest.as_str())
                .fetch_all(&mut *self.connection().await)
                .await
                .context("read an image's digests")?;
        Ok(rows.into_iter().filter_map(|text| Digest::try_from(text).ok()).collect())
    }

    /// Forgets images that nobody builds on any more; the digests that they had are kept. Seen again, each is seen for the first time.
    ///
    /// # Errors
    /// When that can't be written.
    pub async fn forget_images(&self, names: &[String]) -> Result<()> {
        let mut connection = self.connection().await;
        for name in names {
            for statement in ["DELETE FROM image_look WHERE name = ?", "DELETE FROM image WHERE name = ?"] {
                sqlx::query(statement).bind(name).execute(&mut *connection).await.context("forget an image")?;
            }
        }
        Ok(())
    }

    /// What the projects' images were built on.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn built(&self) -> Result<BTreeMap<ProjectId, Built>> {
        let rows = sqlx::query("SELECT * FROM built").fetch_all(&mut *self.connection().await).await;
        rows.context("read what images were built on")?
            .iter()
            .map(|row| {
                let on_new = match row.try_get::<String, _>("verdict")?.as_str() {
                    "new" => Some(true),
                    "old" => Some(false),
                    _ => None,
                };
                let (pipeline, words, since) = (row.try_get("pipeline")?, row.try_get("words")?, row.try_get("since")?);
                Ok((row.try_get("project")?, Built { pipeline, on_new, words, since }))
            })
            .collect()
    }

    /// Notes what a project's image was built on; whether the project is on record itself already.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn save_built(&self, project: ProjectId, built: &Built) -> Result<bool> {
        let verdict = match built.on_new {
            Some(true) => "new",
            Some(false) => "old",
            None => "unknown",
        };
        let done = sqlx::query(
            "INSERT OR REPLACE INTO built (project, pipeline, verdict, words, since) SELECT id, ?2, ?3, ?4, ?5 FROM project WHERE id = ?1",
        )
        .bind(project)
        .bind(built.pipeline)
        .bind(verdict)
        .bind(&built.words)
        .bind(built.since)
        .execute(&mut *self.connection().await)
        .await
        .context("write what an image was built on")?;
        Ok(done.rows_affected() > 0)
    }
}
