//! Which projects are in the chain, and what they build on.

use serde_json::{Value, json};

use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;

fn upstreams(chain: &Chain, path: &str) -> Vec<(String, bool, bool)> {
    let edge =
        |edge: &Value| (edge["name"].as_str().unwrap().to_owned(), edge["project"].is_u64(), edge["pinned"] == true);
    chain.project(path)["upstreams"].as_array().unwrap().iter().map(edge).collect()
}

#[test]
fn groups_and_projects_are_found_with_their_files() {
    let gitlab = FakeGitlab::start();
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    gitlab.project("images/base", &[("Containerfile", "FROM docker.io/library/debian:stable\n")]);
    gitlab.project(
        "images/deep/er/ruby",
        &[
            ("Containerfile.slim", "ARG CI_REGISTRY\nFROM $CI_REGISTRY/images/base\n"),
            ("variants/arm/Dockerfile", "ARG REG\nFROM ${REG}/arm:1\n"),
        ],
    );
    gitlab.project(
        "images/pinned",
        &[(
            "Dockerfile",
            &format!(
                "ARG CI_REGISTRY\nFROM $CI_REGISTRY/images/base@{digest}\nCOPY --from=$CI_REGISTRY_IMAGE/cache /x /x\n"
            ),
        )],
    );
    gitlab.project("images/attic/old", &[]);
    gitlab.project("tools/builder", &[(".gitlab-deps", &format!("{}/images/base.git\n", gitlab.url()))]);
    gitlab.projects(&json!({"path": "images/empty", "empty": true}));
    gitlab.projects(&json!({"path": "images/archived", "archived": true}));
    gitlab.projects(&json!({"path": "images/leaving", "marked_for_deletion_on": "2026-12-01"}));
    gitlab.share("images", gitlab.project("other/shared", &[]));
    let chain = Chain::of(
        gitlab,
        "[chain]\nprojects = ['tools/builder', 'tools/missing']\nexclude = ['images/attic/**']\nfiles = ['Containerfile.*', 'variants/*/Dockerfile']\n[chain.args]\nREG = 'registry.example.net'",
    );
    let status = chain.status();
    let paths: Vec<&str> =
        status["projects"].as_array().unwrap().iter().map(|project| project["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        ["images/base", "images/deep/er/ruby", "images/empty", "images/pinned", "tools/builder"],
        "{status}"
    );
    assert!(status["problems"].to_string().contains("project tools/missing"), "{}", status["problems"]);
    let base = || ("images/base".to_owned(), true, false);
    assert_eq!(upstreams(&chain, "images/deep/er/ruby"), [base(), ("registry.example.net/arm:1".into(), false, false)]);
    assert_eq!(upstreams(&chain, "tools/builder"), [base()]);
    assert_eq!(upstreams(&chain, "images/pinned"), [("images/base".into(), true, true)], "its own cache is no edge");
    assert_eq!(chain.words("images/empty"), "has no pipeline yet");
}

#[test]
fn an_edge_that_comes_counts_nothing_from_before_it_and_one_that_goes_is_gone() {
    let gitlab = FakeGitlab::start();
    let base = gitlab.project("images/base", &[]);
    let app = gitlab.project("images/app", &[]);
    for project in [app, base] {
        gitlab.pipeline(project, &json!({"to": "success", "quiet": true}));
    }
    let chain = Chain::of(gitlab, "");
    chain.gitlab.push(app, &json!({"files": {"Containerfile": "ARG CI_REGISTRY\nFROM $CI_REGISTRY/images/base\n"}}));
    chain.sync();
    assert_eq!((upstreams(&chain, "images/app").len(), chain.words("images/app").as_str()), (1, "fresh"));
    let build = || {
        let pipeline = chain.gitlab.pipeline(base, &json!({"driven": true}));
        chain.gitlab.bring(pipeline, "success");
    };
    build();
    let started = chain.started(app, 0);
    chain.gitlab.bring(started, "success");
    chain.gitlab.push(app, &json!({"files": {"Containerfile": null}}));
    chain.sync();
    build();
    chain.settle();
    chain.sync();
    assert_eq!((upstreams(&chain, "images/app").len(), chain.starts(app).len()), (0, 1));
}

#[test]
fn a_cycle_is_named_and_left_alone_and_a_moved_project_stays_the_same() {
    let gitlab = FakeGitlab::start();
    let base = gitlab.project("images/base", &[]);
    let app = gitlab.project("images/app", &[(".gitlab-deps", "images/base")]);
    gitlab.project("images/one", &[(".gitlab-deps", "images/two")]);
    gitlab.project("images/two", &[(".gitlab-deps", "images/one")]);
    for project in [base, app] {
        gitlab.pipeline(project, &json!({"to": "success", "quiet": true}));
    }
    let chain = Chain::of(gitlab, "");
    assert_eq!(chain.words("images/one"), "builds on itself: images/one -> images/two -> images/one");
    chain.gitlab.change_project(base, &json!({"path": "images/foundation"}));
    chain.gitlab.push(app, &json!({"files": {".gitlab-deps": "images/foundation"}}));
    chain.sync();
    assert_eq!(upstreams(&chain, "images/app"), [("images/foundation".to_owned(), true, false)]);
    let pipeline = chain.gitlab.pipeline(base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.started(app, 0);
    let audit = String::from_utf8(chain.run(&["audit"]).stdout).unwrap();
    assert!(audit.contains("cycle") && audit.contains("images/two"), "{audit}");
}

#[test]
fn an_audit_names_who_may_not_pull_what_it_builds_on() {
    let gitlab = FakeGitlab::start();
    let base = gitlab.projects(&json!({"path": "images/base", "visibility": "private", "inbound_job_tokens": true}))[0];
    gitlab.project("images/app", &[(".gitlab-deps", "images/base")]);
    let tool = gitlab.project("images/tool", &[(".gitlab-deps", "images/base"), ("Dockerfile", "FROM $NOBODY\n")]);
    gitlab.change_project(base, &json!({"job_token_projects": [tool]}));
    let chain = Chain::of(gitlab, "[webhook]\nlisten = 'off'");
    let findings = chain.run(&["audit", "--json"]);
    let findings: Value = serde_json::from_slice(&findings.stdout).unwrap();
    let not_allowed: Vec<&Value> =
        findings.as_array().unwrap().iter().filter(|finding| finding["kind"] == "not-allowed").collect();
    assert_eq!(not_allowed.len(), 1, "{findings}");
    assert!(
        not_allowed[0]["subject"] == "images/app" && not_allowed[0]["words"].as_str().unwrap().contains("images/base")
    );
}
