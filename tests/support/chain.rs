//! A chain under test: a fake GitLab with projects, and a daemon that looks after them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{self, Reply};
use super::gitlab::{FakeGitlab, SeenRequest};
use super::host::Host;
use super::registry::free_port;
use super::wait::{seconds, until, value};

/// The daemon's token for GitLab's API.
pub const TOKEN: &str = "glpat-daemon";
/// What webhooks carry.
pub const SECRET: &str = "the-secret-of-the-webhooks";

/// A chain.
pub struct Chain {
    /// The host with the daemon.
    pub host: Host,
    /// GitLab.
    pub gitlab: FakeGitlab,
    /// Where webhooks come in.
    pub port: u16,
    secrets: TempDir,
}

/// The projects of a diamond: app builds on ruby and node, which build on base.
pub struct Diamond {
    /// images/base
    pub base: u64,
    /// images/ruby
    pub ruby: u64,
    /// images/node
    pub node: u64,
    /// images/app
    pub app: u64,
}

impl Diamond {
    /// Makes the projects, each with a pipeline that succeeded.
    pub fn make(gitlab: &FakeGitlab) -> Self {
        let from =
            |gitlab: &FakeGitlab, name: &str, files: &[(&str, &str)]| gitlab.project(&format!("images/{name}"), files);
        let diamond = Self {
            base: from(gitlab, "base", &[("Containerfile", "FROM docker.io/library/debian:stable\n")]),
            ruby: from(gitlab, "ruby", &[("Dockerfile", "ARG CI_REGISTRY\nFROM $CI_REGISTRY/images/base:latest\n")]),
            node: from(gitlab, "node", &[(".gitlab-deps", "# the base\nimages/base\n")]),
            app: from(gitlab, "app", &[(".gitlab-deps", "images/ruby\nimages/node.git\n")]),
        };
        for project in [diamond.base, diamond.ruby, diamond.node, diamond.app] {
            // Long before the webhooks: no event of these is missed.
            let (created_at, finished_at) = ("2026-05-12T15:20:00.000Z", "2026-05-12T15:26:29.000Z");
            let times = json!({"to": "success", "quiet": true, "created_at": created_at, "finished_at": finished_at});
            gitlab.pipeline(project, &times);
        }
        diamond
    }
}

impl Chain {
    /// One with a diamond, and its webhooks set up.
    pub fn diamond(toml: &str) -> (Self, Diamond) {
        let gitlab = FakeGitlab::start();
        let diamond = Diamond::make(&gitlab);
        let chain = Self::of(gitlab, toml);
        for project in [diamond.base, diamond.ruby, diamond.node, diamond.app] {
            until("the webhook is there", seconds(30), || chain.gitlab.hooks(project).len() == 1);
        }
        (chain, diamond)
    }

    /// One of the group `images` of this GitLab, with these settings over the defaults of tests: nothing settles, the timer is far
    /// away, and registries are asked nothing.
    pub fn of(gitlab: FakeGitlab, toml: &str) -> Self {
        Self::of_with(gitlab, toml, Vec::new())
    }

    /// The same with variables that systemd would set for the daemon.
    pub fn of_with(gitlab: FakeGitlab, toml: &str, environment: Vec<(String, String)>) -> Self {
        if !gitlab.knows(TOKEN) {
            gitlab.token(&json!({"token": TOKEN}));
        }
        let secrets = tempfile::tempdir().unwrap();
        let port = free_port();
        let settings = settings(&gitlab, secrets.path(), port, toml);
        let chain = Self { host: Host::with_environment(&settings, environment), gitlab, port, secrets };
        chain.until_looked();
        chain
    }

    /// Starts the daemon again, with other settings.
    pub fn restart(&self, toml: &str) {
        self.host.end_daemon(nix::sys::signal::Signal::SIGTERM);
        self.configure(toml);
        self.host.start_daemon();
    }

    /// Writes other settings.
    pub fn configure(&self, toml: &str) {
        self.host.configure(&settings(&self.gitlab, self.secrets.path(), self.port, toml));
    }

    /// Another token for the API.
    pub fn write_token(&self, token: &str) {
        write_secret(self.secrets.path().join("token"), token);
    }

    /// Waits until the daemon has looked at everything once.
    pub fn until_looked(&self) {
        until("everything was looked at", seconds(60), || {
            let status = self.status();
            !status["looked_at"].is_null() && status["looking"] == false
        });
    }

    /// `windlass chain` with JSON as its answer.
    pub fn json(&self, arguments: &[&str]) -> Value {
        self.host.json(&[&["chain"], arguments].concat())
    }

    /// `windlass chain` as it is.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let socket = self.host.socket().display().to_string();
        self.host.windlass(&[&["chain"], arguments, &["--socket", &socket]].concat())
    }

    /// The chain's status.
    pub fn status(&self) -> Value {
        self.json(&["status"])
    }

    /// A project's line in it; panics where there is none.
    pub fn project(&self, path: &str) -> Value {
        let status = self.status();
        let found = status["projects"].as_array().unwrap().iter().find(|project| project["path"] == path);
        found.unwrap_or_else(|| panic!("no {path} in {status}")).clone()
    }

    /// A project's state, in words.
    pub fn words(&self, path: &str) -> String {
        self.project(path)["words"].as_str().unwrap().to_owned()
    }

    /// Waits until a project's state has these words in it.
    pub fn until_words(&self, path: &str, words: &str) {
        let mut last = String::new();
        let is_so = || {
            last = self.words(path);
            last.contains(words)
        };
        let waited =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until("its state is that", seconds(30), is_so)));
        assert!(waited.is_ok(), "{path} is {last:?} and not {words:?}:\n{}", self.host.log());
    }

    /// Looks at everything.
    pub fn sync(&self) {
        self.json(&["sync"]);
    }

    /// The pipeline that the chain has started last for a project, when it has one more than `known`.
    pub fn started(&self, project: u64, known: usize) -> u64 {
        value("a pipeline is started", seconds(30), || {
            let started = self.starts(project);
            assert!(started.len() <= known + 1, "{started:?}");
            started.get(known).copied()
        })
    }

    /// The pipelines that the chain has started for a project, the first first.
    pub fn starts(&self, project: u64) -> Vec<u64> {
        let pipelines = self.gitlab.pipelines(project);
        let started = pipelines.iter().rev().filter(|pipeline| pipeline["source"] == "api");
        started.map(|pipeline| pipeline["id"].as_u64().unwrap()).collect()
    }

    /// Waits until nothing is on its way: no webhook, no event that nobody has looked at, no look.
    pub fn settle(&self) {
        self.gitlab.settle();
        until("all events are looked at", seconds(30), || {
            let events = self.json(&["events", "--count", "1000"]);
            events["events"].as_array().unwrap().iter().all(|event| !event["verdict"].is_null())
        });
    }

    /// The requests that changed something in GitLab.
    pub fn writes(&self) -> Vec<SeenRequest> {
        let is_write = |request: &SeenRequest| request.method != "GET" && !request.path.contains("graphql");
        self.gitlab.requests().into_iter().filter(is_write).collect()
    }

    /// Calls the endpoint for webhooks.
    pub fn call(&self, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        client::ask(self.port, "POST", "/hooks/gitlab", headers, body).unwrap()
    }
}

/// The settings of a daemon for the group `images`, whose secrets are in this directory, with others over them.
pub fn settings(gitlab: &FakeGitlab, secrets: &Path, port: u16, toml: &str) -> String {
    write_secret(secrets.join("token"), TOKEN);
    write_secret(secrets.join("hook"), SECRET);
    let mut settings: toml::Table = toml::from_str(&format!(
        "[gitlab]\nurl = '{}'\ntoken_file = '{}'\n[chain]\ngroups = ['images']\ninterval = '1h'\nsettle = '0s'\n[chain.watch]\nenabled = false\n\
         [webhook]\nlisten = '127.0.0.1:{port}'\nurl = 'http://127.0.0.1:{port}/hooks/gitlab'\nverify_tls = false\nsecret_file = '{}'\n",
        gitlab.url(),
        secrets.join("token").display(),
        secrets.join("hook").display(),
    ))
    .unwrap();
    super::tables::merge(&mut settings, toml::from_str(toml).expect("the test's settings are TOML"));
    toml::to_string(&settings).unwrap()
}

/// Writes a file that only its owner may read.
pub fn write_secret(path: PathBuf, text: &str) {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}
