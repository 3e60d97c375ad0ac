//! The program: where it listens, when it ends, its clock, many callers at once.

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::gitlab::FakeGitlab;
use crate::support::wait::{seconds, until};

#[test]
fn it_ends_on_a_signal_and_when_nobody_holds_its_standard_input() {
    let mut signalled = FakeGitlab::start();
    kill(Pid::from_raw(i32::try_from(signalled.child().id()).unwrap()), Signal::SIGTERM).unwrap();
    until("it ends on SIGTERM", seconds(20), || signalled.child().try_wait().unwrap().is_some_and(|end| end.success()));
    let mut left = FakeGitlab::start();
    drop(left.child().stdin.take());
    until("it ends with its input", seconds(20), || left.child().try_wait().unwrap().is_some_and(|end| end.success()));
}

#[test]
fn it_serves_below_a_root_and_says_so_in_every_address() {
    let gitlab = FakeGitlab::start_with(&["--root", "/gitlab"]);
    assert!(gitlab.url().ends_with("/gitlab"));
    let project = gitlab.project("infra/base", &[]);
    let shown = gitlab.api("GET", &format!("/projects/{project}"), &Value::Null).json();
    assert_eq!(shown["web_url"], format!("{}/infra/base", gitlab.url()));
    let reply = gitlab.api("GET", "/groups/infra/projects", &Value::Null);
    assert!(reply.header("link").contains(&format!("<{}/api/v4/groups/infra/projects?", gitlab.url())));
}

#[test]
fn its_clock_may_differ_from_the_hosts() {
    const AHEAD_S: i64 = -400 * 86_400;
    let gitlab = FakeGitlab::start();
    gitlab.set_clock_ahead(AHEAD_S * 1000);
    let project = gitlab.project("infra/base", &[]);
    let pipeline = gitlab.pipeline(project, &json!({"to": "success"}));
    let reply = gitlab.api("GET", &format!("/projects/{project}/pipelines/{pipeline}"), &Value::Null);
    let wanted = gitlab.requests().last().unwrap().at / 1000 + AHEAD_S;
    let is_near = |time: i64| (wanted - 60..=wanted + 60).contains(&time);
    let date = httpdate::parse_http_date(reply.header("date")).unwrap();
    assert!(is_near(i64::try_from(date.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()), "{date:?}");
    for field in ["created_at", "started_at", "finished_at", "updated_at"] {
        let time: jiff::Timestamp = reply.json()[field].as_str().unwrap().parse().unwrap();
        assert!(is_near(time.as_second()), "{field}: {time}");
    }
}

#[test]
fn it_remembers_requests_and_what_they_were_answered() {
    let gitlab = FakeGitlab::start();
    gitlab.api("GET", "/version", &Value::Null);
    gitlab.api("POST", "/projects/infra%2Fmissing/pipeline?x=y", &json!({"ref": "main"}));
    let seen = gitlab.requests();
    assert_eq!(seen.iter().map(|request| request.status).collect::<Vec<_>>(), [Some(200), Some(404)]);
    assert_eq!(seen[1].path, "/api/v4/projects/infra%2Fmissing/pipeline");
    assert_eq!((seen[1].query.as_str(), seen[1].json()["ref"].as_str()), ("x=y", Some("main")));
    assert_eq!(seen[1].header("private-token"), FakeGitlab::TOKEN);
    assert_eq!(gitlab.requests_to("POST", "*/pipeline").len(), 1);
    assert!(gitlab.requests_to("GET", "*/pipeline").is_empty());
    gitlab.forget_requests();
    assert!(gitlab.requests().is_empty());
}

#[test]
fn many_callers_at_once_get_pipelines_of_their_own() {
    let gitlab = FakeGitlab::start();
    let project = gitlab.project("infra/base", &[]);
    let create = || {
        let reply = gitlab.api("POST", &format!("/projects/{project}/pipeline"), &json!({"ref": "main"}));
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["iid"].as_u64().unwrap()
    };
    let numbers: BTreeSet<u64> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..10).map(|_| create()).collect::<Vec<_>>())).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(numbers, (1..=80).collect());
}
