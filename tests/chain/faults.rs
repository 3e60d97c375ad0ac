//! A GitLab that does not do what it should, and a daemon that dies at the wrong moment.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::chain::{Chain, Diamond, TOKEN};
use crate::support::gitlab::FakeGitlab;
use crate::support::wait::{seconds, until};

fn succeed(chain: &Chain, project: u64) {
    let pipeline = chain.gitlab.pipeline(project, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
}

#[test]
fn a_start_whose_answer_got_lost_is_found_and_not_sent_again() {
    for trouble in
        [json!({"kind": "lost"}), json!({"kind": "status", "status": 502, "done": true}), json!({"kind": "garbage"})]
    {
        let (chain, diamond) = Chain::diamond("");
        chain.gitlab.fail(1, "POST", "*/pipeline", &trouble);
        succeed(&chain, diamond.base);
        chain.started(diamond.ruby, 0);
        chain.started(diamond.node, 0);
        chain.until_words("images/ruby", "running");
        chain.until_words("images/node", "running");
        chain.sync();
        let posts = chain.gitlab.requests_to("POST", "*/pipeline").len();
        assert_eq!((posts, chain.starts(diamond.ruby).len(), chain.starts(diamond.node).len()), (2, 1, 1), "{trouble}");
        let said = [noted(&chain, diamond.ruby, "images/ruby"), noted(&chain, diamond.node, "images/node")];
        assert!(said.concat().contains("found after its answer got lost"), "{trouble}: {said:?}");
    }
}

/// What came of a project's only start, which is on record with its pipeline and its reason.
fn noted(chain: &Chain, project: u64, path: &str) -> String {
    let events = chain.json(&["events", "--project", path]);
    let starts = events["starts"].as_array().unwrap();
    assert_eq!(starts.len(), 1, "{events:#}");
    assert_eq!(starts[0]["pipeline"], chain.starts(project)[0], "{events:#}");
    assert_eq!(starts[0]["reason"], "images/base succeeded", "{events:#}");
    starts[0]["outcome"].as_str().unwrap().to_owned()
}

#[test]
fn a_daemon_that_dies_between_a_start_and_its_answer_finds_the_pipeline() {
    let (chain, diamond) = Chain::diamond("[chain]\nmax_running = 1");
    chain.gitlab.fail(1, "POST", "*/pipeline", &json!({"kind": "slow", "ms": 60000, "done": true}));
    succeed(&chain, diamond.base);
    let is_sent = || !chain.starts(diamond.ruby).is_empty() || !chain.starts(diamond.node).is_empty();
    until("it is sent", seconds(30), is_sent);
    chain.host.end_daemon(Signal::SIGKILL);
    chain.host.start_daemon();
    let (first, second) =
        if chain.starts(diamond.ruby).is_empty() { (diamond.node, diamond.ruby) } else { (diamond.ruby, diamond.node) };
    until("it is found", seconds(30), || chain.host.log().contains("whose start was in doubt"));
    // On record it is a start like any other.
    let path = if first == diamond.ruby { "images/ruby" } else { "images/node" };
    chain.until_words(path, "running");
    assert!(noted(&chain, first, path).contains("found after its answer got lost"));
    chain.gitlab.bring(chain.starts(first)[0], "success");
    chain.started(second, 0);
    assert_eq!(chain.starts(first).len(), 1, "sent twice");
}

#[test]
fn what_gitlab_will_not_do_is_said_and_not_tried_again() {
    let (chain, diamond) = Chain::diamond("");
    chain.gitlab.change_project(diamond.ruby, &json!({"refusal": "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to the pipeline."}));
    succeed(&chain, diamond.base);
    chain.until_words("images/ruby", "GitLab refuses: its rules make no jobs");
    chain.until_words("images/app", "blocked by images/ruby");
    chain.sync();
    assert_eq!(chain.gitlab.requests_to("POST", &format!("*/{}/pipeline", diamond.ruby)).len(), 1);
    // Something changes: it is tried again.
    chain.gitlab.change_project(diamond.ruby, &json!({"refusal": null}));
    succeed(&chain, diamond.base);
    chain.started(diamond.ruby, 0);
}

#[test]
fn an_expired_token_is_said_and_a_new_one_goes_on() {
    let (chain, diamond) = Chain::diamond("");
    chain.gitlab.token(&json!({"token": TOKEN, "expires_at": "2020-01-01"}));
    let output = chain.run(&["sync"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("expired") && said.contains("token_file"), "{said}");
    assert_eq!(chain.words("images/app"), "fresh", "what is known stays known");
    chain.gitlab.token(&json!({"token": "glpat-new"}));
    chain.write_token("glpat-new");
    succeed(&chain, diamond.base);
    chain.sync();
    chain.started(diamond.ruby, 0);
    assert!(chain.host.log().contains("was read again"));
    assert!(!chain.host.log().contains("glpat-new"), "no token in the log");
}

#[test]
fn a_token_that_may_too_little_is_told_what_it_lacks() {
    let (chain, _) = Chain::diamond("");
    chain.gitlab.token(&json!({"token": "glpat-small", "scopes": ["read_api"]}));
    chain.write_token("glpat-small");
    chain.gitlab.token(&json!({"token": TOKEN, "expires_at": "2020-01-01"}));
    chain.json(&["rebuild", "images/base"]);
    until("it is said", seconds(30), || chain.status()["problems"].to_string().contains("needs the scope api"));
    assert_eq!(chain.project("images/base")["state"], "due");
}

#[test]
fn limits_and_faults_that_pass_are_waited_for() {
    let (chain, diamond) = Chain::diamond("");
    for trouble in [
        json!({"kind": "throttled", "retry_after": 1}),
        json!({"kind": "throttled", "form": "json"}),
        json!({"kind": "status", "status": 503}),
        json!({"kind": "closed"}),
        json!({"kind": "cut"}),
    ] {
        chain.gitlab.fail(1, "POST", "/api/graphql", &trouble);
        chain.sync();
        assert_eq!(chain.status()["problems"], json!([]), "{trouble}");
    }
    // A start that GitLab did not look at is sent again.
    chain.gitlab.fail(2, "POST", "*/pipeline", &json!({"kind": "throttled", "retry_after": 1}));
    succeed(&chain, diamond.base);
    chain.started(diamond.ruby, 0);
    chain.started(diamond.node, 0);
}

#[test]
fn a_budget_of_requests_is_not_used_up() {
    let (chain, _) = Chain::diamond("");
    chain.gitlab.budget(Some((40, 2)));
    chain.gitlab.forget_requests();
    for _ in 0..6 {
        chain.sync();
        chain.run(&["audit"]);
    }
    let refused = chain.gitlab.requests().into_iter().filter(|request| request.status == Some(429)).count();
    assert_eq!(refused, 0, "it waits before the limit bites");
}

#[test]
fn without_graphql_it_goes_by_rest_and_says_so() {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    gitlab.settings(&json!({"graphql": {"enabled": false}}));
    let chain = Chain::of(gitlab, "");
    assert!(chain.status()["problems"].to_string().contains("without GraphQL"));
    assert_eq!(chain.words("images/app"), "fresh");
    succeed(&chain, diamond.base);
    chain.started(diamond.ruby, 0);
    chain.gitlab.forget_requests();
    chain.sync();
    assert!(
        chain.gitlab.requests_to("GET", "*/files/*").is_empty(),
        "files of projects that have not changed are not read again"
    );
}

#[test]
fn a_page_that_is_too_complex_is_asked_for_in_parts() {
    let gitlab = FakeGitlab::start();
    Diamond::make(&gitlab);
    gitlab.settings(&json!({"graphql": {"max_complexity": 60}}));
    let chain = Chain::of(gitlab, "");
    assert_eq!(chain.status()["problems"], json!([]), "{}", chain.host.log());
    let pages = chain.gitlab.requests_to("POST", "/api/graphql");
    assert!(
        pages.len() > 2 && pages.iter().any(|page| page.json()["variables"]["count"].as_u64() < Some(100)),
        "{}",
        pages.len()
    );
    assert_eq!(chain.project("images/app")["upstreams"].as_array().map(Vec::len), Some(2));
}

#[test]
fn one_project_that_fails_stops_no_other_and_is_shown_with_its_reason() {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    gitlab.settings(&json!({"graphql": {"enabled": false}}));
    gitlab.fail(
        1000,
        "GET",
        &format!("/api/v4/projects/{}/pipelines*", diamond.node),
        &json!({"kind": "status", "status": 500}),
    );
    let chain = Chain::of(gitlab, "");
    let node = chain.project("images/node");
    assert!(node["problems"].to_string().contains("500"), "{node}");
    assert_eq!(chain.words("images/ruby"), "fresh");
    let audit = chain.run(&["audit"]);
    assert_eq!(audit.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&audit.stdout).contains("images/node"));
    chain.gitlab.end_faults();
    chain.sync();
    assert_eq!(chain.project("images/node")["problems"], json!([]));
}

#[test]
fn a_clock_that_is_wrong_makes_nothing_wrong() {
    for ahead in [3_600_000, -3_600_000] {
        let gitlab = FakeGitlab::start();
        gitlab.set_clock_ahead(ahead);
        let diamond = Diamond::make(&gitlab);
        let chain = Chain::of(gitlab, "[chain]\nsettle = '2s'");
        succeed(&chain, diamond.base);
        let ruby = chain.started(diamond.ruby, 0);
        let node = chain.started(diamond.node, 0);
        chain.gitlab.bring(ruby, "success");
        chain.gitlab.bring(node, "success");
        chain.started(diamond.app, 0);
        assert_eq!(chain.starts(diamond.ruby).len(), 1);
    }
}

#[test]
fn a_database_of_long_ago_starts_nothing_that_gitlab_shows_as_fresh() {
    let (chain, diamond) = Chain::diamond("[chain]\nsettle = '2s'");
    let copy = chain.host.dir().join("copy.db");
    chain.json(&["backup", copy.to_str().unwrap()]);
    // What happens in the week after: everything is built anew, by the chain and by people.
    succeed(&chain, diamond.base);
    for project in [diamond.ruby, diamond.node, diamond.app] {
        let pipeline = chain.started(project, 0);
        chain.gitlab.bring(pipeline, "success");
    }
    chain.until_words("images/app", "fresh");
    chain.host.end_daemon(Signal::SIGTERM);
    let state = chain.host.state_dir();
    for name in ["chain.db-wal", "chain.db-shm"] {
        let _ = std::fs::remove_file(state.join(name));
    }
    std::fs::copy(&copy, state.join("chain.db")).unwrap();
    chain.gitlab.forget_requests();
    chain.host.start_daemon();
    chain.until_looked();
    chain.sync();
    chain.until_words("images/app", "fresh");
    assert_eq!(chain.gitlab.requests_to("POST", "*/pipeline").len(), 0);
    // And it goes on.
    succeed(&chain, diamond.base);
    chain.started(diamond.ruby, 1);
}

#[test]
fn a_project_that_is_gone_for_a_while_comes_back_as_it_was() {
    let (chain, diamond) = Chain::diamond("");
    chain.gitlab.change_project(diamond.ruby, &json!({"archived": true}));
    chain.sync();
    assert!(chain.status()["projects"].as_array().unwrap().iter().all(|project| project["path"] != "images/ruby"));
    succeed(&chain, diamond.base);
    chain.started(diamond.node, 0);
    chain.gitlab.change_project(diamond.ruby, &json!({"archived": false}));
    chain.sync();
    chain.started(diamond.ruby, 0);
}

#[test]
fn a_proxy_is_on_the_way_where_there_is_one() {
    let gitlab = FakeGitlab::start();
    Diamond::make(&gitlab);
    // The name leads nowhere, so whatever arrives came by the proxy, which the fake is too.
    let toml = format!("[gitlab]\nurl = 'http://gitlab.invalid'\nproxy = '{}'", gitlab.url());
    let chain = Chain::of(gitlab, &toml);
    assert_eq!((chain.status()["problems"].clone(), chain.words("images/app")), (json!([]), "fresh".to_owned()));
}

#[test]
fn lists_in_pages_are_read_to_their_end() {
    let gitlab = FakeGitlab::start();
    let projects: Vec<_> = (0..230).map(|number| json!({"path": format!("images/p{number}"), "empty": true})).collect();
    gitlab.projects(&json!(projects));
    gitlab.settings(&json!({"graphql": {"enabled": false}}));
    let chain = Chain::of(gitlab, "[webhook]\nlisten = 'off'\n[chain]\ndry_run = true");
    let count = || chain.status()["projects"].as_array().unwrap().len();
    assert_eq!(count(), 230);
    assert_eq!(chain.gitlab.requests_to("GET", "/api/v4/groups/images/projects").len(), 3);
    chain.gitlab.settings(&json!({"graphql": {"enabled": true}}));
    chain.sync();
    assert_eq!((count(), chain.status()["problems"].clone()), (230, json!([])));
}
