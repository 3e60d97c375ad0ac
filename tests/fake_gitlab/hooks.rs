//! Hooks by the API: made, changed, tried, and what was sent.

use serde_json::{Value, json};

use crate::support::gitlab::FakeGitlab;
use crate::support::receiver::Receiver;
use crate::{keys, words};

/// What GitLab 18 says of a hook.
const HOOK: &str = "id url name description project_id push_events push_events_branch_filter issues_events \
    confidential_issues_events merge_requests_events tag_push_events note_events confidential_note_events job_events \
    pipeline_events wiki_page_events deployment_events releases_events milestone_events feature_flag_events emoji_events \
    resource_access_token_events vulnerability_events enable_ssl_verification repository_update_events alert_status \
    disabled_until url_variables created_at custom_webhook_template custom_headers branch_filter_strategy";
/// A token to sign with.
const SIGNING: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A hook that was made.
fn made(gitlab: &FakeGitlab, project: u64, hook: &Value) -> Value {
    let reply = gitlab.api("POST", &format!("/projects/{project}/hooks"), hook);
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

#[test]
fn a_hook_has_the_keys_of_its_version_and_never_its_secrets() {
    let gitlab = FakeGitlab::start_with(&["--gitlab-version", "18.9.1"]);
    let project = gitlab.project("infra/base", &[]);
    let wanted = json!({"url": "http://a.example/x", "name": "chain", "token": "s", "signing_token": SIGNING, "pipeline_events": true});
    let hook = made(&gitlab, project, &wanted);
    assert_eq!(keys(&hook), words(HOOK));
    assert_eq!((&hook["name"], &hook["pipeline_events"]), (&json!("chain"), &json!(true)));
    assert_eq!((&hook["push_events"], &hook["alert_status"]), (&json!(true), &json!("executable")));
    // What is too new for it is ignored without a word.
    assert_eq!(gitlab.hooks(project)[0]["signing_token"], Value::Null);
    gitlab.settings(&json!({"version": "17.0.0"}));
    let old = made(&gitlab, project, &wanted);
    assert!(old.get("name").is_none() && old.get("description").is_none(), "{old}");
    gitlab.settings(&json!({"version": "19.0.0"}));
    let new = made(&gitlab, project, &wanted);
    assert_eq!((&new["token_present"], &new["signing_token_present"]), (&json!(true), &json!(true)));
    assert!(new.get("token").is_none() && new.get("signing_token").is_none(), "{new}");
    assert_eq!(gitlab.hooks(project)[2]["signing_token"], SIGNING);
}

#[test]
fn a_hook_loses_its_secrets_with_its_address_and_may_be_there_twice() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let wanted = json!({"url": "http://a.example/x", "token": "s", "push_events": false});
    let (first, second) = (made(&gitlab, project, &wanted), made(&gitlab, project, &wanted));
    assert_ne!(first["id"], second["id"]);
    let path = format!("/projects/{project}/hooks/{}", first["id"]);
    let edit = |change: Value| gitlab.api("PUT", &path, &change);
    assert_eq!(edit(json!({"description": "mine", "pipeline_events": true})).json()["token_present"], true);
    assert_eq!(edit(json!({"url": "http://b.example/x"})).json()["token_present"], false);
    assert_eq!(edit(json!({"url": "http://c.example/x", "token": "t"})).json()["token_present"], true);
    assert_eq!(edit(json!({})).json()["error"], "No parameters provided");
    let shown = gitlab.api("GET", &path, &Value::Null).json();
    assert_eq!((&shown["description"], &shown["push_events"]), (&json!("mine"), &json!(false)));
    let listed = gitlab.api("GET", &format!("/projects/{project}/hooks?per_page=1"), &Value::Null);
    assert_eq!((listed.json().as_array().unwrap().len(), listed.header("x-total")), (1, "2"));
    assert_eq!(gitlab.api("DELETE", &path, &Value::Null).status, 204);
    assert_eq!(gitlab.api("GET", &path, &Value::Null).json(), json!({"message": "404 Not found"}));
}

#[test]
fn an_address_that_gitlab_would_not_call_is_refused() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let refused = |url: &str| {
        let reply = gitlab.api("POST", &format!("/projects/{project}/hooks"), &json!({"url": url}));
        (reply.status, reply.json())
    };
    for url in ["nonsense", "ftp://a.example/", "http://"] {
        assert_eq!(refused(url), (422, json!({"error": "Invalid url given"})), "{url}");
    }
    assert_eq!(refused("").0, 400);
    gitlab.settings(&json!({"local_hooks": false}));
    for url in ["http://127.0.0.1:80/x", "http://localhost/x", "http://10.1.2.3/x", "http://[::1]/x"] {
        assert_eq!(refused(url).0, 422, "{url}");
    }
    assert_eq!(refused("https://deps.example.org/webhook").0, 201);
}

#[test]
fn a_hook_is_tried_five_times_a_minute() {
    let (gitlab, receiver) = (FakeGitlab::start(), Receiver::start());
    let project = gitlab.project("infra/base", &[]);
    let hook = made(&gitlab, project, &json!({"url": receiver.url(), "pipeline_events": true}));
    let test = |trigger: &str| {
        gitlab.api("POST", &format!("/projects/{project}/hooks/{}/test/{trigger}", hook["id"]), &Value::Null)
    };
    assert_eq!(test("pipeline_events").json()["message"], "Ensure the project has CI jobs.");
    gitlab.pipeline(project, &json!({"to": "success", "quiet": true}));
    let tried = test("pipeline_events");
    assert_eq!((tried.status, tried.json()), (201, json!({"message": "201 Created"})));
    receiver.answer(503);
    assert_eq!(test("pipeline_events").status, 422);
    assert_eq!(test("nothing_events").status, 400);
    assert_eq!(test("push_events").status, 422);
    assert_eq!(test("pipeline_events").status, 422);
    let often = test("pipeline_events");
    let text = "This endpoint has been requested too many times. Try again later.";
    assert_eq!((often.status, often.json()), (429, json!({"message": {"error": text}})));
    assert_eq!(receiver.statuses(), ["success", "success", "success"]);
}

#[test]
fn what_was_sent_is_listed_and_can_be_sent_again() {
    let (gitlab, receiver) = (FakeGitlab::start(), Receiver::start());
    let project = gitlab.project("infra/base", &[]);
    let hook = made(&gitlab, project, &json!({"url": receiver.url(), "pipeline_events": true, "token": "s3cr3t"}));
    let events = format!("/projects/{project}/hooks/{}/events", hook["id"]);
    let pipeline = gitlab.pipeline(project, &json!({}));
    gitlab.bring(pipeline, "pending");
    gitlab.settle();
    receiver.answer(500);
    gitlab.bring(pipeline, "running");
    gitlab.settle();
    let listed = gitlab.api("GET", &events, &Value::Null).json();
    assert_eq!((&listed[0]["response_status"], &listed[1]["response_status"]), (&json!("500"), &json!("200")));
    assert_eq!(listed[0]["request_headers"]["X-Gitlab-Token"], "[REDACTED]");
    assert_eq!(listed[0]["request_data"]["object_attributes"]["status"], "running");
    let failed = gitlab.api("GET", &format!("{events}?status=server_failure"), &Value::Null).json();
    assert_eq!((failed.as_array().unwrap().len(), &failed[0]["id"]), (1, &listed[0]["id"]));
    receiver.answer(200);
    let again = gitlab.api("POST", &format!("{events}/{}/resend", listed[0]["id"]), &Value::Null);
    assert_eq!((again.status, again.json()), (201, json!({"response_status": 200})));
    let received = receiver.received();
    assert_eq!(received[1].header("idempotency-key"), received[2].header("idempotency-key"));
    assert_eq!(received[1].body, received[2].body);
    gitlab.settings(&json!({"version": "17.2.0"}));
    assert_eq!(gitlab.api("GET", &events, &Value::Null).status, 404);
}

#[test]
fn masks_of_an_address_are_filled_and_stay_hidden() {
    let (gitlab, receiver) = (FakeGitlab::start(), Receiver::start());
    let project = gitlab.project("infra/base", &[]);
    let url = receiver.url().replace("webhook", "{secret}");
    let hook = made(
        &gitlab,
        project,
        &json!({
            "url": url, "pipeline_events": true, "url_variables": [{"key": "secret", "value": "hidden"}],
            "custom_headers": [{"key": "X-Mine", "value": "mine"}, {"key": "X-Gitlab-Event", "value": "Forged"}],
        }),
    );
    assert_eq!((&hook["url"], &hook["url_variables"]), (&json!(url), &json!([{"key": "secret"}])));
    let path = format!("/projects/{project}/hooks/{}/custom_headers/X-Mine", hook["id"]);
    assert_eq!(gitlab.api("PUT", &path, &json!({"value": "yours"})).status, 204);
    gitlab.pipeline(project, &json!({"to": "pending"}));
    gitlab.settle();
    let received = receiver.received();
    assert_eq!((received[0].path.as_str(), received[0].header("x-mine")), ("/hidden", "yours"));
    assert_eq!(received[0].header("x-gitlab-event"), "Pipeline Hook");
}
