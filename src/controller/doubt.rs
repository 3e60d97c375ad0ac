//! Starts of which nobody knows what came of them: the answer got lost, or the daemon ended before it came. Their pipelines are looked for.

use anyhow::Result;

use super::Controller;
use super::hooks::host_now;
use super::start::word;
use crate::chain::facts::{Outcome, ProjectId, Time};
use crate::gitlab::{PipelinesOf, parse_time};
use crate::store::{StartNote, StartRow};

/// How long a pipeline may take to show up after a request whose answer got lost, in milliseconds: GitLab may be at it still.
const UNSURE: Time = 60_000;
/// By how much GitLab's clock may seem to go back between two answers, in milliseconds: its header has whole seconds.
const CLOCK: Time = 5_000;

impl Controller {
    /// Finds out what became of starts whose answers got lost.
    pub(super) async fn resolve(&self) {
        let pending: Vec<(ProjectId, Time)> = {
            let state = self.state();
            let pending = state.facts.projects.iter().filter_map(|(id, project)| {
                let attempt = project.attempt.as_ref().filter(|attempt| attempt.outcome == Outcome::Pending)?;
                Some((*id, attempt.at))
            });
            pending.collect()
        };
        for (id, since) in pending {
            match self.find_started(id, since).await {
                Ok(Some(pipeline)) => {
                    tracing::info!(
                        project = self.state().path(id),
                        pipeline,
                        "found the pipeline whose start was in doubt"
                    );
                    let words = format!("pipeline {pipeline}, found after its answer got lost");
                    self.end_doubt(id, Outcome::Created(pipeline), words).await;
                }
                Ok(None) if self.gitlab.now() < since + UNSURE => continue,
                Ok(None) => {
                    let words = "GitLab made no pipeline, or did not say so".to_owned();
                    self.end_doubt(id, Outcome::Failed(words.clone()), words).await;
                }
                Err(error) => {
                    tracing::warn!(
                        project = self.state().path(id),
                        "look for a pipeline whose start is in doubt: {error:#}"
                    );
                    continue;
                }
            }
            if let Err(error) = self.look(id).await {
                tracing::warn!(project = self.state().path(id), "look at its pipelines: {error:#}");
            }
            self.save_or_say([id]).await;
        }
    }

    /// Notes what came of a start that was in doubt: on record it is a start like any other.
    async fn end_doubt(&self, id: ProjectId, outcome: Outcome, words: String) {
        self.gitlab.metrics().chain_started(word(Some(&outcome)));
        let row = {
            let mut state = self.state();
            state.facts.settle_attempt(id, outcome.clone());
            StartRow {
                at: host_now(),
                project: id,
                path: state.path(id),
                // Only where the release that began it had put no start on record before it was sent.
                reason: "why is not on record".to_owned(),
                causes: None,
                outcome: words,
                pending: false,
                pipeline: match outcome {
                    Outcome::Created(pipeline) => Some(pipeline),
                    _ => None,
                },
            }
        };
        if let Err(error) = self.save_start(id, StartNote::Ends(&row)).await {
            tracing::error!("{error:#}");
        }
    }

    /// The pipeline that a request made, if it did: of this token's user, through the API, and none that the chain knows already.
    async fn find_started(&self, id: ProjectId, since: Time) -> Result<Option<i64>> {
        let username = self.username.get_or_try_init(|| self.gitlab.username()).await?;
        let (reference, last) = {
            let state = self.state();
            let reference = state.about.get(&id).and_then(|about| self.tracked(about)).map(str::to_owned);
            let started = state.facts.projects.get(&id).and_then(|project| project.started.as_ref());
            (reference, started.map_or(0, |(pipeline, _)| *pipeline))
        };
        let of = PipelinesOf {
            reference: reference.as_deref(),
            source: Some("api"),
            username: Some(username),
            status: None,
        };
        let rows = self.gitlab.pipelines(id, of, 20).await?;
        let made = rows.into_iter().rev().find(|row| {
            let created = row.created_at.as_deref().and_then(parse_time);
            row.id > last && created.is_some_and(|created| created >= since - CLOCK)
        });
        Ok(made.map(|row| row.id))
    }
}
