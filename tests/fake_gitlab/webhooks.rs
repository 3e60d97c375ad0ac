//! Webhooks: what they say, how they are signed, and how they go wrong on their way.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::gitlab::FakeGitlab;
use crate::support::http::Request;
use crate::support::receiver::Receiver;
use crate::{keys, words};

/// A delivery that was signed elsewhere: the token, and what belongs to it.
const SIGNING: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SIGNED_ID: &str = "f5e5f430-f57b-4e6e-9fac-d9128cd7232f";
const SIGNED_TIME: &str = "1778599589";
const SIGNED_BODY: &str = r#"{"object_kind":"pipeline","object_attributes":{"id":9001,"iid":55,"name":null,"ref":"main","tag":false,"sha":"bcbb5ec396a2c0f828686f14fac9b80b780504f2","before_sha":"0000000000000000000000000000000000000000","source":"push","status":"success","detailed_status":"passed","stages":["build","test"],"created_at":"2026-05-12 15:23:28 UTC","finished_at":"2026-05-12 15:26:29 UTC","duration":63,"queued_duration":12,"protected_ref":true,"variables":[],"url":"https://gitlab.example.org/immer/images/base/-/pipelines/9001"},"merge_request":null,"user":{"id":7,"name":"Deps bot","username":"project_101_bot","avatar_url":null,"email":"[REDACTED]"},"project":{"id":101,"name":"base","description":"Base image","web_url":"https://gitlab.example.org/immer/images/base","avatar_url":null,"git_ssh_url":"git@gitlab.example.org:immer/images/base.git","git_http_url":"https://gitlab.example.org/immer/images/base.git","namespace":"images","visibility_level":0,"path_with_namespace":"immer/images/base","default_branch":"main","ci_config_path":null},"commit":{"id":"bcbb5ec396a2c0f828686f14fac9b80b780504f2","message":"Bump\n","title":"Bump","timestamp":"2026-05-12T17:23:21+02:00","url":"https://gitlab.example.org/immer/images/base/-/commit/bcbb5ec396a2c0f828686f14fac9b80b780504f2","author":{"name":"A","email":"[REDACTED]"}},"builds":[{"id":7001,"stage":"build","name":"image","status":"success","created_at":"2016-08-12 15:23:28 UTC","started_at":"2016-08-12 15:26:12 UTC","finished_at":null,"duration":17.0,"queued_duration":196.0,"when":"on_success","manual":false,"allow_failure":false,"user":{"id":7,"name":"Deps bot","username":"project_101_bot","avatar_url":null,"email":"[REDACTED]"},"runner":{"id":380987,"description":"shared-runners-manager-6.gitlab.com","active":true,"is_shared":true},"artifacts_file":{"filename":null,"size":null}}]}"#;
const SIGNATURE: &str = "v1,OgreiuTBQUlew18mIS+YLEQ7w+FyvTqYPzhm6ud6LvM=";

/// The keys of a webhook's parts.
const TOP: &str = "object_kind object_attributes merge_request user project commit builds";
const ATTRIBUTES: &str = "id iid name ref tag sha before_sha source status detailed_status stages created_at finished_at \
    duration queued_duration protected_ref variables url";
const PROJECT: &str = "id name description web_url avatar_url git_ssh_url git_http_url namespace visibility_level \
    path_with_namespace default_branch ci_config_path";
const BUILD: &str = "id stage name status created_at started_at finished_at duration queued_duration failure_reason when \
    manual allow_failure user runner artifacts_file environment";

/// What a signature has to be.
fn signature(token: &str, id: &str, time: &str, body: &[u8]) -> String {
    let key = STANDARD.decode(token.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// A fake GitLab with a project whose hook calls a receiver.
fn setting(hook: &Value) -> (FakeGitlab, Receiver, u64) {
    let (gitlab, receiver) = (FakeGitlab::start(), Receiver::start());
    let project = gitlab.project("infra/images/base", &[]);
    let mut wanted = json!({"url": receiver.url(), "pipeline_events": true, "push_events": false});
    wanted.as_object_mut().unwrap().extend(hook.as_object().unwrap().clone());
    assert_eq!(gitlab.api("POST", &format!("/projects/{project}/hooks"), &wanted).status, 201);
    (gitlab, receiver, project)
}

#[test]
fn each_step_of_a_pipeline_is_told_once_and_with_all_that_gitlab_says() {
    let (gitlab, receiver, project) = setting(&json!({"token": "s3cr3t"}));
    let pipeline = gitlab.pipeline(project, &json!({"variables": {"SECRET": "do-not-log-me"}}));
    gitlab.bring(pipeline, "success");
    gitlab.settle();
    assert_eq!(receiver.statuses(), ["pending", "running", "success"]);
    let last = receiver.received()[2].json();
    assert_eq!(keys(&last), words(TOP));
    assert_eq!(keys(&last["object_attributes"]), words(ATTRIBUTES));
    assert_eq!(keys(&last["project"]), words(PROJECT));
    assert_eq!(keys(&last["builds"][0]), words(BUILD));
    let about = &last["object_attributes"];
    assert_eq!((&about["id"], &about["detailed_status"]), (&json!(pipeline), &json!("passed")));
    assert_eq!(about["variables"], json!([{"key": "SECRET", "value": "do-not-log-me"}]));
    for time in ["created_at", "finished_at"] {
        let text = about[time].as_str().unwrap();
        assert!(text.len() == 23 && text.ends_with(" UTC") && text.as_bytes()[10] == b' ', "{text}");
    }
    assert_eq!((&last["project"]["id"], &last["project"]["default_branch"]), (&json!(project), &json!("main")));
    assert_eq!(last["commit"]["id"], about["sha"]);
    gitlab.retry(pipeline);
    gitlab.settle();
    // It has not failed, so nothing runs again.
    assert_eq!(receiver.received().len(), 3);
}

#[test]
fn children_downstreams_tags_and_merge_requests_are_told_as_what_they_are() {
    let (gitlab, receiver, project) = setting(&json!({}));
    gitlab.push(project, &json!({"tag": "v1"}));
    let other = gitlab.project("infra/upstream", &[]);
    let upstream = gitlab.pipeline(other, &json!({}));
    for new in [
        json!({"parent": 1, "to": "running"}),
        json!({"upstream": {"project_id": other, "pipeline_id": upstream}, "source": "pipeline", "to": "running"}),
        json!({"merge_request": {"iid": 1, "source_branch": "main", "source_project_id": 99}, "to": "running"}),
        json!({"tag": "v1", "to": "running"}),
        json!({"source": "levitation", "sha": "bcbb5ec396a2c0f828686f14fac9b80b780504f2", "to": "running"}),
    ] {
        gitlab.pipeline(project, &new);
    }
    gitlab.settle();
    let told: Vec<Value> = receiver.received().iter().skip(1).step_by(2).map(Request::json).collect();
    let [child, downstream, merge, tag, strange] = told.as_slice() else { panic!("{} were told", told.len()) };
    assert_eq!(child["object_attributes"]["source"], "parent_pipeline");
    assert_eq!(child["source_pipeline"]["project"]["id"], project);
    let source = &downstream["source_pipeline"];
    assert_eq!(
        (&source["pipeline_id"], &source["project"]["path_with_namespace"]),
        (&json!(upstream), &json!("infra/upstream"))
    );
    // The trap: the branch of a fork has the name of ours.
    assert_eq!(
        (&merge["object_attributes"]["ref"], &merge["object_attributes"]["tag"]),
        (&json!("main"), &json!(false))
    );
    assert_eq!(merge["merge_request"]["source_project_id"], 99);
    assert_eq!((&tag["object_attributes"]["ref"], &tag["object_attributes"]["tag"]), (&json!("v1"), &json!(true)));
    assert_eq!((&strange["object_attributes"]["source"], &strange["commit"]), (&json!("levitation"), &Value::Null));
    assert!([merge, tag, strange].iter().all(|told| told.get("source_pipeline").is_none()));
}

#[test]
fn headers_are_those_of_the_version_and_signatures_are_right() {
    assert_eq!(signature(SIGNING, SIGNED_ID, SIGNED_TIME, SIGNED_BODY.as_bytes()), SIGNATURE);
    let (gitlab, receiver, project) = setting(&json!({"token": "s3cr3t", "signing_token": SIGNING}));
    gitlab.set_clock_ahead(3_600_000);
    for version in ["19.1.0", "17.5.0", "17.0.0", "16.0.0"] {
        gitlab.settings(&json!({"version": version}));
        gitlab.pipeline(project, &json!({"to": "pending"}));
        gitlab.settle();
    }
    let received = receiver.received();
    let signed = &received[0];
    let (id, time) = (signed.header("webhook-id"), signed.header("webhook-timestamp"));
    assert_eq!(signed.header("webhook-signature"), signature(SIGNING, id, time, &signed.body));
    assert_eq!(id, signed.header("idempotency-key"));
    let sent = gitlab.deliveries()[0].at / 1000 + 3600;
    assert!((sent - 60..=sent + 60).contains(&time.parse().unwrap()), "{time} is not GitLab's time {sent}");
    for request in &received {
        assert_eq!(request.header("x-gitlab-event"), "Pipeline Hook");
        assert_eq!(request.header("x-gitlab-token"), "s3cr3t");
        assert_eq!(request.header("content-type"), "application/json");
        assert!(gitlab.url().starts_with(request.header("x-gitlab-instance")));
        assert!(!request.header("x-gitlab-event-uuid").is_empty());
    }
    assert_eq!(received[1].header("user-agent"), "GitLab/17.5.0");
    assert!(received[1].header("webhook-signature").is_empty() && !received[1].header("idempotency-key").is_empty());
    assert!(
        received[2].header("idempotency-key").is_empty() && !received[2].header("x-gitlab-webhook-uuid").is_empty()
    );
    assert!(received[3].header("x-gitlab-webhook-uuid").is_empty());
    // Not the hook's: another for each request.
    let uuids: BTreeSet<&str> = received.iter().map(|request| request.header("x-gitlab-webhook-uuid")).collect();
    assert_eq!(uuids.len(), 4);
}

#[test]
fn webhooks_are_lost_or_come_twice() {
    let (gitlab, receiver, project) = setting(&json!({}));
    gitlab.webhooks(&json!({"drop": 2}));
    gitlab.bring(gitlab.pipeline(project, &json!({})), "success");
    gitlab.settle();
    assert_eq!(receiver.statuses(), ["success"]);
    gitlab.webhooks(&json!({"drop": "all"}));
    gitlab.bring(gitlab.pipeline(project, &json!({})), "success");
    gitlab.settle();
    assert_eq!(receiver.received().len(), 1);
    let outcomes: Vec<String> = gitlab.deliveries().into_iter().map(|delivery| delivery.outcome).collect();
    assert_eq!(outcomes, ["dropped", "dropped", "delivered", "dropped", "dropped", "dropped"]);
    for (key, same) in [("same", true), ("other", false)] {
        gitlab.webhooks(&json!({"drop": null, "twice": {"share": 1, "key": key}}));
        gitlab.pipeline(project, &json!({"to": "pending"}));
        gitlab.settle();
        let received = receiver.received();
        let [.., first, second] = received.as_slice() else { panic!("only {} came", received.len()) };
        assert_eq!(first.body, second.body);
        assert_eq!(first.header("idempotency-key") == second.header("idempotency-key"), same, "{key}");
    }
}

#[test]
fn what_is_lost_by_chance_is_the_same_with_the_same_seed() {
    let (gitlab, _receiver, project) = setting(&json!({}));
    let lost = || {
        gitlab.forget_deliveries();
        gitlab.webhooks(&json!({"drop": {"percent": 50}, "seed": 7}));
        let first = gitlab.pipeline(project, &json!({"to": "success"}));
        for _ in 0..10 {
            gitlab.pipeline(project, &json!({"to": "success"}));
        }
        gitlab.settle();
        let told = gitlab.deliveries().into_iter();
        told.map(|told| (told.pipeline - first, told.status, told.outcome)).collect::<BTreeSet<_>>()
    };
    let (first, second) = (lost(), lost());
    assert_eq!((&first, first.len()), (&second, 33));
    for outcome in ["dropped", "delivered"] {
        assert!(first.iter().any(|(_, _, other)| other == outcome), "none was {outcome}");
    }
}

#[test]
fn webhooks_come_late_and_out_of_order() {
    let (gitlab, receiver, project) = setting(&json!({}));
    gitlab.webhooks(&json!({"backwards": 3}));
    gitlab.bring(gitlab.pipeline(project, &json!({})), "success");
    gitlab.settle();
    assert_eq!(receiver.statuses(), ["success", "running", "pending"]);
    gitlab.webhooks(&json!({"backwards": 0, "hold": true}));
    gitlab.bring(gitlab.pipeline(project, &json!({})), "failed");
    gitlab.settle();
    assert_eq!(receiver.received().len(), 3);
    assert_eq!(gitlab.release("kept"), 3);
    gitlab.settle();
    assert_eq!(receiver.statuses()[3..], ["pending", "running", "failed"]);
    // One that is late tells what was true when it was made, and others overtake it.
    gitlab.webhooks(&json!({"hold": false, "late": {"share": 1, "ms": 1500}}));
    gitlab.bring(gitlab.pipeline(project, &json!({})), "success");
    gitlab.settle();
    assert_eq!(receiver.statuses()[6..], ["running", "success", "pending"]);
}

#[test]
fn a_worker_that_is_late_tells_what_is_true_by_then() {
    let (gitlab, receiver, project) = setting(&json!({}));
    gitlab.webhooks(&json!({"worker_delay_ms": 200}));
    gitlab.bring(gitlab.pipeline(project, &json!({})), "success");
    gitlab.settle();
    assert_eq!(receiver.statuses(), ["success", "success", "success"]);
    let received = receiver.received();
    let ids: BTreeSet<&str> = received.iter().map(|request| request.header("idempotency-key")).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_request_that_carries_the_id_of_an_event_fires_no_hook_of_that_chain_again() {
    let (gitlab, receiver, project) = setting(&json!({}));
    gitlab.pipeline(project, &json!({"to": "pending"}));
    gitlab.settle();
    let chain = receiver.received()[0].header("x-gitlab-event-uuid").to_owned();
    let headers =
        [("PRIVATE-TOKEN", FakeGitlab::TOKEN), ("X-Gitlab-Event-UUID", &chain), ("Content-Type", "application/json")];
    let path = format!("/api/v4/projects/{project}/pipeline");
    let made = gitlab.ask("POST", &path, &headers, b"{\"ref\": \"main\"}").unwrap().json();
    gitlab.bring(made["id"].as_u64().unwrap(), "running");
    gitlab.settle();
    assert_eq!(receiver.statuses(), ["pending", "running"]);
    assert_eq!(gitlab.deliveries()[1].outcome, "recursion");
}

#[test]
fn in_silent_mode_nothing_is_sent() {
    let (gitlab, receiver, project) = setting(&json!({}));
    gitlab.settings(&json!({"silent": true}));
    gitlab.pipeline(project, &json!({"to": "pending"}));
    gitlab.settle();
    assert!(receiver.received().is_empty());
    assert_eq!(gitlab.deliveries()[0].outcome, "silent");
}

#[test]
fn a_hook_may_be_called_with_other_dates_other_kinds_and_nonsense() {
    let (gitlab, receiver, project) = setting(&json!({"token": "s3cr3t", "signing_token": SIGNING}));
    gitlab.webhooks(&json!({"iso_dates": true}));
    gitlab.pipeline(project, &json!({"to": "pending"}));
    let hook = gitlab.hooks(project)[0]["id"].as_u64().unwrap();
    gitlab.send(hook, "Push Hook", &json!({"object_kind": "push"}));
    gitlab.send(hook, "Pipeline Hook", &json!("{\"object_kind\": "));
    gitlab.settle();
    let received = receiver.received();
    let date = received[0].json()["object_attributes"]["created_at"].as_str().unwrap().to_owned();
    assert!(date.contains('T') && date.ends_with('Z'), "{date}");
    assert_eq!(
        (received[1].header("x-gitlab-event"), received[1].json()),
        ("Push Hook", json!({"object_kind": "push"}))
    );
    let cut = &received[2];
    assert_eq!((cut.body.as_slice(), cut.header("x-gitlab-token")), (b"{\"object_kind\": ".as_slice(), "s3cr3t"));
    let wanted = signature(SIGNING, cut.header("webhook-id"), cut.header("webhook-timestamp"), &cut.body);
    assert_eq!(cut.header("webhook-signature"), wanted);
}
