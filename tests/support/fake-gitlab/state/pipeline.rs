//! A pipeline and its jobs.

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// What a job of a pipeline is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobPlan {
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// Whether somebody has to start it.
    pub manual: bool,
    /// Whether the pipeline succeeds without it.
    pub allow_failure: bool,
}

impl Default for JobPlan {
    fn default() -> Self {
        Self { name: "image".into(), stage: "build".into(), manual: false, allow_failure: false }
    }
}

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: u64,
    /// What it is to be.
    pub plan: JobPlan,
    /// Its status.
    pub status: String,
    /// When it was made.
    pub created_at: Time,
    /// When it began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// Whether another has taken its place.
    pub is_retried: bool,
}

/// The merge request that a pipeline runs for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MergeRequest {
    /// Its number within the project.
    pub iid: u64,
    /// The branch that is to be merged, in a fork perhaps.
    pub source_branch: String,
    /// The project that has that branch.
    pub source_project_id: u64,
}

/// The pipeline that has started another.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its project.
    pub project_id: u64,
    /// Itself.
    pub pipeline_id: u64,
    /// Its job that did so.
    #[serde(default)]
    pub job_id: u64,
}

/// A pipeline.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Its id.
    pub id: u64,
    /// Its number within the project.
    pub iid: u64,
    /// Its project.
    pub project: u64,
    /// Its branch or tag; of a merge request, `refs/merge-requests/1/head`.
    pub branch: String,
    /// Whether that is a tag.
    pub is_tag: bool,
    /// Whether that is protected.
    pub is_protected: bool,
    /// Its commit.
    pub sha: String,
    /// The commit before.
    pub before_sha: String,
    /// Why it runs.
    pub source: String,
    /// Its status.
    pub status: String,
    /// Its name.
    pub name: Option<String>,
    /// Who has started it.
    pub username: String,
    /// Its variables.
    pub variables: Vec<(String, String)>,
    /// When it was made.
    pub created_at: Time,
    /// When something of it last changed.
    pub updated_at: Time,
    /// When its first job began. A retry does not change that.
    pub started_at: Option<Time>,
    /// When it last ended. A retry changes that only at its end.
    pub finished_at: Option<Time>,
    /// Its merge request.
    pub merge_request: Option<MergeRequest>,
    /// The pipeline that has started it.
    pub upstream: Option<Upstream>,
    /// Its jobs, those that were retried among them.
    pub jobs: Vec<Job>,
    /// Whether webhooks say nothing of it.
    pub is_quiet: bool,
    /// Goes up with everything that starts or stops it, so that what was planned before is known to be over.
    pub run: u64,
    /// The chain of events that the request which made it belongs to; of the first transition alone.
    pub event_uuid: Option<String>,
}

impl Pipeline {
    /// Whether a pipeline of the same project has started it.
    pub fn is_child(&self) -> bool {
        self.source == "parent_pipeline"
    }

    /// The branch as webhooks name it: of a merge request, the one that is to be merged.
    pub fn source_branch(&self) -> &str {
        self.merge_request.as_ref().map_or(self.branch.as_str(), |merge_request| merge_request.source_branch.as_str())
    }

    /// Jobs that no other has replaced.
    pub fn latest_jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.iter().filter(|job| !job.is_retried)
    }

    /// Its stages in their order.
    pub fn stages(&self) -> Vec<&str> {
        let mut stages = Vec::new();
        for job in &self.jobs {
            if !stages.contains(&job.plan.stage.as_str()) {
                stages.push(&job.plan.stage);
            }
        }
        stages
    }

    /// Seconds that its jobs took.
    pub fn duration(&self) -> Option<i64> {
        let taken = |job: &Job| Some((job.finished_at? - job.started_at?) / 1000);
        let ended = matches!(self.status.as_str(), "success" | "failed" | "canceled" | "manual");
        (ended || self.finished_at.is_some()).then(|| self.latest_jobs().filter_map(taken).sum())
    }

    /// Seconds until its first job began.
    pub fn queued_duration(&self) -> Option<i64> {
        self.started_at.map(|started| (started - self.created_at) / 1000).filter(|seconds| *seconds > 0)
    }

    /// Whether something that may fail has failed.
    pub fn has_warnings(&self) -> bool {
        self.latest_jobs().any(|job| job.plan.allow_failure && job.status == "failed")
    }

    /// What people are told of its status.
    pub fn label(&self) -> &str {
        match self.status.as_str() {
            "success" if self.has_warnings() => "passed with warnings",
            "success" => "passed",
            "manual" => "waiting for manual action",
            "scheduled" => "waiting for delayed job",
            "waiting_for_resource" => "waiting for resource",
            "waiting_for_callback" => "waiting for callback",
            status => status,
        }
    }
}
