//! Projects: what is known of them, and what they build on.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, Row as _, SqliteConnection};

use super::rows::{
    baseline_of, baseline_to_columns, inputs_of, inputs_to_text, outcome_of, outcome_to_columns, success_of,
    upstream_of, upstream_to_text,
};
use super::{NewsRow, StartNote, Store, history, news};
use crate::chain::facts::{Attempt, Edge, Pipeline, Project, ProjectId, Success, Time};
use crate::chain::words;

/// What is known of a project beside the facts that decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// Its path.
    pub path: String,
    /// Its page.
    pub web_url: String,
    /// `private`, `internal` or `public`; none: not known.
    pub visibility: Option<String>,
    /// Where its images are.
    pub registry_prefix: Option<String>,
    /// Its default branch; none while its repository is empty.
    pub default_branch: Option<String>,
    /// The commit at which its further files were looked for.
    pub head: Option<String>,
    /// Since when it is not in the list of the chain's projects.
    pub absent_since: Option<Time>,
    /// What could not be read or done, the last time.
    pub problems: Vec<String>,
    /// What in its files could not be understood.
    pub findings: Vec<String>,
    /// The files that say what it builds on.
    pub files: BTreeMap<String, String>,
    /// The state that it is in, as the last pass saw it.
    pub state: String,
    /// Since when, by GitLab's clock.
    pub state_since: Time,
    /// What somebody was told of last.
    pub notified: Option<String>,
    /// Its webhook.
    pub hook: HookState,
}

/// What is known of a project's webhook.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookState {
    /// Its id.
    pub id: Option<i64>,
    /// A fingerprint of the secrets that it was set up with.
    pub secrets: Option<String>,
    /// When it was looked at last, by the host's clock.
    pub checked_at: Option<Time>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// A project with all that is kept of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// The facts.
    pub facts: Project,
    /// The rest.
    pub about: About,
}

impl Store {
    /// Everything that is known.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn projects(&self) -> Result<BTreeMap<ProjectId, Kept>> {
        let mut connection = self.connection().await;
        let mut projects = BTreeMap::new();
        let rows =
            sqlx::query("SELECT * FROM project").fetch_all(&mut *connection).await.context("read the projects")?;
        for row in rows {
            let id: ProjectId = row.try_get("id")?;
            projects.insert(id, kept(&row).with_context(|| format!("read project {id} from the database"))?);
        }
        for row in sqlx::query("SELECT * FROM edge").fetch_all(&mut *connection).await.context("read the edges")? {
            let Some(project) = projects.get_mut(&row.try_get::<i64, _>("project")?) else { continue };
            project.facts.edges.push(edge(&row)?);
        }
        for row in sqlx::query("SELECT * FROM file").fetch_all(&mut *connection).await.context("read the files")? {
            let Some(project) = projects.get_mut(&row.try_get::<i64, _>("project")?) else { continue };
            project.about.files.insert(row.try_get("path")?, row.try_get("content")?);
        }
        Ok(projects)
    }

    /// The images that no project builds, and when their digests moved.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn images(&self) -> Result<BTreeMap<String, Success>> {
        let rows = sqlx::query("SELECT name, success_id, success_at FROM image");
        let rows = rows.fetch_all(&mut *self.connection().await).await.context("read the images")?;
        rows.iter()
            .map(|row| {
                Ok((row.try_get("name")?, Success { id: row.try_get("success_id")?, at: row.try_get("success_at")? }))
            })
            .collect()
    }

    /// Writes these projects, all or none, and with them the news of what was built. The news that are new.
    ///
    /// # Errors
    /// When they can't be written.
    pub async fn save(&self, projects: &[(ProjectId, &Kept)]) -> Result<Vec<NewsRow>> {
        if projects.is_empty() { Ok(Vec::new()) } else { self.save_with(projects, None).await }
    }

    /// The same, and what there is to note of a start with them.
    ///
    /// # Errors
    /// When they can't be written.
    pub async fn save_with(
        &self,
        projects: &[(ProjectId, &Kept)],
        start: Option<StartNote<'_>>,
    ) -> Result<Vec<NewsRow>> {
        let mut new = Vec::new();
        let mut connection = self.connection().await;
        let mut transaction = connection.begin().await.context("write to the chain's database")?;
        for (id, project) in projects {
            let written = async {
                // Before the row that it is compared with is another.
                new.extend(news::note(&mut transaction, *id, project).await?);
                write(&mut transaction, *id, project).await
            };
            written.await.with_context(|| format!("write project {id} to the database"))?;
        }
        if let Some(start) = start {
            history::note(&mut transaction, start).await.context("write a start to the chain's database")?;
        }
        if !new.is_empty() {
            news::trim(&mut transaction).await?;
        }
        transaction.commit().await.context("write to the chain's database")?;
        Ok(new)
    }

    /// Forgets projects.
    ///
    /// # Errors
    /// When that can't be written.
    pub async fn forget(&self, projects: &[ProjectId]) -> Result<()> {
        let mut connection = self.connection().await;
        for id in projects {
            sqlx::query("DELETE FROM project WHERE id = ?")
                .bind(id)
                .execute(&mut *connection)
                .await
                .context("forget a project")?;
        }
        Ok(())
    }
}

fn kept(row: &SqliteRow) -> Result<Kept> {
    let latest = match (
        row.try_get("latest_id")?,
        row.try_get::<Option<String>, _>("latest_status")?,
        row.try_get("latest_created_at")?,
    ) {
        (Some(id), Some(status), Some(created_at)) => Some(Pipeline { id, status: words::status(&status), created_at }),
        _ => None,
    };
    let started = match (row.try_get("started_id")?, row.try_get::<Option<String>, _>("started_inputs")?) {
        (Some(id), Some(inputs)) => Some((id, inputs_of(&inputs)?)),
        _ => None,
    };
    let attempt = match row.try_get::<Option<String>, _>("attempt_inputs")? {
        None => None,
        Some(inputs) => Some(Attempt {
            inputs: inputs_of(&inputs)?,
            at: row.try_get("attempt_at")?,
            outcome: outcome_of(row.try_get("attempt_outcome")?, row.try_get("attempt_detail")?)?,
            tries: row.try_get("attempt_tries")?,
        }),
    };
    let facts = Project {
        seen: row.try_get("seen")?,
        edges: Vec::new(),
        latest,
        success: success_of(row.try_get("success_id")?, row.try_get("success_at")?),
        attempt,
        started,
        paused: row.try_get("paused")?,
        wanted: row.try_get("wanted")?,
        wanted_alone: row.try_get("wanted_alone")?,
        alone: row.try_get("alone")?,
    };
    let about = About {
        path: row.try_get("path")?,
        web_url: row.try_get("web_url")?,
        visibility: row.try_get("visibility")?,
        registry_prefix: row.try_get("registry_prefix")?,
        default_branch: row.try_get("default_branch")?,
        head: row.try_get("head")?,
        absent_since: row.try_get("absent_since")?,
        problems: serde_json::from_str(row.try_get("problems")?).context("its problems")?,
        findings: serde_json::from_str(row.try_get("findings")?).context("its findings")?,
        files: BTreeMap::new(),
        state: row.try_get("state")?,
        state_since: row.try_get("state_since")?,
        notified: row.try_get("notified")?,
        hook: HookState {
            id: row.try_get("hook_id")?,
            secrets: row.try_get("hook_secrets")?,
            checked_at: row.try_get("hook_checked_at")?,
            problem: row.try_get("hook_problem")?,
        },
    };
    Ok(Kept { facts, about })
}

fn edge(row: &SqliteRow) -> Result<Edge> {
    let success = success_of(row.try_get("baseline_id")?, row.try_get("baseline_at")?);
    Ok(Edge {
        upstream: upstream_of(row.try_get("upstream")?)?,
        pinned: row.try_get("pinned")?,
        baseline: baseline_of(row.try_get("baseline")?, success)?,
    })
}

async fn write(connection: &mut SqliteConnection, id: ProjectId, kept: &Kept) -> Result<()> {
    let (facts, about) = (&kept.facts, &kept.about);
    let started = facts.started.as_ref().map(|(_, inputs)| inputs_to_text(inputs)).transpose()?;
    let attempt = facts.attempt.as_ref();
    let attempt_inputs = attempt.map(|attempt| inputs_to_text(&attempt.inputs)).transpose()?;
    let outcome = attempt.map(outcome_to_columns);
    // A conflict updates the row: replacing it would take the edges and files along.
    sqlx::query(
        "INSERT INTO project (id, path, web_url, visibility, registry_prefix, default_branch, head, absent_since, problems, findings, seen, \
         latest_id, latest_status, latest_created_at, success_id, success_at, started_id, started_inputs, paused, wanted, wanted_alone, \
         alone, attempt_inputs, attempt_at, attempt_outcome, attempt_detail, attempt_tries, state, state_since, notified, hook_id, \
         hook_secrets, hook_checked_at, hook_problem) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, \
         ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34) \
         ON CONFLICT (id) DO UPDATE SET path = ?2, web_url = ?3, visibility = ?4, registry_prefix = ?5, default_branch = ?6, head = ?7, \
         absent_since = ?8, problems = ?9, findings = ?10, seen = ?11, latest_id = ?12, latest_status = ?13, latest_created_at = ?14, \
         success_id = ?15, success_at = ?16, started_id = ?17, started_inputs = ?18, paused = ?19, wanted = ?20, wanted_alone = ?21, \
         alone = ?22, attempt_inputs = ?23, attempt_at = ?24, attempt_outcome = ?25, attempt_detail = ?26, attempt_tries = ?27, \
         state = ?28, state_since = ?29, notified = ?30, hook_id = ?31, hook_secrets = ?32, hook_checked_at = ?33, hook_problem = ?34",
    )
    .bind(id)
    .bind(&about.path)
    .bind(&about.web_url)
    .bind(&about.visibility)
    .bind(&about.registry_prefix)
    .bind(&about.default_branch)
    .bind(&about.head)
    .bind(about.absent_since)
    .bind(serde_json::to_string(&about.problems)?)
    .bind(serde_json::to_string(&about.findings)?)
    .bind(facts.seen)
    .bind(facts.latest.map(|latest| latest.id))
    .bind(facts.latest.map(|latest| words::word(latest.status)))
    .bind(facts.latest.map(|latest| latest.created_at))
    .bind(facts.success.map(|success| success.id))
    .bind(facts.success.map(|success| success.at))
    .bind(facts.started.as_ref().map(|(pipeline, _)| *pipeline))
    .bind(started)
    .bind(facts.paused)
    .bind(facts.wanted)
    .bind(facts.wanted_alone)
    .bind(facts.alone)
    .bind(attempt_inputs)
    .bind(attempt.map(|attempt| attempt.at))
    .bind(outcome.as_ref().map(|(word, _)| *word))
    .bind(outcome.as_ref().and_then(|(_, detail)| detail.clone()))
    .bind(attempt.map(|attempt| attempt.tries))
    .bind(&about.state)
    .bind(about.state_since)
    .bind(&about.notified)
    .bind(about.hook.id)
    .bind(&about.hook.secrets)
    .bind(about.hook.checked_at)
    .bind(&about.hook.problem)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM edge WHERE project = ?").bind(id).execute(&mut *connection).await?;
    for edge in &facts.edges {
        let (word, success) = baseline_to_columns(edge.baseline);
        sqlx::query("INSERT INTO edge (project, upstream, pinned, baseline, baseline_id, baseline_at) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(id)
            .bind(upstream_to_text(&edge.upstream)?)
            .bind(edge.pinned)
            .bind(word)
            .bind(success.map(|success| success.id))
            .bind(success.map(|success| success.at))
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("DELETE FROM file WHERE project = ?").bind(id).execute(&mut *connection).await?;
    for (path, content) in &about.files {
        sqlx::query("INSERT INTO file (project, path, content) VALUES (?, ?, ?)")
            .bind(id)
            .bind(path)
            .bind(content)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
