//! Pipelines that a test makes and drives.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::refused;
use crate::clock::{self, Time};
use crate::http::{Answer, Reply};
use crate::life::{self, New};
use crate::rest;
use crate::state::{JobPlan, MergeRequest, State, Upstream};

/// A pipeline of any kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewPipeline {
    /// Its branch; none: the default branch.
    branch: Option<String>,
    /// Its tag, instead of a branch.
    tag: Option<String>,
    /// Its commit; none: the newest.
    sha: Option<String>,
    /// Why it runs; none: `push`, `merge_request_event`, or `parent_pipeline`.
    source: Option<String>,
    username: Option<String>,
    name: Option<String>,
    variables: BTreeMap<String, String>,
    jobs: Option<Vec<JobPlan>>,
    /// It runs for a merge request of a branch, of a fork perhaps.
    merge_request: Option<MergeRequest>,
    /// It was started by a pipeline of another project.
    upstream: Option<Upstream>,
    /// It is a child of this pipeline of the same project.
    parent: Option<u64>,
    /// When it was made, in ISO 8601.
    created_at: Option<String>,
    /// When it ended, in ISO 8601; with `to`.
    finished_at: Option<String>,
    /// Webhooks never say anything of it.
    quiet: bool,
    /// It goes to this status at once, and then stays there until a test changes it.
    to: Option<String>,
    /// It is made, and stays as it is until a test changes it, even where pipelines go by themselves.
    driven: bool,
}

/// What becomes of a pipeline.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum PipelineChange {
    /// On the way that GitLab takes. Besides statuses: `warnings`, a success in spite of a failed job.
    To(String),
    /// At once.
    Set(String),
}

/// Which job is meant; none: the first that can be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WhichJob {
    job: Option<String>,
}

/// `POST projects/:id/pipelines`
pub fn create(state: &mut State, project: u64, new: NewPipeline) -> Reply {
    let default = state.projects.get(&project).and_then(|project| project.default_branch.clone());
    let merge_request = new.merge_request.as_ref();
    let branch = merge_request.map(|merge_request| format!("refs/merge-requests/{}/head", merge_request.iid));
    let is_tag = new.tag.is_some();
    let branch = branch.or(new.tag).or(new.branch).or(default).unwrap_or_else(|| "main".into());
    let parent = new.parent.map(|pipeline_id| Upstream { project_id: project, pipeline_id, job_id: 0 });
    let usual = match (merge_request, parent) {
        (Some(_), _) => "merge_request_event",
        (None, Some(_)) => "parent_pipeline",
        (None, None) => "push",
    };
    let new_pipeline = New {
        branch,
        is_tag,
        sha: new.sha,
        source: new.source.unwrap_or_else(|| usual.into()),
        username: new.username.unwrap_or_else(|| "somebody".into()),
        name: new.name,
        variables: new.variables.into_iter().collect(),
        jobs: new.jobs,
        merge_request: new.merge_request,
        upstream: new.upstream.or(parent),
        created_at: new.created_at.as_deref().map(time).transpose()?,
        is_driven: new.driven || new.to.is_some(),
        is_quiet: new.quiet,
        event_uuid: None,
    };
    let finished_at = new.finished_at.as_deref().map(time).transpose()?;
    let id = life::create(state, project, new_pipeline);
    if let Some(status) = &new.to {
        life::advance_at(state, id, status, finished_at);
    }
    shown(state, id)
}

fn time(text: &str) -> Result<Time, Answer> {
    clock::read(text).ok_or_else(|| refused(&format!("{text:?} is no time")))
}

/// `GET pipelines/:id`
pub fn shown(state: &State, id: u64) -> Reply {
    rest::pipeline(state, 200, id)
}

/// `POST pipelines/:id`
pub fn change(state: &mut State, id: u64, change: PipelineChange) -> Reply {
    life::take_over(state, id);
    match change {
        PipelineChange::To(status) => life::advance(state, id, &status),
        PipelineChange::Set(status) => life::set(state, id, &status),
    }
    shown(state, id)
}

/// `POST pipelines/:id/:deed`
pub fn act(state: &mut State, id: u64, deed: &str, which: WhichJob) -> Reply {
    let job = which.job.as_deref();
    let is_done = match deed {
        "retry" => {
            life::retry(state, id);
            true
        }
        "cancel" => {
            life::cancel(state, id);
            true
        }
        "play" => life::play(state, id, job),
        "rearm" => life::rearm(state, id, job),
        _ => return Err(refused(&format!("{deed} can't be done with a pipeline"))),
    };
    if is_done { shown(state, id) } else { Err(refused("there is no such job")) }
}
