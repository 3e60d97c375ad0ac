//! The body of a pipeline's webhook.

use serde_json::{Value, json};

use crate::clock::{Time, rest, webhook};
use crate::state::{Commit, Job, MergeRequest, Pipeline, Project, State, Upstream};

/// What is said of a pipeline as it is now.
pub fn of(state: &State, pipeline: &Pipeline) -> Option<Value> {
    let project = state.projects.get(&pipeline.project)?;
    let date = if state.dispatch.iso_dates { rest } else { webhook };
    let mut body = json!({
        "object_kind": "pipeline",
        "object_attributes": attributes(state, project, pipeline, date),
        "merge_request": pipeline.merge_request.as_ref().map(|merge_request| about_merge_request(state, project, merge_request)),
        "user": user(pipeline),
        "project": about_project(state, project),
        "commit": project.commit_of(&pipeline.sha).map(|commit| about_commit(state, project, commit)),
        "builds": pipeline.latest_jobs().map(|job| build(pipeline, job, date)).collect::<Vec<_>>(),
    });
    // Unlike all other keys this one is absent where there is nothing to say.
    if let Some(upstream) = &pipeline.upstream {
        body["source_pipeline"] = source_pipeline(state, upstream);
    }
    Some(body)
}

fn attributes(state: &State, project: &Project, pipeline: &Pipeline, date: fn(Time) -> String) -> Value {
    let variables = pipeline.variables.iter().map(|(key, value)| json!({"key": key, "value": value}));
    json!({
        "id": pipeline.id,
        "iid": pipeline.iid,
        "name": pipeline.name,
        "ref": pipeline.source_branch(),
        "tag": pipeline.is_tag,
        "sha": pipeline.sha,
        "before_sha": pipeline.before_sha,
        "source": pipeline.source,
        "status": pipeline.status,
        "detailed_status": pipeline.label(),
        "stages": pipeline.stages(),
        "created_at": date(pipeline.created_at),
        "finished_at": pipeline.finished_at.map(date),
        "duration": pipeline.duration(),
        "queued_duration": pipeline.queued_duration(),
        "protected_ref": pipeline.is_protected,
        "variables": variables.collect::<Vec<_>>(),
        "url": format!("{}/-/pipelines/{}", state.web_url(project), pipeline.id),
    })
}

fn about_merge_request(state: &State, project: &Project, merge_request: &MergeRequest) -> Value {
    json!({
        "id": 500 + merge_request.iid,
        "iid": merge_request.iid,
        "title": "Change something",
        "source_branch": merge_request.source_branch,
        "source_project_id": merge_request.source_project_id,
        "target_branch": project.default_branch,
        "target_project_id": project.id,
        "state": "opened",
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable",
        "url": format!("{}/-/merge_requests/{}", state.web_url(project), merge_request.iid),
    })
}

fn user(pipeline: &Pipeline) -> Value {
    json!({"id": 7, "name": pipeline.username, "username": pipeline.username, "avatar_url": null, "email": "[REDACTED]"})
}

fn about_project(state: &State, project: &Project) -> Value {
    let namespace = project.group().and_then(|group| group.rsplit('/').next());
    let level = match project.visibility.as_str() {
        "public" => 20,
        "internal" => 10,
        _ => 0,
    };
    json!({
        "id": project.id,
        "name": project.name(),
        "description": project.description,
        "web_url": state.web_url(project),
        "avatar_url": null,
        "git_ssh_url": format!("git@gitlab.example.org:{}.git", project.path),
        "git_http_url": format!("{}.git", state.web_url(project)),
        "namespace": namespace,
        "visibility_level": level,
        "path_with_namespace": project.path,
        "default_branch": project.default_branch,
        "ci_config_path": project.ci_config_path,
    })
}

fn about_commit(state: &State, project: &Project, commit: &Commit) -> Value {
    json!({
        "id": commit.sha,
        "message": commit.message,
        "title": commit.title(),
        "timestamp": rest(commit.created_at).replace("Z", "+00:00"),
        "url": format!("{}/-/commit/{}", state.web_url(project), commit.sha),
        "author": {"name": "A. Author", "email": "[REDACTED]"},
    })
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a job are few")]
fn build(pipeline: &Pipeline, job: &Job, date: fn(Time) -> String) -> Value {
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
    let runner = json!({
        "id": 3, "description": "runner of the tests", "runner_type": "instance_type", "active": true, "is_shared": true,
        "tags": [],
    });
    json!({
        "id": job.id,
        "stage": job.plan.stage,
        "name": job.plan.name,
        "status": job.status,
        "created_at": date(job.created_at),
        "started_at": job.started_at.map(date),
        "finished_at": job.finished_at.map(date),
        "duration": job.started_at.zip(job.finished_at).map(|(start, end)| seconds(start, end)),
        "queued_duration": job.started_at.map(|start| seconds(job.created_at, start)),
        "failure_reason": (job.status == "failed").then_some("script_failure"),
        "when": if job.plan.manual { "manual" } else { "on_success" },
        "manual": job.plan.manual,
        "allow_failure": job.plan.allow_failure,
        "user": user(pipeline),
        "runner": job.started_at.map(|_| runner),
        "artifacts_file": {"filename": null, "size": null},
        "environment": null,
    })
}

fn source_pipeline(state: &State, upstream: &Upstream) -> Value {
    let project = state.projects.get(&upstream.project_id);
    json!({
        "project": {
            "id": upstream.project_id,
            "web_url": project.map(|project| state.web_url(project)),
            "path_with_namespace": project.map(|project| project.path.clone()),
        },
        "job_id": upstream.job_id,
        "pipeline_id": upstream.pipeline_id,
    })
}
