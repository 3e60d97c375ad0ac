//! One pipeline: looked at, made, retried, canceled.

use serde_json::{Value, json};

use super::{Call, paging};
use crate::clock::rest;
use crate::http::{Answer, Reply};
use crate::life::{self, New};
use crate::state::{Access, DEVELOPER, Job, MAINTAINER, Pipeline, Project, REPORTER, State};

/// The project, if its pipelines may be seen.
pub fn readable<'s>(state: &'s State, call: &Call<'_>, id: &str) -> Result<&'s Project, Answer> {
    let (project, access) = call.project(state, id)?;
    let is_open = project.visibility != "private" || access >= Access(REPORTER);
    if project.builds == "disabled" || !is_open { Err(Answer::forbidden()) } else { Ok(project) }
}

fn find<'s>(
    state: &'s State,
    call: &Call<'_>,
    id: &str,
    pipeline: &str,
) -> Result<(&'s Project, &'s Pipeline), Answer> {
    let project = readable(state, call, id)?;
    let found = pipeline.parse().ok().and_then(|id: u64| state.pipelines.get(&id));
    let found = found.filter(|pipeline| pipeline.project == project.id);
    Ok((project, found.ok_or_else(|| Answer::message(404, "404 Not found"))?))
}

/// A pipeline that the token's user may start and stop.
fn changeable(state: &State, call: &Call<'_>, id: &str, pipeline: &str) -> Result<u64, Answer> {
    let (project, pipeline) = find(state, call, id, pipeline)?;
    let role = if pipeline.is_protected { MAINTAINER } else { DEVELOPER };
    call.project_as(state, id, role)?;
    if project.archived { Err(Answer::forbidden()) } else { Ok(pipeline.id) }
}

/// A pipeline in full.
pub fn shown(state: &State, status: u16, id: u64) -> Reply {
    let pipeline = state.pipelines.get(&id);
    let found = pipeline.and_then(|pipeline| Some((state.projects.get(&pipeline.project)?, pipeline)));
    let (project, pipeline) = found.ok_or_else(|| Answer::message(404, "404 Not found"))?;
    Ok(Answer::json(status, &full(state, project, pipeline)))
}

/// `GET /projects/:id/pipelines/:pipeline_id`
pub fn get(state: &State, call: &Call<'_>, id: &str, pipeline: &str) -> Reply {
    let (_, pipeline) = find(state, call, id, pipeline)?;
    shown(state, 200, pipeline.id)
}

/// `GET /projects/:id/pipelines/latest`: the newest of the newest commit of a branch. There being none is a matter of
/// permission to GitLab.
pub fn latest(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = readable(state, call, id)?;
    let wanted = call.parameters.text("ref").or_else(|| project.default_branch.clone());
    let head = wanted.as_deref().and_then(|name| project.commit(Some(name))).map(|commit| commit.sha.as_str());
    let is_it = |pipeline: &&Pipeline| {
        Some(pipeline.branch.as_str()) == wanted.as_deref()
            && Some(pipeline.sha.as_str()) == head
            && !pipeline.is_child()
    };
    let newest_first = project.pipelines.iter().rev().filter_map(|id| state.pipelines.get(id));
    let latest = { newest_first }.find(is_it).ok_or_else(Answer::forbidden)?;
    shown(state, 200, latest.id)
}

/// `POST /projects/:id/pipeline`
pub fn create(state: &mut State, call: &Call<'_>, id: &str) -> Reply {
    let (project, access) = call.project(state, id)?;
    if access < Access(DEVELOPER) || project.archived || project.builds == "disabled" {
        return Err(Answer::forbidden());
    }
    let name = call.parameters.text("ref").ok_or_else(|| Answer::error(400, "ref is missing"))?;
    let base = |text: &str| Answer::json(400, &json!({"message": {"base": [text]}}));
    let variables = variables(call.parameters.get("variables"));
    if !variables.is_empty() && access < Access(project.variables_role) {
        return Err(base("Insufficient permissions to set pipeline variables"));
    }
    let branch = project.branch(Some(&name));
    if branch.is_some_and(|branch| branch.is_protected) && access < Access(MAINTAINER) {
        return Err(base(&format!(
            "You do not have sufficient permission to run a pipeline on '{name}'. Please select a different branch or \
             contact your administrator for assistance."
        )));
    }
    let Some(branch) = branch else { return Err(base("Reference not found")) };
    if !project.has_ci_config {
        return Err(base("Missing CI config file"));
    }
    if let Some(refusal) = &project.refusal {
        return Err(base(refusal));
    }
    let (project, is_tag) = (project.id, branch.is_tag);
    let sha = branch.head().map(|commit| commit.sha.clone());
    if let Some(most) = state.settings.pipelines_per_minute {
        let what = format!("create {project} {} {}", call.token.username, sha.as_deref().unwrap_or_default());
        if !state.allows(what, most) {
            return Err(base("Too many pipelines created in the last minute. Try again later."));
        }
    }
    let new = New {
        branch: name,
        is_tag,
        sha,
        source: "api".into(),
        username: call.token.username.clone(),
        name: None,
        variables,
        jobs: None,
        merge_request: None,
        upstream: None,
        created_at: None,
        is_driven: false,
        is_quiet: false,
        event_uuid: call.request.header("x-gitlab-event-uuid").map(str::to_owned),
    };
    let pipeline = life::create(state, project, new);
    shown(state, 201, pipeline)
}

fn variables(list: Option<&Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let pair = |entry: &Value| Some((text(&entry["key"])?, text(&entry["value"]).unwrap_or_default()));
    list.and_then(Value::as_array).map(|list| list.iter().filter_map(pair).collect()).unwrap_or_default()
}

/// `POST /projects/:id/pipelines/:pipeline_id/retry`
pub fn retry(state: &mut State, call: &Call<'_>, id: &str, pipeline: &str) -> Reply {
    let pipeline = changeable(state, call, id, pipeline)?;
    life::retry(state, pipeline);
    shown(state, 201, pipeline)
}

/// `POST /projects/:id/pipelines/:pipeline_id/cancel`: one that has ended already stays as it is, and that is no error.
pub fn cancel(state: &mut State, call: &Call<'_>, id: &str, pipeline: &str) -> Reply {
    let pipeline = changeable(state, call, id, pipeline)?;
    life::cancel(state, pipeline);
    shown(state, 200, pipeline)
}

/// `POST /projects/:id/jobs/:job_id/play`
pub fn play(state: &mut State, call: &Call<'_>, id: &str, job: &str) -> Reply {
    let project = readable(state, call, id)?;
    let missing = || Answer::message(404, "404 Not found");
    let wanted: u64 = job.parse().map_err(|_| missing())?;
    let all = project.pipelines.iter().filter_map(|id| state.pipelines.get(id));
    let found = { all }.find_map(|pipeline| Some((pipeline.id, pipeline.jobs.iter().find(|job| job.id == wanted)?)));
    let (pipeline, name) = found.map(|(pipeline, job)| (pipeline, job.plan.name.clone())).ok_or_else(missing)?;
    changeable(state, call, id, &pipeline.to_string())?;
    if !life::play(state, pipeline, Some(&name)) {
        return Err(Answer::message(400, "400 Bad request - Unplayable Job"));
    }
    let pipeline = state.pipelines.get(&pipeline).ok_or_else(missing)?;
    let project = state.projects.get(&pipeline.project).ok_or_else(missing)?;
    let job = pipeline.jobs.iter().find(|job| job.id == wanted).ok_or_else(missing)?;
    Ok(Answer::json(200, &about_job(state, project, pipeline, job)))
}

/// `GET /projects/:id/pipelines/:pipeline_id/jobs`
pub fn jobs(state: &State, call: &Call<'_>, id: &str, pipeline: &str) -> Reply {
    let (project, pipeline) = find(state, call, id, pipeline)?;
    let with_retried = call.parameters.truth("include_retried").unwrap_or(false);
    let scopes: Vec<&str> = {
        let pairs = call.request.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| matches!(*name, "scope" | "scope[]" | "scope%5B%5D")).map(|(_, value)| value).collect()
    };
    let is_wanted =
        |job: &&Job| (with_retried || !job.is_retried) && (scopes.is_empty() || scopes.contains(&job.status.as_str()));
    let newest_first: Vec<&Job> = pipeline.jobs.iter().rev().filter(is_wanted).collect();
    Ok(paging::page(state, call, &newest_first, |job| about_job(state, project, pipeline, job)))
}

/// A pipeline as lists show it.
pub fn basic(state: &State, project: &Project, pipeline: &Pipeline) -> Value {
    json!({
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": pipeline.project,
        "sha": pipeline.sha,
        "ref": pipeline.branch,
        "status": pipeline.status,
        "source": pipeline.source,
        "created_at": rest(pipeline.created_at),
        "updated_at": rest(pipeline.updated_at),
        "web_url": format!("{}/-/pipelines/{}", state.web_url(project), pipeline.id),
        "name": pipeline.name,
    })
}

fn full(state: &State, project: &Project, pipeline: &Pipeline) -> Value {
    let mut shown = basic(state, project, pipeline);
    let (status, label) = (&pipeline.status, pipeline.label());
    let mut text = label.to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let more = json!({
        "before_sha": pipeline.before_sha,
        "tag": pipeline.is_tag,
        "yaml_errors": null,
        "user": user(state, pipeline),
        "started_at": pipeline.started_at.map(rest),
        "finished_at": pipeline.finished_at.map(rest),
        "committed_at": null,
        "duration": pipeline.duration(),
        "queued_duration": pipeline.queued_duration(),
        "coverage": null,
        "detailed_status": {
            "icon": format!("status_{status}"), "text": text, "label": label, "group": status, "tooltip": label,
            "has_details": true, "details_path": format!("/{}/-/pipelines/{}", project.path, pipeline.id),
            "illustration": null, "favicon": format!("/assets/ci_favicons/favicon_status_{status}.png"),
        },
        "archived": false,
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

fn user(state: &State, pipeline: &Pipeline) -> Value {
    json!({
        "id": 7, "username": pipeline.username, "public_email": "", "name": pipeline.username, "state": "active",
        "locked": false, "avatar_url": null, "web_url": format!("{}/{}", state.settings.url, pipeline.username),
    })
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a job are few")]
fn about_job(state: &State, project: &Project, pipeline: &Pipeline, job: &Job) -> Value {
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
    let mut shown = json!({
        "id": job.id,
        "status": job.status,
        "stage": job.plan.stage,
        "name": job.plan.name,
        "ref": pipeline.branch,
        "tag": pipeline.is_tag,
        "coverage": null,
        "allow_failure": job.plan.allow_failure,
        "created_at": rest(job.created_at),
        "started_at": job.started_at.map(rest),
        "finished_at": job.finished_at.map(rest),
        "erased_at": null,
        "duration": job.started_at.zip(job.finished_at).map(|(start, end)| seconds(start, end)),
        "queued_duration": job.started_at.map(|start| seconds(job.created_at, start)),
        "user": user(state, pipeline),
        "commit": null,
        "pipeline": basic(state, project, pipeline),
        "web_url": format!("{}/-/jobs/{}", state.web_url(project), job.id),
        "project": {"ci_job_token_scope_enabled": false},
        "artifacts": [],
        "runner": null,
        "artifacts_expire_at": null,
        "archived": false,
        "tag_list": [],
    });
    // Absent unless there is one.
    if job.status == "failed" {
        shown["failure_reason"] = json!("script_failure");
    }
    shown
}
