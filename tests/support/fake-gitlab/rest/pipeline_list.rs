//! The pipelines of a project, filtered and sorted.

use std::cmp::Ordering;

use super::{Call, paging, pipelines};
use crate::clock::{self, Time};
use crate::http::{Answer, Parameters, Reply};
use crate::state::{Pipeline, Project, State};

/// All statuses that the API knows.
pub const STATUSES: [&str; 13] = [
    "created",
    "waiting_for_resource",
    "preparing",
    "waiting_for_callback",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
];
/// All sources that the API knows.
const SOURCES: [&str; 19] = [
    "unknown",
    "push",
    "web",
    "trigger",
    "schedule",
    "api",
    "external",
    "pipeline",
    "chat",
    "webide",
    "merge_request_event",
    "external_pull_request_event",
    "parent_pipeline",
    "ondemand_dast_scan",
    "ondemand_dast_validation",
    "security_orchestration_policy",
    "container_registry_push",
    "duo_workflow",
    "pipeline_execution_policy_schedule",
];

/// What is asked of a project's pipelines, by REST and by GraphQL.
#[derive(Debug, Default)]
pub struct Filter {
    /// A branch or tag. Merge requests of a branch of that name count too, as with GitLab.
    pub branch: Option<String>,
    /// Their status.
    pub status: Option<String>,
    /// Why they run.
    pub source: Option<String>,
    /// Their commit.
    pub sha: Option<String>,
    /// Who has started them.
    pub username: Option<String>,
    /// Their name.
    pub name: Option<String>,
    /// `running`, `pending`, `finished`, `branches`, `tags`
    pub scope: Option<String>,
    /// Changed after this.
    pub updated_after: Option<Time>,
    /// Changed before this.
    pub updated_before: Option<Time>,
    /// Made after this.
    pub created_after: Option<Time>,
    /// Made before this.
    pub created_before: Option<Time>,
}

/// `GET /projects/:id/pipelines`
pub fn list(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = pipelines::readable(state, call, id)?;
    let parameters = &call.parameters;
    one_of(parameters, "scope", &["running", "pending", "finished", "branches", "tags"])?;
    one_of(parameters, "status", &STATUSES)?;
    one_of(parameters, "source", &SOURCES)?;
    one_of(parameters, "order_by", &["id", "status", "ref", "updated_at", "user_id"])?;
    one_of(parameters, "sort", &["asc", "desc"])?;
    let filter = Filter {
        branch: parameters.text("ref"),
        status: parameters.text("status"),
        source: parameters.text("source"),
        sha: parameters.text("sha"),
        username: parameters.text("username"),
        name: parameters.text("name"),
        scope: parameters.text("scope"),
        updated_after: time(parameters, "updated_after")?,
        updated_before: time(parameters, "updated_before")?,
        created_after: time(parameters, "created_after")?,
        created_before: time(parameters, "created_before")?,
    };
    let mut all = filtered(state, project, &filter);
    let order = parameters.text("order_by").unwrap_or_else(|| "id".into());
    all.sort_by(|one, other| compare(&order, one, other));
    if parameters.text("sort").is_none_or(|sort| sort == "desc") {
        all.reverse();
    }
    Ok(paging::page(state, call, &all, |pipeline| pipelines::basic(state, project, pipeline)))
}

/// The pipelines that a filter lets through, the oldest first. Child pipelines are no part of them, unless they are asked for.
pub fn filtered<'s>(state: &'s State, project: &Project, filter: &Filter) -> Vec<&'s Pipeline> {
    let all = project.pipelines.iter().filter_map(|id| state.pipelines.get(id));
    let mut found: Vec<&Pipeline> = all.filter(|pipeline| filter.passes(pipeline)).collect();
    if matches!(filter.scope.as_deref(), Some("branches" | "tags")) {
        let newest = |pipeline: &Pipeline, all: &[&Pipeline]| {
            all.iter().all(|other| other.branch != pipeline.branch || other.id <= pipeline.id)
        };
        let all = found.clone();
        found.retain(|pipeline| project.branches.contains_key(&pipeline.branch) && newest(pipeline, &all));
    }
    found
}

impl Filter {
    fn passes(&self, pipeline: &Pipeline) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let in_scope = match self.scope.as_deref() {
            Some("finished") => matches!(pipeline.status.as_str(), "success" | "failed" | "canceled" | "skipped"),
            Some("branches") => !pipeline.is_tag,
            Some("tags") => pipeline.is_tag,
            Some(status) => pipeline.status == status,
            None => true,
        };
        (!pipeline.is_child() || self.source.as_deref() == Some("parent_pipeline"))
            && (is(&self.branch, &pipeline.branch) || is(&self.branch, pipeline.source_branch()))
            && is(&self.status, &pipeline.status)
            && is(&self.source, &pipeline.source)
            && is(&self.sha, &pipeline.sha)
            && is(&self.username, &pipeline.username)
            && is(&self.name, pipeline.name.as_deref().unwrap_or_default())
            && in_scope
            && self.updated_after.is_none_or(|time| pipeline.updated_at > time)
            && self.updated_before.is_none_or(|time| pipeline.updated_at < time)
            && self.created_after.is_none_or(|time| pipeline.created_at > time)
            && self.created_before.is_none_or(|time| pipeline.created_at < time)
    }
}

fn compare(order: &str, one: &Pipeline, other: &Pipeline) -> Ordering {
    let by = match order {
        "status" => one.status.cmp(&other.status),
        "ref" => one.branch.cmp(&other.branch),
        "updated_at" => one.updated_at.cmp(&other.updated_at),
        "user_id" => one.username.cmp(&other.username),
        _ => Ordering::Equal,
    };
    by.then(one.id.cmp(&other.id))
}

fn one_of(parameters: &Parameters, name: &str, words: &[&str]) -> Result<(), Answer> {
    match parameters.text(name) {
        Some(value) if !words.contains(&value.as_str()) => {
            Err(Answer::error(400, &format!("{name} does not have a valid value")))
        }
        _ => Ok(()),
    }
}

fn time(parameters: &Parameters, name: &str) -> Result<Option<Time>, Answer> {
    let Some(text) = parameters.text(name) else { return Ok(None) };
    clock::read(&text).map(Some).ok_or_else(|| Answer::error(400, &format!("{name} is invalid")))
}
