//! The webhooks that the daemon sets up in GitLab.

use serde_json::{Value, json};

use crate::support::chain::{Chain, Diamond, SECRET, TOKEN};
use crate::support::gitlab::FakeGitlab;
use crate::support::wait::{seconds, until};

fn url(chain: &Chain) -> String {
    format!("http://127.0.0.1:{}/hooks/gitlab", chain.port)
}

#[test]
fn each_project_gets_one_webhook_for_pipelines_alone() {
    let (chain, diamond) = Chain::diamond("");
    let hook = &chain.gitlab.hooks(diamond.base)[0];
    assert_eq!(
        (&hook["url"], &hook["name"], &hook["token"]),
        (&json!(url(&chain)), &json!("windlass"), &json!(SECRET))
    );
    assert_eq!((&hook["pipeline_events"], &hook["push_events"]), (&json!(true), &json!(false)), "{hook}");
    chain.gitlab.forget_requests();
    chain.sync();
    chain.sync();
    let seen = chain.gitlab.requests();
    assert!(
        seen.iter().all(|request| !request.path.contains("/hooks")),
        "unchanged projects cost nothing but their share of the page"
    );
    assert!(seen.len() <= 4, "{seen:?}");
}

#[test]
fn a_webhook_that_was_changed_or_doubled_is_mended_and_others_are_left_alone() {
    let (chain, diamond) = Chain::diamond("");
    let ours = chain.gitlab.hooks(diamond.base)[0]["id"].as_u64().unwrap();
    let path = format!("/projects/{}/hooks", diamond.base);
    chain.gitlab.api(
        "POST",
        &path,
        &json!({"url": "http://127.0.0.1:9/other", "name": "windlass", "push_events": true}),
    );
    chain.gitlab.api("POST", &path, &json!({"url": url(&chain), "pipeline_events": true}));
    chain.gitlab.api(
        "PUT",
        &format!("{path}/{ours}"),
        &json!({"url": url(&chain), "pipeline_events": false, "push_events": true}),
    );
    // No event comes of a pipeline: then its project's webhook is looked at.
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true, "quiet": true}));
    chain.gitlab.bring(pipeline, "running");
    chain.sync();
    let hooks = chain.gitlab.hooks(diamond.base);
    let of_ours: Vec<&Value> = hooks.iter().filter(|hook| hook["url"] == url(&chain)).collect();
    assert_eq!((hooks.len(), of_ours.len()), (2, 1), "{hooks:?}");
    assert_eq!(
        (&of_ours[0]["id"], &of_ours[0]["pipeline_events"], &of_ours[0]["push_events"]),
        (&json!(ours), &json!(true), &json!(false))
    );
    assert_eq!(of_ours[0]["token"], SECRET);
}

#[test]
fn another_secret_or_url_reaches_all_webhooks() {
    let (chain, diamond) = Chain::diamond("");
    let file = chain.host.dir().join("other");
    std::fs::write(&file, "another-secret").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    // Another way to write the same address is another URL to GitLab.
    let other = format!("http://localhost:{}/hooks/gitlab", chain.port);
    let settings = format!("[webhook]\nsecret_file = '{}'\nurl = '{other}'", file.display());
    chain.restart(&settings);
    for project in [diamond.base, diamond.ruby, diamond.node, diamond.app] {
        until("it is the other", seconds(30), || {
            let hooks = chain.gitlab.hooks(project);
            hooks.len() == 1 && hooks[0]["url"] == other && hooks[0]["token"] == "another-secret"
        });
    }
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.started(diamond.ruby, 0);
}

#[test]
fn a_webhook_signs_where_gitlab_can_and_has_its_token_where_not() {
    for (version, signs) in [("19.1.0", true), ("18.0.0", false)] {
        let gitlab = FakeGitlab::start_with(&["--gitlab-version", version]);
        let diamond = Diamond::make(&gitlab);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let chain = Chain::of(gitlab, &format!("[webhook]\nsigning_secret_file = '{}'", file.display()));
        until("the webhook is there", seconds(30), || chain.gitlab.hooks(diamond.base).len() == 1);
        chain.settle();
        chain.gitlab.forget_deliveries();
        let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
        chain.gitlab.bring(pipeline, "success");
        chain.started(diamond.ruby, 0);
        chain.gitlab.settle();
        let sent = chain.gitlab.deliveries();
        let signed = |name: &str| {
            sent.iter().all(|delivery| delivery.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name)))
        };
        assert!(!sent.is_empty() && signed("webhook-signature") == signs, "{version}: {sent:?}");
        assert!(sent.iter().all(|delivery| delivery.response_status == Some(200)), "{sent:?}");
        assert_eq!(chain.project("images/base")["problems"], json!([]));
    }
}

#[test]
fn a_webhook_that_gitlab_has_switched_off_is_switched_on_again() {
    let (chain, diamond) = Chain::diamond("");
    let hook = chain.gitlab.hooks(diamond.base)[0]["id"].as_u64().unwrap();
    // Four failures in a row, while the daemon is away.
    chain.host.end_daemon(nix::sys::signal::Signal::SIGTERM);
    for _ in 0..5 {
        let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
        chain.gitlab.bring(pipeline, "success");
        chain.gitlab.settle();
    }
    let path = format!("/projects/{}/hooks/{hook}", diamond.base);
    assert_ne!(chain.gitlab.api("GET", &path, &Value::Null).json()["alert_status"], "executable");
    chain.host.start_daemon();
    chain.until_looked();
    until("it is switched on", seconds(30), || {
        chain.gitlab.api("GET", &path, &Value::Null).json()["alert_status"] == "executable"
    });
    assert_eq!(chain.project("images/base")["problems"], json!([]));
}

#[test]
fn a_webhook_that_can_not_be_set_up_is_shown_with_its_reason() {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    gitlab.token(&json!({"token": TOKEN, "role": 30}));
    let chain = Chain::of(gitlab, "");
    let project = chain.project("images/base");
    assert!(project["problems"].to_string().contains("role Maintainer"), "{project}");
    let audit = String::from_utf8(chain.run(&["audit"]).stdout).unwrap();
    assert!(audit.contains("no-webhook") && audit.contains("images/base"), "{audit}");
    // The chain goes on by its timer.
    chain.gitlab.token(&json!({"token": TOKEN, "role": 50}));
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.sync();
    chain.started(diamond.ruby, 0);
    until("the webhook is there", seconds(30), || chain.gitlab.hooks(diamond.base).len() == 1);
}

#[test]
fn a_dry_run_sets_up_nothing_and_starts_nothing() {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    let chain = Chain::of(gitlab, "[chain]\ndry_run = true");
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.gitlab.forget_requests();
    chain.sync();
    // A success counts to the end of its second.
    until("they are due", seconds(10), || {
        chain.project("images/ruby")["state"] == "due" && chain.project("images/node")["state"] == "due"
    });
    let plan = chain.json(&["plan"]);
    assert_eq!(plan["held"], "dry_run is set in [chain]");
    let ruby = String::from_utf8(chain.run(&["status", "images/ruby"]).stdout).unwrap();
    assert!(ruby.contains("nothing is started: dry_run is set in [chain]"), "{ruby}");
    let steps: Vec<(&str, &str)> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["path"].as_str().unwrap(), step["step"].as_str().unwrap()))
        .collect();
    assert_eq!(steps[..2], [("images/ruby", "start"), ("images/node", "start")], "{plan}");
    assert!(steps.contains(&("images/app", "waits")), "{plan}");
    assert!(chain.writes().is_empty() && chain.gitlab.hooks(diamond.base).is_empty());
}
