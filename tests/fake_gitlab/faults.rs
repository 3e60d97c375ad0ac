//! What goes wrong with requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::gitlab::FakeGitlab;
use crate::support::wait::{seconds, until};

/// Asks for the version, without expecting anything of the answer.
fn version(gitlab: &FakeGitlab) -> std::io::Result<Reply> {
    gitlab.ask("GET", "/api/v4/version", &[("PRIVATE-TOKEN", FakeGitlab::TOKEN)], b"")
}

fn with(gitlab: &FakeGitlab, what: &Value) -> std::io::Result<Reply> {
    gitlab.fail(1, "GET", "/api/v4/version", what);
    let reply = version(gitlab);
    assert_eq!(version(gitlab).unwrap().status, 200, "after {what} all is well");
    reply
}

#[test]
fn answers_break_off_are_cut_or_are_something_else() {
    let gitlab = FakeGitlab::start();
    for kind in ["closed", "lost"] {
        assert!(with(&gitlab, &json!({"kind": kind})).is_err(), "{kind}");
    }
    let cut = with(&gitlab, &json!({"kind": "cut"})).unwrap();
    assert!(cut.status == 200 && !cut.body.is_empty() && !cut.is_whole(), "{cut:?}");
    let truncated = with(&gitlab, &json!({"kind": "truncated"})).unwrap();
    assert!(truncated.is_whole() && serde_json::from_slice::<Value>(&truncated.body).is_err(), "{truncated:?}");
    let garbage = with(&gitlab, &json!({"kind": "garbage"})).unwrap();
    assert!(garbage.status == 200 && std::str::from_utf8(&garbage.body).is_err(), "{garbage:?}");
    for status in [500, 502, 503] {
        assert_eq!(with(&gitlab, &json!({"kind": "status", "status": status})).unwrap().status, status);
    }
    let kinds: Vec<Value> = gitlab.requests().into_iter().filter_map(|request| request.fault).collect();
    assert_eq!((kinds.len(), &kinds[0]["kind"]), (8, &json!("closed")));
}

#[test]
fn both_kinds_of_too_many_requests_are_as_gitlab_has_them() {
    let gitlab = FakeGitlab::start();
    let plain = with(&gitlab, &json!({"kind": "throttled", "retry_after": 7})).unwrap();
    assert_eq!((plain.status, plain.header("retry-after"), plain.text().trim()), (429, "7", "Retry later"));
    assert_eq!(plain.header("content-type"), "text/plain");
    for header in ["limit", "name", "observed", "remaining", "reset", "resettime"] {
        assert!(!plain.header(&format!("ratelimit-{header}")).is_empty(), "{header}");
    }
    let json = with(&gitlab, &json!({"kind": "throttled", "form": "json"})).unwrap();
    let text = "This endpoint has been requested too many times. Try again later.";
    assert_eq!((json.status, json.json()), (429, json!({"message": {"error": text}})));
    assert!(json.header("retry-after").is_empty() && json.header("ratelimit-limit").is_empty());
}

#[test]
fn a_pipeline_may_be_made_although_nobody_is_told() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let path = format!("/api/v4/projects/{project}/pipeline");
    let create = || {
        let headers = [("PRIVATE-TOKEN", FakeGitlab::TOKEN), ("Content-Type", "application/json")];
        gitlab.ask("POST", &path, &headers, b"{\"ref\": \"main\"}")
    };
    gitlab.fail(1, "POST", "*/pipeline", &json!({"kind": "closed"}));
    assert!(create().is_err());
    assert_eq!(gitlab.pipelines(project).len(), 0);
    gitlab.fail(1, "POST", "*/pipeline", &json!({"kind": "lost"}));
    assert!(create().is_err());
    assert_eq!(gitlab.pipelines(project).len(), 1);
    gitlab.fail(1, "POST", "*/pipeline", &json!({"kind": "status", "status": 502, "done": true}));
    assert_eq!(create().unwrap().status, 502);
    assert_eq!(gitlab.pipelines(project).len(), 2);
    gitlab.fail(1, "POST", "*/pipeline", &json!({"kind": "status", "status": 502}));
    assert_eq!(create().unwrap().status, 502);
    assert_eq!(gitlab.pipelines(project).len(), 2);
}

#[test]
fn a_slow_answer_is_slow_before_or_after_the_work() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let start = Instant::now();
    with(&gitlab, &json!({"kind": "slow", "ms": 300})).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300));
    gitlab.fail(1, "POST", "*/pipeline", &json!({"kind": "slow", "ms": 3000, "done": true}));
    std::thread::scope(|scope| {
        let asked =
            scope.spawn(|| gitlab.api("POST", &format!("/projects/{project}/pipeline"), &json!({"ref": "main"})));
        until("the pipeline is there", seconds(20), || gitlab.pipelines(project).len() == 1);
        assert!(!asked.is_finished(), "it is answered already");
        assert_eq!(asked.join().unwrap().status, 201);
    });
}

#[test]
fn faults_concern_what_they_name_after_what_they_spare() {
    let gitlab = FakeGitlab::start();
    let fault = json!({"path": "/api/v4/v*", "after": 2, "times": 1, "what": {"kind": "status", "status": 500}});
    gitlab.fault(&fault);
    let statuses: Vec<u16> = (0..4).map(|_| version(&gitlab).unwrap().status).collect();
    assert_eq!(statuses, [200, 200, 500, 200]);
    gitlab.fault(&json!({"what": {"kind": "status", "status": 503}}));
    assert_eq!(version(&gitlab).unwrap().status, 503);
    assert!(gitlab.ask("POST", "/api/graphql", &[], b"{}").unwrap().status == 503);
    gitlab.end_faults();
    gitlab.fault(&json!({"times": {"percent": 50}, "what": {"kind": "status", "status": 500}}));
    let failures = (0..100).filter(|_| version(&gitlab).unwrap().status == 500).count();
    assert!((10..90).contains(&failures), "{failures} of 100");
    assert_eq!(gitlab.ask("POST", "/_control/faults", &[], b"{\"when\": 1}").unwrap().status, 400);
}

#[test]
fn a_budget_counts_down_refuses_and_begins_anew() {
    let gitlab = FakeGitlab::start();
    assert!(version(&gitlab).unwrap().header("ratelimit-limit").is_empty());
    gitlab.budget(Some((2, 4)));
    let (first, second, third) = (version(&gitlab).unwrap(), version(&gitlab).unwrap(), version(&gitlab).unwrap());
    assert_eq!((first.header("ratelimit-remaining"), second.header("ratelimit-remaining")), ("1", "0"));
    assert_eq!((third.status, third.text().trim()), (429, "Retry later"));
    let wait: u64 = third.header("retry-after").parse().unwrap();
    assert!((1..=4).contains(&wait), "{wait}");
    let query = gitlab.ask("POST", "/api/graphql", &[("PRIVATE-TOKEN", FakeGitlab::TOKEN)], b"{}").unwrap();
    assert_eq!(query.status, 429);
    until("the budget is there again", seconds(20), || version(&gitlab).unwrap().status == 200);
    gitlab.budget(None);
    assert!((0..5).all(|_| version(&gitlab).unwrap().status == 200));
}
