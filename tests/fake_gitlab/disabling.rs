//! Receivers that fail, and what GitLab does to their hooks.

use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::support::gitlab::FakeGitlab;
use crate::support::receiver::Receiver;
use crate::support::wait::seconds;

/// A fake GitLab with a project whose hook calls a receiver, and the path of that hook.
fn setting(receiver: &Receiver) -> (FakeGitlab, u64, String) {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let hooks = format!("/projects/{project}/hooks");
    let hook = gitlab.api("POST", &hooks, &json!({"url": receiver.url(), "pipeline_events": true})).json();
    (gitlab, project, format!("{hooks}/{}", hook["id"]))
}

/// Has the hook called this often, and waits for the answers.
fn call(gitlab: &FakeGitlab, project: u64, times: usize) {
    for _ in 0..times {
        gitlab.pipeline(project, &json!({"to": "pending"}));
    }
    gitlab.settle();
}

#[test]
fn the_fourth_failure_in_a_row_pauses_a_hook_and_a_success_forgets_them() {
    let receiver = Receiver::start();
    let (gitlab, project, path) = setting(&receiver);
    let hook = || gitlab.api("GET", &path, &Value::Null).json();
    receiver.answer(500);
    call(&gitlab, project, 3);
    receiver.answer(302);
    call(&gitlab, project, 1);
    receiver.answer(404);
    call(&gitlab, project, 3);
    assert_eq!((&hook()["alert_status"], &hook()["disabled_until"]), (&json!("executable"), &Value::Null));
    call(&gitlab, project, 1);
    assert_eq!(hook()["alert_status"], "temporarily_disabled");
    assert!(hook()["disabled_until"].is_string());
    call(&gitlab, project, 2);
    assert_eq!(receiver.received().len(), 8);
    assert_eq!(gitlab.deliveries().last().unwrap().outcome, "disabled");
    // A minute later it is called again; the next failure pauses it for two.
    gitlab.set_clock_ahead(61_000);
    assert_eq!(hook()["alert_status"], "executable");
    call(&gitlab, project, 1);
    gitlab.set_clock_ahead(61_000 + 119_000);
    assert_eq!(hook()["alert_status"], "temporarily_disabled");
    // A test is made all the same, and when that goes well everything is forgotten.
    receiver.answer(200);
    assert_eq!(gitlab.api("POST", &format!("{path}/test/pipeline_events"), &Value::Null).status, 201);
    assert_eq!(hook()["alert_status"], "executable");
    call(&gitlab, project, 1);
    assert_eq!(gitlab.deliveries().last().unwrap().outcome, "delivered");
}

#[test]
fn the_fortieth_failure_in_a_row_disables_a_hook_for_good() {
    let receiver = Receiver::start();
    let (gitlab, project, path) = setting(&receiver);
    receiver.answer(500);
    for failure in 0..40 {
        gitlab.set_clock_ahead(failure * 86_401_000);
        call(&gitlab, project, 1);
    }
    gitlab.set_clock_ahead(100 * 86_400_000);
    let hook = gitlab.api("GET", &path, &Value::Null).json();
    assert_eq!((&hook["alert_status"], &hook["disabled_until"]), (&json!("disabled"), &Value::Null));
    receiver.answer(200);
    call(&gitlab, project, 1);
    assert_eq!(receiver.received().len(), 40);
    gitlab.settings(&json!({"auto_disabling": false}));
    assert_eq!(gitlab.api("GET", &path, &Value::Null).json()["alert_status"], "executable");
    call(&gitlab, project, 1);
    assert_eq!(receiver.received().len(), 41);
}

#[test]
fn a_receiver_that_does_not_answer_in_time_has_failed_and_is_not_asked_again() {
    let (answer, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let receiver = Receiver::start_with(move |_| {
        // Ends when the test does.
        let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(seconds(60));
    });
    let (gitlab, project, _) = setting(&receiver);
    gitlab.settings(&json!({"webhook_timeout_ms": 100}));
    call(&gitlab, project, 1);
    let [delivery] = gitlab.deliveries().try_into().unwrap();
    assert_eq!((delivery.outcome.as_str(), delivery.response_status), ("failed", None));
    assert!(delivery.error.unwrap().contains("Timeout"));
    drop(answer);
}

#[test]
fn a_receiver_that_is_not_there_has_failed() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let port = crate::support::registry::free_port();
    let hook = json!({"url": format!("http://127.0.0.1:{port}/"), "pipeline_events": true});
    gitlab.api("POST", &format!("/projects/{project}/hooks"), &hook);
    call(&gitlab, project, 1);
    assert_eq!(gitlab.deliveries()[0].outcome, "failed");
    assert_eq!(gitlab.hooks(project)[0]["failures"], 1);
}
