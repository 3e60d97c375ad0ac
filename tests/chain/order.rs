//! What is built when.

use serde_json::json;

use crate::support::chain::{Chain, Diamond};
use crate::support::gitlab::FakeGitlab;
use crate::support::wait::{seconds, until};

/// Lets a pipeline that somebody started succeed.
fn succeed(chain: &Chain, project: u64) -> u64 {
    let pipeline = chain.gitlab.pipeline(project, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    pipeline
}

#[test]
fn a_diamond_is_built_in_order_and_its_end_once() {
    let (chain, diamond) = Chain::diamond("");
    assert!(chain.writes().iter().all(|request| request.path.contains("/hooks")), "turning it on starts nothing");
    assert_eq!(chain.words("images/app"), "fresh");
    succeed(&chain, diamond.base);
    let (ruby, node) = (chain.started(diamond.ruby, 0), chain.started(diamond.node, 0));
    chain.until_words("images/app", "waits for");
    assert_eq!(chain.project("images/ruby")["state"], "running");
    chain.gitlab.bring(ruby, "success");
    chain.until_words("images/ruby", "fresh");
    chain.settle();
    chain.until_words("images/app", "waits for images/node");
    assert!(chain.starts(diamond.app).is_empty(), "one of two is not enough");
    chain.gitlab.bring(node, "success");
    let app = chain.started(diamond.app, 0);
    chain.gitlab.bring(app, "success");
    chain.until_words("images/app", "fresh");
    chain.sync();
    let counts = [diamond.base, diamond.ruby, diamond.node, diamond.app].map(|project| chain.starts(project).len());
    assert_eq!(counts, [0, 1, 1, 1]);
    let events = chain.json(&["events", "--project", "images/app"]);
    assert_eq!(events["starts"][0]["reason"], "images/ruby, images/node succeeded", "{events}");
    let sent: Vec<_> = chain.gitlab.requests_to("POST", "*/pipeline").iter().map(|request| request.json()).collect();
    assert!(sent.iter().all(|body| *body == json!({"ref": "main"})), "no variables: {sent:?}");
}

#[test]
fn a_failure_stops_what_is_above_it_and_a_retry_goes_on() {
    let (chain, diamond) = Chain::diamond("");
    succeed(&chain, diamond.base);
    let (ruby, node) = (chain.started(diamond.ruby, 0), chain.started(diamond.node, 0));
    chain.gitlab.bring(node, "success");
    chain.gitlab.bring(ruby, "failed");
    chain.until_words("images/ruby", "failed");
    chain.until_words("images/app", "blocked by images/ruby");
    chain.sync();
    assert!(chain.starts(diamond.app).is_empty());
    // The same pipeline, under the same id.
    chain.gitlab.retry(ruby);
    chain.until_words("images/ruby", "running");
    chain.until_words("images/app", "waits for images/ruby");
    chain.gitlab.bring(ruby, "success");
    chain.started(diamond.app, 0);
    assert_eq!(chain.starts(diamond.ruby).len(), 1);
}

#[test]
fn with_every_webhook_lost_the_timer_does_it() {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    gitlab.webhooks(&json!({"drop": "all"}));
    let chain = Chain::of(gitlab, "[chain]\ninterval = '1s'");
    succeed(&chain, diamond.base);
    for project in [diamond.ruby, diamond.node, diamond.app] {
        let pipeline = chain.started(project, 0);
        chain.gitlab.bring(pipeline, "success");
    }
    chain.until_words("images/app", "fresh");
    assert_eq!(chain.starts(diamond.app).len(), 1);
    assert!(chain.gitlab.deliveries().iter().all(|delivery| delivery.outcome == "dropped"));
}

#[test]
fn events_that_come_twice_late_and_in_any_order_change_nothing() {
    let (chain, diamond) = Chain::diamond("");
    chain.gitlab.webhooks(&json!({"hold": true, "twice": {"share": "all", "key": "other"}}));
    succeed(&chain, diamond.base);
    assert!(chain.gitlab.release("backwards") > 0);
    let (ruby, node) = (chain.started(diamond.ruby, 0), chain.started(diamond.node, 0));
    chain.gitlab.bring(ruby, "success");
    chain.gitlab.bring(node, "success");
    chain.gitlab.release("shuffled");
    let app = chain.started(diamond.app, 0);
    chain.gitlab.bring(app, "success");
    chain.gitlab.release("shuffled");
    chain.until_words("images/app", "fresh");
    chain.settle();
    let counts = [diamond.ruby, diamond.node, diamond.app].map(|project| chain.starts(project).len());
    assert_eq!(counts, [1, 1, 1]);
    let events = chain.json(&["events", "--count", "1000"]);
    let verdicts: Vec<&str> =
        events["events"].as_array().unwrap().iter().filter_map(|event| event["verdict"].as_str()).collect();
    assert!(verdicts.contains(&"a duplicate") && verdicts.contains(&"looked"), "{verdicts:?}");
}

#[test]
fn what_says_nothing_of_the_branch_advances_nothing() {
    let (chain, diamond) = Chain::diamond("");
    let fork = chain.gitlab.project("people/base", &[]);
    let push = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(push, "running");
    chain.until_words("images/base", "running");
    for aside in [
        json!({"tag": "v1", "to": "success"}),
        json!({"branch": "feature", "to": "success"}),
        json!({"parent": push, "to": "success"}),
        json!({"merge_request": {"iid": 1, "source_branch": "main", "source_project_id": fork}, "to": "success"}),
    ] {
        chain.gitlab.pipeline(diamond.base, &aside);
    }
    chain.settle();
    chain.sync();
    assert_eq!(chain.words("images/base"), "running");
    assert!(chain.starts(diamond.ruby).is_empty());
    chain.gitlab.bring(push, "success");
    chain.started(diamond.ruby, 0);
}

#[test]
fn no_more_run_at_once_than_allowed_and_none_in_quiet_hours() {
    let (chain, diamond) = Chain::diamond("[chain]\nmax_running = 1");
    succeed(&chain, diamond.base);
    let first = until_one_of(&chain, [diamond.ruby, diamond.node]);
    chain.settle();
    let other = if first == diamond.ruby { "images/node" } else { "images/ruby" };
    chain.until_words(other, "due, and held back: 1 of 1 pipeline runs (max_running)");
    let shown = |arguments: &[&str]| String::from_utf8(chain.run(arguments).stdout).unwrap();
    for arguments in [&["status"][..], &["status", other], &["plan"]] {
        let text = shown(arguments);
        assert!(text.contains("held back: 1 of 1 pipeline runs (max_running)"), "{text}");
    }
    chain.gitlab.bring(chain.starts(first)[0], "success");
    let second = if first == diamond.ruby { diamond.node } else { diamond.ruby };
    let second = chain.started(second, 0);
    chain.gitlab.bring(second, "success");
    // From the minute that has just been to the one before it: always but for that one.
    let hour = (std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 3600 + 12) % 24;
    let app = chain.started(diamond.app, 0);
    chain.gitlab.bring(app, "success");
    chain.until_words("images/app", "fresh");
    chain.restart(&format!("[chain]\nquiet_hours = '{:02}:00-{hour:02}:00'\nsettle = '0s'", (hour + 1) % 24));
    chain.until_looked();
    succeed(&chain, diamond.base);
    chain.until_words("images/ruby", "due, and held back: it is the hour for quiet");
    assert_eq!(chain.starts(diamond.ruby).len(), 1);
    assert_eq!(chain.status()["held"], "it is the hour for quiet");
}

fn until_one_of(chain: &Chain, projects: [u64; 2]) -> u64 {
    let mut found = 0;
    until("one is started", seconds(30), || {
        let started = projects.iter().find(|project| !chain.starts(**project).is_empty());
        started.inspect(|project| found = **project).is_some()
    });
    found
}

#[test]
fn one_job_may_be_all_that_counts() {
    let gitlab = FakeGitlab::start();
    let jobs = json!([{"name": "image"}, {"name": "deploy", "stage": "deploy", "manual": true}]);
    let base =
        gitlab.projects(&json!({"path": "images/base", "files": {"Containerfile": "FROM scratch\n"}, "jobs": jobs}))[0];
    let app = gitlab.project("images/app", &[(".gitlab-deps", "images/base")]);
    gitlab.pipeline(app, &json!({"to": "success"}));
    gitlab.pipeline(base, &json!({"to": "manual"}));
    let chain = Chain::of(gitlab, "[[chain.project]]\npath = 'images/base'\ndone_when = 'image'");
    assert_eq!(chain.words("images/base"), "fresh", "{}", chain.host.log());
    let pipeline = chain.gitlab.pipeline(base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "running");
    chain.until_words("images/base", "running");
    assert!(chain.starts(app).is_empty());
    // The manual job behind it stays as it is.
    chain.gitlab.bring(pipeline, "manual");
    let started = chain.started(app, 0);
    chain.gitlab.bring(started, "success");
    chain.until_words("images/app", "fresh");
    // Played afterwards, it is no new success.
    chain.gitlab.play(pipeline, "deploy");
    chain.settle();
    chain.sync();
    assert_eq!(chain.starts(app).len(), 1);
}

#[test]
fn a_kickoff_builds_the_roots_and_then_all_above_them() {
    let (chain, diamond) = Chain::diamond("");
    // The minute that begins now, or the next: whichever comes.
    let output = std::process::Command::new("date").arg("+%H:%M").output().unwrap();
    let now = String::from_utf8(output.stdout).unwrap();
    let (hour, minute) = now.trim().split_once(':').unwrap();
    let minute: u32 = hour.parse::<u32>().unwrap() * 60 + minute.parse::<u32>().unwrap();
    let times: Vec<String> =
        (0..3).map(|after| (minute + after) % 1440).map(|at| format!("'{:02}:{:02}'", at / 60, at % 60)).collect();
    chain.restart(&format!("[chain]\nkickoff = [{}]", times.join(", ")));
    let base =
        crate::support::wait::value("the root is built", seconds(130), || chain.starts(diamond.base).first().copied());
    assert!(chain.starts(diamond.ruby).is_empty());
    chain.gitlab.bring(base, "success");
    chain.started(diamond.ruby, 0);
    let events = chain.json(&["events", "--project", "images/base"]);
    assert_eq!(events["starts"][0]["reason"], "somebody asked for it");
}
