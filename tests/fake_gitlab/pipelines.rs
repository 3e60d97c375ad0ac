//! Pipelines: made, refused, listed, run, retried.

use serde_json::{Value, json};

use crate::support::gitlab::FakeGitlab;
use crate::support::wait::{seconds, until};
use crate::{keys, words};

/// What GitLab answers to who makes a pipeline.
const CREATED: &str = "id iid project_id sha ref status source created_at updated_at web_url name before_sha tag yaml_errors \
    user started_at finished_at committed_at duration queued_duration coverage detailed_status archived";
/// What it says of one in a list.
const LISTED: &str = "id iid project_id sha ref status source created_at updated_at web_url name";
/// What it says where rules leave no job.
const NO_JOBS: &str = "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from \
    being added to the pipeline.";

/// The ids of a project's pipelines for this query.
fn ids(gitlab: &FakeGitlab, project: u64, query: &str) -> Vec<u64> {
    let reply = gitlab.api("GET", &format!("/projects/{project}/pipelines?{query}"), &Value::Null);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json().as_array().unwrap().iter().map(|pipeline| pipeline["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_new_pipeline_is_answered_as_gitlab_answers_it() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let reply = gitlab.api("POST", &format!("/projects/{project}/pipeline"), &json!({"ref": "main"}));
    let made = reply.json();
    assert_eq!((reply.status, keys(&made)), (201, words(CREATED)));
    assert_eq!((&made["status"], &made["source"], &made["ref"]), (&json!("created"), &json!("api"), &json!("main")));
    assert_eq!(made["started_at"], Value::Null);
    let listed = gitlab.pipelines(project);
    assert_eq!((listed.len(), keys(&listed[0])), (1, words(LISTED)));
}

#[test]
fn what_can_not_run_is_refused_with_the_reason() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let path = format!("/projects/{project}/pipeline");
    let refused = |token: &str, body: Value| {
        let reply = gitlab.api_as(token, "POST", &path, &body);
        assert_eq!(reply.status, 400, "{}", reply.text());
        reply.json()
    };
    let base = |text: &str| json!({"message": {"base": [text]}});
    let main = || json!({"ref": "main"});
    assert_eq!(refused(FakeGitlab::TOKEN, json!({})), json!({"error": "ref is missing"}));
    assert_eq!(refused(FakeGitlab::TOKEN, json!({"ref": "nowhere"})), base("Reference not found"));
    gitlab.change_project(project, &json!({"refusal": NO_JOBS}));
    assert_eq!(refused(FakeGitlab::TOKEN, main()), base(NO_JOBS));
    gitlab.change_project(project, &json!({"refusal": null, "has_ci_config": false}));
    assert_eq!(refused(FakeGitlab::TOKEN, main()), base("Missing CI config file"));
    gitlab.change_project(project, &json!({"has_ci_config": true, "variables_role": 50}));
    gitlab.token(&json!({"token": "maintainer", "role": 40}));
    let with = json!({"ref": "main", "variables": [{"key": "A", "value": "b"}]});
    assert_eq!(refused("maintainer", with.clone()), base("Insufficient permissions to set pipeline variables"));
    assert_eq!(gitlab.api_as("maintainer", "POST", &path, &main()).status, 201);
    gitlab.settings(&json!({"pipelines_per_minute": 1}));
    assert_eq!(gitlab.api("POST", &path, &with).status, 201);
    let often = "Too many pipelines created in the last minute. Try again later.";
    assert_eq!(refused(FakeGitlab::TOKEN, main()), base(often));
    for change in [json!({"archived": true}), json!({"archived": false, "builds": "disabled"})] {
        gitlab.change_project(project, &change);
        assert_eq!(gitlab.api("POST", &path, &main()).status, 403, "{change}");
    }
}

#[test]
fn lists_leave_children_out_and_let_merge_requests_of_forks_in() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    gitlab.push(project, &json!({"branch": "topic"}));
    gitlab.push(project, &json!({"tag": "v1"}));
    let made = |new: Value| gitlab.pipeline(project, &new);
    let pushed = made(json!({"to": "success"}));
    let child = made(json!({"parent": pushed, "to": "success"}));
    let merge = made(json!({"merge_request": {"iid": 3, "source_branch": "main", "source_project_id": 999}}));
    let (topic, tag) = (made(json!({"branch": "topic", "source": "web"})), made(json!({"tag": "v1", "to": "failed"})));
    assert_eq!(ids(&gitlab, project, ""), [tag, topic, merge, pushed]);
    assert_eq!(ids(&gitlab, project, "source=parent_pipeline"), [child]);
    assert_eq!(ids(&gitlab, project, "ref=main"), [merge, pushed]);
    assert_eq!(gitlab.show(merge)["ref"], "refs/merge-requests/3/head");
    assert_eq!(ids(&gitlab, project, "ref=main&source=push&status=success"), [pushed]);
    assert_eq!(ids(&gitlab, project, "scope=tags"), [tag]);
    assert_eq!(ids(&gitlab, project, "sort=asc&per_page=2"), [pushed, merge]);
    gitlab.set_clock_ahead(60_000);
    gitlab.bring(topic, "running");
    let since = gitlab.show(topic)["updated_at"].as_str().unwrap().replace(":", "%3A");
    assert_eq!(ids(&gitlab, project, &format!("updated_after={since}")), [] as [u64; 0]);
    gitlab.set_clock_ahead(120_000);
    gitlab.retry(tag);
    assert_eq!(ids(&gitlab, project, &format!("updated_after={since}")), [tag]);
    assert_eq!(ids(&gitlab, project, "order_by=updated_at&sort=desc")[..2], [tag, topic]);
    let wrong = gitlab.api("GET", &format!("/projects/{project}/pipelines?status=passed"), &Value::Null);
    assert_eq!(wrong.json()["error"], "status does not have a valid value");
}

#[test]
fn the_latest_pipeline_is_that_of_the_newest_commit_and_there_being_none_is_forbidden() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let latest = || gitlab.api("GET", &format!("/projects/{project}/pipelines/latest?ref=main"), &Value::Null);
    assert_eq!(latest().json(), json!({"message": "403 Forbidden"}));
    let (first, second) = (gitlab.pipeline(project, &json!({})), gitlab.pipeline(project, &json!({})));
    gitlab.pipeline(project, &json!({"parent": first}));
    assert_eq!(latest().json()["id"], second);
    gitlab.push(project, &json!({}));
    assert_eq!(latest().status, 403);
}

#[test]
fn a_retry_keeps_the_id_and_shows_the_old_end_until_the_new_one() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let jobs = json!([{"name": "image"}, {"name": "scan", "stage": "test"}]);
    let pipeline = gitlab.pipeline(project, &json!({"jobs": jobs, "to": "failed"}));
    let of = |deed: &str| format!("/projects/{project}/pipelines/{pipeline}{deed}");
    let jobs = |query: &str| gitlab.api("GET", &of(&format!("/jobs{query}")), &Value::Null).json();
    assert_eq!((&jobs("")[0]["status"], &jobs("")[1]["status"]), (&json!("skipped"), &json!("failed")));
    assert_eq!(jobs("")[1]["failure_reason"], "script_failure");
    let failed = gitlab.show(pipeline);
    gitlab.set_clock_ahead(60_000);
    let again = gitlab.api("POST", &of("/retry"), &Value::Null);
    assert_eq!(
        (again.status, &again.json()["id"], &again.json()["status"]),
        (201, &json!(pipeline), &json!("running"))
    );
    for time in ["created_at", "started_at", "finished_at"] {
        assert_eq!(again.json()[time], failed[time], "{time}");
    }
    assert_eq!(jobs("?include_retried=true").as_array().unwrap().len(), 3);
    assert_eq!(jobs("?scope[]=running").as_array().unwrap().len(), 2);
    let done = gitlab.bring(pipeline, "success");
    assert!(done["finished_at"].as_str() > failed["finished_at"].as_str());
    assert!(jobs("").as_array().unwrap().iter().all(|job| job["status"] == "success"));
    // Where nothing has failed, a retry does nothing, and that is no error.
    let idle = gitlab.api("POST", &of("/retry"), &Value::Null);
    assert_eq!((idle.status, &idle.json()["status"]), (201, &json!("success")));
    let canceled = gitlab.api("POST", &of("/cancel"), &Value::Null);
    assert_eq!((canceled.status, &canceled.json()["status"]), (200, &json!("success")));
}

#[test]
fn a_manual_job_blocks_or_waits_and_played_later_it_is_a_new_success() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let job = |allow: bool| json!([{"name": "image"}, {"name": "deploy", "stage": "deploy", "manual": true, "allow_failure": allow}]);
    let blocked = gitlab.pipeline(project, &json!({"jobs": job(false), "to": "manual"}));
    let shown = gitlab.show(blocked);
    assert_eq!((&shown["status"], &shown["finished_at"]), (&json!("manual"), &Value::Null));
    assert_eq!(shown["detailed_status"]["label"], "waiting for manual action");
    gitlab.play(blocked, "deploy");
    assert_eq!(gitlab.bring(blocked, "success")["status"], "success");
    let optional = gitlab.pipeline(project, &json!({"jobs": job(true), "to": "success"}));
    let first = gitlab.show(optional);
    gitlab.set_clock_ahead(60_000);
    let path = format!("/projects/{project}/pipelines/{optional}/jobs?scope=manual");
    let id = gitlab.api("GET", &path, &Value::Null).json()[0]["id"].clone();
    assert_eq!(gitlab.api("POST", &format!("/projects/{project}/jobs/{id}/play"), &Value::Null).status, 200);
    assert_eq!(gitlab.show(optional)["status"], "running");
    let second = gitlab.bring(optional, "success");
    assert!(second["finished_at"].as_str() > first["finished_at"].as_str());
    gitlab.rearm(optional, "deploy");
    assert_eq!(gitlab.play(optional, "deploy")["status"], "running");
}

#[test]
fn pipelines_go_by_themselves_through_the_script_of_their_project() {
    let gitlab = FakeGitlab::start();
    gitlab.settings(&json!({"auto_ms": 20}));
    let project = gitlab.projects(&json!({"path": "infra/base", "script": ["failed", "warnings", "skipped"]}))[0];
    let becomes = |pipeline: u64, status: &str| {
        until(&format!("{pipeline} is {status}"), seconds(20), || gitlab.show(pipeline)["status"] == status);
    };
    let create = || {
        let reply = gitlab.api("POST", &format!("/projects/{project}/pipeline"), &json!({"ref": "main"}));
        reply.json()["id"].as_u64().unwrap()
    };
    let first = create();
    becomes(first, "failed");
    gitlab.retry(first);
    becomes(first, "success");
    assert_eq!(gitlab.show(first)["detailed_status"]["label"], "passed with warnings");
    becomes(create(), "skipped");
    becomes(create(), "success");
    // One that was canceled stays so, past the time at which it would have ended: another ends later.
    gitlab.change_project(project, &json!({"auto_ms": 2000}));
    let last = create();
    gitlab.cancel(last);
    let next = create();
    becomes(next, "success");
    assert_eq!(gitlab.show(last)["status"], "canceled");
}
