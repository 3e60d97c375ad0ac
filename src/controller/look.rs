//! A look at one project's pipelines, as GitLab has them now.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Controller;
use crate::chain::facts::{Outcome, Pipeline, ProjectId, Status, Success};
use crate::chain::words;
use crate::gitlab::{GitlabError, PipelineRow, PipelinesOf, parse_end, parse_time};

/// Pipelines that are asked for at once: those of merge requests may be among them.
const COUNT: usize = 20;
/// Pipelines whose jobs are looked at for the one that counts.
const DEEP: usize = 5;

/// What a project's pipelines are.
pub(super) type Seen = (Option<Pipeline>, Option<Success>);

impl Controller {
    /// Asks GitLab for a project's pipelines and takes in what it says.
    ///
    /// # Errors
    /// What GitLab or the database says.
    pub(super) async fn look(&self, id: ProjectId) -> Result<()> {
        let (path, reference, known) = {
            let state = self.state();
            let Some(about) = state.about.get(&id) else { return Ok(()) };
            let known = state.facts.projects.get(&id).and_then(|project| project.success);
            (about.path.clone(), self.tracked(about).map(str::to_owned), known)
        };
        // An empty repository has no pipelines.
        let seen = match reference {
            Some(reference) => self.ask(id, &path, &reference, known).await?,
            None => (None, None),
        };
        self.take_in(id, seen);
        self.save([id]).await
    }

    pub(super) fn take_in(&self, id: ProjectId, (latest, success): Seen) {
        let mut state = self.state();
        if state.facts.projects.contains_key(&id) {
            state.facts.observe(id, latest, success);
            state.looked.insert(id, tokio::time::Instant::now());
        }
    }

    async fn ask(
        &self,
        id: ProjectId,
        path: &str,
        reference: &str,
        known: Option<Success>,
    ) -> Result<Seen, GitlabError> {
        let of = PipelinesOf { reference: Some(reference), ..PipelinesOf::default() };
        let mut rows = self.gitlab.pipelines(id, of, COUNT).await?;
        let all = rows.len() < COUNT;
        rows.retain(|row| words::counts(row.source.as_deref()));
        if let Some(job) = self.done_when(path) {
            return self.ask_jobs(id, &rows, job, known).await;
        }
        let latest = rows.first().and_then(pipeline);
        let mut success = rows.into_iter().find(|row| words::status(&row.status) == Status::Success);
        let is_known = |row: &PipelineRow| known.is_some_and(|known| row.id <= known.id);
        if success.is_none() && !all && known.is_none() {
            let of = PipelinesOf { status: Some("success"), ..of };
            let rows = self.gitlab.pipelines(id, of, COUNT).await?;
            success = rows.into_iter().find(|row| words::counts(row.source.as_deref()));
        }
        let success = match success {
            // When it ended counts once, when it is seen first.
            Some(row) if is_known(&row) => known,
            Some(row) => Some(self.ended(id, row).await?),
            None => known,
        };
        Ok((latest, success))
    }

    async fn ended(&self, id: ProjectId, row: PipelineRow) -> Result<Success, GitlabError> {
        let whole = self.gitlab.pipeline(id, row.id).await?;
        let at = [&whole.finished_at, &whole.updated_at, &row.updated_at, &row.created_at];
        let at = at.into_iter().flatten().find_map(|text| parse_end(text));
        Ok(Success { id: row.id, at: at.unwrap_or_else(|| self.gitlab.now()) })
    }

    /// The same, where one job's success is the pipeline's.
    async fn ask_jobs(
        &self,
        id: ProjectId,
        rows: &[PipelineRow],
        job: &str,
        known: Option<Success>,
    ) -> Result<Seen, GitlabError> {
        let (mut latest, mut success) = (None, None);
        for row in rows.iter().take(DEEP) {
            if latest.is_some() && known.is_some_and(|known| row.id <= known.id) {
                break;
            }
            let jobs = self.gitlab.jobs(id, row.id).await?;
            let found = jobs.iter().find(|found| found.name == job);
            let status = match found {
                Some(found) => words::status(&found.status),
                // It is not there: then the pipeline's own state counts.
                None => words::status(&row.status),
            };
            // A job that still can't run, in a pipeline that is over, never will.
            let over = words::status(&row.status);
            let status = if status == Status::Running && over != Status::Running && over != Status::Manual {
                over
            } else {
                status
            };
            if latest.is_none() {
                latest = pipeline(row).map(|pipeline| Pipeline { status, ..pipeline });
            }
            if status == Status::Success && success.is_none() {
                let at = found.and_then(|found| parse_end(found.finished_at.as_deref()?));
                success = Some(match at {
                    Some(at) => Success { id: row.id, at },
                    None => self.ended(id, row.clone()).await?,
                });
                break;
            }
        }
        let newer = success.filter(|success| known.is_none_or(|known| success.id > known.id));
        Ok((latest, newer.or(known)))
    }

    /// Looks at all projects that somebody has to look at.
    pub(super) async fn look_at_dirty(&self) {
        let dirty = std::mem::take(&mut self.state().dirty);
        for id in dirty {
            // Events that come from here on are of what this look may not see.
            let up_to = self.store.events(Some(id), 1).await.ok().and_then(|rows| Some(rows.first()?.id)).unwrap_or(0);
            let verdict = match self.look(id).await {
                Ok(()) => "looked",
                Err(error) => {
                    // The next look at everything sees it too.
                    tracing::warn!(project = self.state().path(id), "look at its pipelines: {error:#}");
                    "GitLab could not be asked"
                }
            };
            let closed = self.store.close_events(id, up_to, verdict).await;
            closed.unwrap_or_else(|error| tracing::error!("{error:#}"));
            self.state().noted.count(id);
        }
    }

    /// Looks at the pipelines that the chain has started and that run as far as it knows.
    pub(super) async fn watch(&self) {
        let running: BTreeSet<ProjectId> = {
            let state = self.state();
            let runs = |project: &crate::chain::facts::Project| {
                let is_started =
                    project.attempt.as_ref().is_some_and(|attempt| matches!(attempt.outcome, Outcome::Created(_)));
                is_started && project.latest.is_some_and(|latest| latest.status == Status::Running)
            };
            state.facts.projects.iter().filter(|(_, project)| runs(project)).map(|(id, _)| *id).collect()
        };
        self.state().dirty.extend(running);
        self.look_at_dirty().await;
    }
}

fn pipeline(row: &PipelineRow) -> Option<Pipeline> {
    let created_at = parse_time(row.created_at.as_deref()?)?;
    Some(Pipeline { id: row.id, status: words::status(&row.status), created_at })
}
