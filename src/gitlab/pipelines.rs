//! Pipelines and their jobs.

use serde::Deserialize;
use serde_json::json;

use super::request::Call;
use super::{Client, GitlabError};

/// What starting pipelines needs (doc/ci/pipelines: on protected branches, the right to merge or push).
const NEEDS: &str = "the right to run pipelines on this branch: the role Maintainer";

/// A pipeline, as lists and single answers have it (doc/api/pipelines.md). Times are texts as GitLab writes them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PipelineRow {
    /// Its id.
    pub id: i64,
    /// One of GitLab's words.
    pub status: String,
    /// The branch or tag.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// What started it.
    pub source: Option<String>,
    /// When it was created.
    pub created_at: Option<String>,
    /// When it changed last.
    pub updated_at: Option<String>,
    /// When it ended; lists don't say that.
    pub finished_at: Option<String>,
    /// Its page.
    pub web_url: Option<String>,
}

/// A job of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct JobRow {
    /// Its name.
    pub name: String,
    /// One of GitLab's words.
    pub status: String,
    /// When it ended.
    pub finished_at: Option<String>,
}

/// Which pipelines to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct PipelinesOf<'a> {
    /// Of this branch.
    pub reference: Option<&'a str>,
    /// With this status.
    pub status: Option<&'a str>,
    /// From this source.
    pub source: Option<&'a str>,
    /// Started by this user.
    pub username: Option<&'a str>,
}

impl Client {
    /// A project's latest pipelines, the last first; at most `count`, which is at most 100. Child pipelines are not among them.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn pipelines(
        &self,
        project: i64,
        of: PipelinesOf<'_>,
        count: usize,
    ) -> Result<Vec<PipelineRow>, GitlabError> {
        let mut call = Call::get(format!("projects/{project}/pipelines"));
        call = call.with("per_page", count).with("order_by", "id").with("sort", "desc");
        for (key, value) in
            [("ref", of.reference), ("status", of.status), ("source", of.source), ("username", of.username)]
        {
            if let Some(value) = value {
                call = call.with(key, value);
            }
        }
        self.json(call).await
    }

    /// One pipeline.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn pipeline(&self, project: i64, id: i64) -> Result<PipelineRow, GitlabError> {
        self.json(Call::get(format!("projects/{project}/pipelines/{id}"))).await
    }

    /// The jobs of a pipeline, each as it was run last; at most 500.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn jobs(&self, project: i64, pipeline: i64) -> Result<Vec<JobRow>, GitlabError> {
        self.all(&format!("projects/{project}/pipelines/{pipeline}/jobs"), &[], 500).await
    }

    /// Starts a pipeline on a branch. No variables: a project may forbid them. It is sent once; where its answer gets lost, nobody knows
    /// whether there is one now.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn create_pipeline(&self, project: i64, reference: &str) -> Result<PipelineRow, GitlabError> {
        let call = Call::post(format!("projects/{project}/pipeline")).with_body(json!({ "ref": reference }));
        self.json(call.needing(NEEDS)).await
    }
}
