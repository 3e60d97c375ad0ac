//! Images that no project builds: watched in a real registry, and vetted.

use serde_json::{Value, json};

use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;
use crate::support::http::{Response, Server};
use crate::support::openmetrics::Figures;
use crate::support::pushed::{Pushed, digest, push_index};
use crate::support::registry::Registry;
use crate::support::wait::{seconds, until};

/// A chain on images of a registry.
pub struct Watched {
    /// The chain.
    pub chain: Chain,
    /// Builds on `bases/debian:stable`.
    pub base: u64,
    /// Builds on `bases/alpine:3`.
    pub other: u64,
    /// Builds on a fixed digest.
    pub fixed: u64,
}

/// Settings for a registry without TLS that is asked all the time.
pub fn settings(registry: &Registry, more: &str) -> String {
    let conf = registry.registries_conf();
    let every = if more.starts_with("every") { "" } else { "every = '1s'\n" };
    format!(
        "[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'\n[chain.watch]\nenabled = true\nplatform = 'linux/amd64'\n{every}{more}",
        conf.display()
    )
}

/// Lets a project's pipeline, from long ago, have succeeded.
pub fn built(gitlab: &FakeGitlab, project: u64) {
    let times = json!({"to": "success", "quiet": true, "created_at": "2026-11-01T15:20:00.000Z", "finished_at": "2026-11-01T15:26:29.000Z"});
    gitlab.pipeline(project, &times);
}

impl Watched {
    fn on(registry: &Registry, host: &str, more: &str) -> Self {
        let gitlab = FakeGitlab::start();
        let fixed = format!("FROM {host}/bases/debian:stable@{}\n", digest(b"fixed"));
        let project = |name: &str, text: &str| {
            let id = gitlab.project(&format!("images/{name}"), &[("Containerfile", text)]);
            built(&gitlab, id);
            id
        };
        let base = project("base", &format!("FROM {host}/bases/debian:stable\n"));
        let other = project("other", &format!("FROM {host}/bases/alpine:3\n"));
        let fixed = project("fixed", &fixed);
        Self { chain: Chain::of(gitlab, &settings(registry, more)), base, other, fixed }
    }

    /// What an audit says of an image.
    fn finding(&self, image: &str) -> Value {
        let found = self.findings();
        let of_image = found.iter().find(|finding| finding["subject"].as_str().unwrap().ends_with(image));
        of_image.unwrap_or_else(|| panic!("nothing of {image} in {found:?}")).clone()
    }

    fn findings(&self) -> Vec<Value> {
        let audit = self.chain.run(&["audit", "--json"]);
        serde_json::from_slice::<Value>(&audit.stdout).unwrap().as_array().unwrap().clone()
    }

    /// Waits until an image was looked up and nothing is wrong with that.
    fn until_seen(&self, image: &str) {
        until("the image is seen", seconds(30), || self.finding(image)["age"]["digest"].is_string());
    }

    /// Waits until images/base is to be built because this image moved, and looks at how that is told, to people and to programs.
    fn says_why(&self, image: &str) {
        let plan = || self.chain.json(&["plan"]);
        until("it is to be built", seconds(30), || plan()["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
        let plan = plan();
        let expected = json!([{
            "path": "images/base", "step": "held", "words": "due, and held back: the chain is paused", "because": [image],
        }]);
        assert_eq!(plan["steps"], expected, "{plan}");
        let project = self.chain.project("images/base");
        assert_eq!((&project["state"], &project["because"]), (&json!("held"), &json!([image])), "{project}");
        assert_eq!(self.chain.project("images/other")["because"], json!([]));
        let shown = |arguments: &[&str]| String::from_utf8(self.chain.run(arguments).stdout).unwrap();
        let line = |text: &str, words: &[&str]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
        let plan = shown(&["plan"]);
        assert!(line(&plan, &["held", "images/base", image]), "{plan}");
        let table = shown(&["status"]);
        assert!(line(&table, &["images/base", "due", image]), "{table}");
        let whole = shown(&["status", "images/base"]);
        assert!(line(&whole, &["because of", image]) && line(&whole, &["builds on", image, "it moved"]), "{whole}");
    }

    fn starts(&self) -> [usize; 3] {
        [self.base, self.other, self.fixed].map(|project| self.chain.starts(project).len())
    }
}

/// Waits until a tag was asked for `more` times from now on: what was pushed before has been seen by then.
fn until_asked(registry: &Registry, name: &str, tag: &str, more: usize) {
    let before = registry.heads(name, tag);
    until("it is looked up", seconds(30), || registry.heads(name, tag) >= before + more);
}

#[test]
fn an_image_that_moved_rebuilds_what_builds_on_it_once_and_nothing_else() {
    let Some(registry) = Registry::open() else { return };
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    Pushed::of(&["alpine"]).push(&registry, "bases/alpine", "3");
    let watched = Watched::on(&registry, &format!("127.0.0.1:{}", registry.port), "");
    watched.until_seen("debian:stable");
    until_asked(&registry, "bases/debian", "stable", 3);
    assert_eq!(watched.starts(), [0, 0, 0], "seen for the first time, it has not moved");
    assert_eq!(watched.finding("debian:stable")["age"]["verdict"], "too-young");
    // While nothing is started, plan and status say what would be, and why.
    watched.chain.json(&["pause"]);
    Pushed::of(&["two"]).push(&registry, "bases/debian", "stable");
    watched.says_why(&format!("127.0.0.1:{}/bases/debian:stable", registry.port));
    assert_eq!(watched.starts(), [0, 0, 0]);
    watched.chain.json(&["resume"]);
    let pipeline = watched.chain.started(watched.base, 0);
    let events = watched.chain.json(&["events", "--project", "images/base"]);
    let reason = events["starts"][0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("bases/debian:stable moved"), "{reason}");
    watched.chain.gitlab.bring(pipeline, "success");
    watched.chain.until_words("images/base", "fresh");
    until_asked(&registry, "bases/debian", "stable", 3);
    assert_eq!(watched.starts(), [1, 0, 0]);
    let moved = watched.finding("debian:stable");
    assert_eq!((&moved["age"]["verdict"], &moved["is_problem"]), (&json!("ok"), &json!(false)), "{moved}");
    assert!(moved["words"].as_str().unwrap().contains("built on by images/base"), "{moved}");
    let status = watched.chain.project("images/base");
    assert!(status["upstreams"][0]["moved_at"].is_string(), "{status}");
    // Over a restart, and back again: what moves is never forgotten, and nothing is built twice for it.
    watched.chain.restart(&settings(&registry, ""));
    watched.chain.until_looked();
    until_asked(&registry, "bases/debian", "stable", 2);
    assert_eq!(watched.starts(), [1, 0, 0]);
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    watched.chain.started(watched.base, 1);
    assert_eq!(registry.heads("bases/debian", &digest(b"fixed")), 0, "what is fixed is never asked for");
}

#[test]
fn what_moved_while_the_daemon_was_away_is_seen_when_it_is_back() {
    let Some(registry) = Registry::open() else { return };
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    Pushed::of(&["alpine"]).push(&registry, "bases/alpine", "3");
    let watched = Watched::on(&registry, &format!("127.0.0.1:{}", registry.port), "");
    watched.until_seen("debian:stable");
    watched.until_seen("alpine:3");
    watched.chain.host.end_daemon(nix::sys::signal::Signal::SIGKILL);
    Pushed::of(&["two"]).push(&registry, "bases/debian", "stable");
    watched.chain.host.start_daemon();
    watched.chain.started(watched.base, 0);
    assert_eq!(watched.starts(), [1, 0, 0]);
}

#[test]
fn a_look_is_one_request_each_time_it_is_due_and_not_before() {
    let Some(registry) = Registry::open() else { return };
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    Pushed::of(&["alpine"]).push(&registry, "bases/alpine", "3");
    let pushed = registry.requests();
    let watched = Watched::on(&registry, &format!("127.0.0.1:{}", registry.port), "every = '10h'");
    watched.until_seen("debian:stable");
    watched.until_seen("alpine:3");
    let seen = registry.requests();
    for _ in 0..3 {
        watched.chain.sync();
    }
    watched.chain.restart(&settings(&registry, "every = '10h'"));
    watched.chain.until_looked();
    watched.chain.sync();
    assert_eq!(registry.requests(), seen, "when each is looked up next is on record");
    assert_eq!((registry.heads("bases/debian", "stable"), registry.heads("bases/alpine", "3")), (1, 1));
    assert_eq!(seen - pushed, 2, "of a single image the digest is all that is asked for");
}

#[test]
fn another_platforms_image_that_moved_is_no_move() {
    let Some(registry) = Registry::open() else { return };
    let push = |layer: &str| Pushed::of(&[layer]).push(&registry, "bases/debian", "");
    let (amd64, arm64, newer) = (push("amd64"), push("arm64"), push("newer"));
    push_index(&registry, "bases/debian", "stable", &[("amd64", &amd64), ("arm64", &arm64)]);
    Pushed::of(&["alpine"]).push(&registry, "bases/alpine", "3");
    let watched = Watched::on(&registry, &format!("127.0.0.1:{}", registry.port), "");
    watched.until_seen("debian:stable");
    push_index(&registry, "bases/debian", "stable", &[("amd64", &amd64), ("arm64", &newer)]);
    until_asked(&registry, "bases/debian", "stable", 3);
    assert_eq!(watched.starts(), [0, 0, 0]);
    assert_eq!(watched.finding("debian:stable")["age"]["digest"], amd64.as_str());
    push_index(&registry, "bases/debian", "stable", &[("amd64", &newer), ("arm64", &newer)]);
    watched.chain.started(watched.base, 0);
}

#[test]
fn what_is_only_to_be_recorded_rebuilds_nothing() {
    let Some(registry) = Registry::open() else { return };
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    Pushed::of(&["alpine"]).push(&registry, "bases/alpine", "3");
    let watched = Watched::on(&registry, &format!("127.0.0.1:{}", registry.port), "rebuild = false");
    watched.until_seen("debian:stable");
    let before = watched.finding("debian:stable")["age"]["digest"].clone();
    Pushed::of(&["two"]).push(&registry, "bases/debian", "stable");
    until("the move is seen", seconds(30), || watched.finding("debian:stable")["age"]["digest"] != before);
    watched.chain.sync();
    assert!(watched.finding("debian:stable")["age"]["moved_at"].is_string());
    // Nor does it afterwards.
    watched.chain.restart(&settings(&registry, ""));
    watched.chain.until_looked();
    until_asked(&registry, "bases/debian", "stable", 2);
    assert_eq!(watched.starts(), [0, 0, 0]);
}

#[test]
fn a_registry_in_trouble_makes_nothing_stale_and_is_told() {
    let said = |status: u16| Response::json(status, &json!({"errors": [{"message": "no such luck"}]}));
    for (status, expected) in [
        (401, "login"),
        (404, "has none of that name"),
        (429, "has had enough"),
        (500, "answers 500"),
        (200, "makes no sense"),
    ] {
        let server = Server::start(move |request| match (status, request.method.as_str()) {
            (200, "HEAD") => Response::empty(200),
            (200, _) => Response::bytes(200, b"<html>".to_vec()),
            (401, _) => said(401).with("WWW-Authenticate", "Basic realm=\"x\""),
            _ => said(status),
        });
        let host = format!("127.0.0.1:{}", server.port);
        let conf = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(conf.path(), format!("[[registry]]\nlocation = '{host}'\ninsecure = true\n")).unwrap();
        let gitlab = FakeGitlab::start();
        let base = gitlab.project("images/base", &[("Containerfile", &format!("FROM {host}/bases/debian:stable\n"))]);
        built(&gitlab, base);
        let toml = format!(
            "[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'\n[chain.watch]\nenabled = true\nevery = '1s'",
            conf.path().display()
        );
        let chain = Chain::of(gitlab, &toml);
        until("it is told", seconds(30), || chain.status()["problems"].to_string().contains(expected));
        chain.sync();
        assert_eq!(chain.words("images/base"), "fresh", "{status}");
        assert!(chain.starts(base).is_empty(), "{status}");
    }
}

#[test]
fn an_audit_says_what_is_too_old_and_its_exit_code_is_for_cron() {
    let Some(registry) = Registry::open() else { return };
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    Pushed::of(&["alpine"]).push(&registry, "bases/alpine", "3");
    let host = format!("127.0.0.1:{}", registry.port);
    let old = "rebuild = false\n[chain.audit]\nmax_age = '3650days'";
    let watched = Watched::on(&registry, &host, old);
    watched.until_seen("debian:stable");
    watched.until_seen("alpine:3");
    let audit = watched.chain.run(&["audit"]);
    let text = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert_eq!(audit.status.code(), Some(0), "{text}");
    assert!(text.contains("too-young: has not moved in the"), "{text}");
    watched.chain.restart(&settings(&registry, "rebuild = false\n[chain.audit]\nmax_age = '1s'"));
    watched.chain.until_looked();
    until("it is stale", seconds(30), || watched.finding("debian:stable")["age"]["verdict"] == "stale");
    let audit = watched.chain.run(&["audit"]);
    assert_eq!(audit.status.code(), Some(1));
    let own = watched.finding("images/other");
    assert_eq!((&own["kind"], &own["age"]["verdict"]), (&json!("own-image"), &json!("stale")), "{own}");
    let figures = Figures::of(&watched.chain.host);
    assert!(figures.get("windlass_chain_images{verdict=\"stale\"}") >= 1.0);
    assert!(figures.get("windlass_chain_stale_projects") >= 1.0);
}
