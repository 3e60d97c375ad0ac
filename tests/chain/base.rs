//! Whether what succeeded was built on the new base.

use serde_json::{Value, json};

use super::watch::{built, settings};
use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;
use crate::support::openmetrics::Figures;
use crate::support::pushed::Pushed;
use crate::support::registry::Registry;
use crate::support::wait::{seconds, until};

fn base(chain: &Chain, path: &str) -> Value {
    chain.project(path)["base"].clone()
}

fn until_base(chain: &Chain, path: &str, state: &str) -> Value {
    let mut last = Value::Null;
    let is_so = || {
        last = base(chain, path);
        last["state"] == state
    };
    let waited =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until("it is built on that", seconds(30), is_so)));
    assert!(waited.is_ok(), "{path} is {last} and not {state}:\n{}", chain.host.log());
    last
}

/// Lets the next pipeline of a project succeed, with this image pushed by it.
fn succeed(chain: &Chain, registry: &Registry, project: u64, path: &str, image: &Pushed) -> String {
    let pushed = image.push(registry, path, "latest");
    let pipeline = chain.gitlab.pipeline(project, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    pushed
}

#[test]
fn an_old_base_from_a_cache_is_seen_told_and_gone_with_the_next_build() {
    let Some(registry) = Registry::open() else { return };
    let host = format!("127.0.0.1:{}", registry.port);
    let old = Pushed::of(&["debian", "old"]).push(&registry, "bases/debian", "stable");
    let gitlab = FakeGitlab::start();
    gitlab.settings(&json!({"registry": host}));
    let ruby =
        gitlab.project("images/ruby", &[("Containerfile", &format!("FROM {host}/bases/debian:stable AS b\nFROM b\n"))]);
    let app =
        gitlab.project("images/app", &[("Containerfile", "ARG CI_REGISTRY\nFROM $CI_REGISTRY/images/ruby:latest\n")]);
    built(&gitlab, ruby);
    built(&gitlab, app);
    let chain = Chain::of(gitlab, &settings(&registry, "rebuild = false"));
    until_base(&chain, "images/ruby", "unknown");
    let first = Pushed::of(&["debian", "old", "ruby"]).built_on(&old);
    let image = succeed(&chain, &registry, ruby, "images/ruby", &first);
    until_base(&chain, "images/ruby", "new");
    // Its base moves, and its next build takes the old one from a cache.
    let new = Pushed::of(&["debian", "new"]).push(&registry, "bases/debian", "stable");
    succeed(&chain, &registry, ruby, "images/ruby", &first);
    let told = until_base(&chain, "images/ruby", "old");
    assert_eq!(Figures::of(&chain.host).get("windlass_chain_bases{base=\"old\"}"), 1.0);
    let words = told["words"].as_str().unwrap();
    assert!(
        words.contains(&format!("{} of {host}/bases/debian:stable, which is {} now", &old[7..19], &new[7..19])),
        "{words}"
    );
    let table = String::from_utf8(chain.run(&["status"]).stdout).unwrap();
    assert!(table.contains("fresh (on an old base)"), "{table}");
    let audit = chain.run(&["audit"]);
    let text = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.status.code() == Some(1) && text.contains("old-base") && text.contains("--pull=always"), "{text}");
    // It holds nobody up: who builds on it is built, on what is there.
    until("what builds on it is built", seconds(30), || !chain.starts(app).is_empty());
    // On record over a restart.
    chain.restart(&settings(&registry, "rebuild = false"));
    chain.until_looked();
    assert_eq!(base(&chain, "images/ruby")["since"], told["since"]);
    let second = Pushed::of(&["debian", "new", "ruby"]).built_on(&new);
    let newer = succeed(&chain, &registry, ruby, "images/ruby", &second);
    until_base(&chain, "images/ruby", "new");
    assert!(!String::from_utf8(chain.run(&["audit"]).stdout).unwrap().contains("old-base"));
    // Projects as bases are no different.
    succeed(&chain, &registry, app, "images/app", &Pushed::of(&["app"]).built_on(&image));
    until_base(&chain, "images/app", "old");
    succeed(&chain, &registry, app, "images/app", &Pushed::of(&["app"]).built_on(&newer));
    until_base(&chain, "images/app", "new");
}

#[test]
fn without_an_annotation_the_lowest_layers_tell() {
    let Some(registry) = Registry::open() else { return };
    let host = format!("127.0.0.1:{}", registry.port);
    Pushed::of(&["debian", "new"]).push(&registry, "bases/debian", "stable");
    let gitlab = FakeGitlab::start();
    gitlab.settings(&json!({"registry": host}));
    let ruby = gitlab.project("images/ruby", &[("Containerfile", &format!("FROM {host}/bases/debian:stable\n"))]);
    built(&gitlab, ruby);
    let chain = Chain::of(gitlab, &settings(&registry, ""));
    until_base(&chain, "images/ruby", "unknown");
    succeed(&chain, &registry, ruby, "images/ruby", &Pushed::of(&["debian", "old", "ruby"]));
    let told = until_base(&chain, "images/ruby", "old");
    assert!(told["words"].as_str().unwrap().contains("lowest layers"), "{told}");
    succeed(&chain, &registry, ruby, "images/ruby", &Pushed::of(&["debian", "new", "ruby"]));
    until_base(&chain, "images/ruby", "new");
    // Where nothing was pushed there is nothing to tell.
    let app = chain.gitlab.project("images/app", &[("Containerfile", &format!("FROM {host}/bases/debian:stable\n"))]);
    chain.sync();
    until_base(&chain, "images/app", "unknown");
    let pipeline = chain.gitlab.pipeline(app, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    until("it is looked for", seconds(30), || {
        base(&chain, "images/app")["words"].as_str().unwrap().contains("there is no image")
    });
}

/// buildah with a storage of its own.
struct Buildah(tempfile::TempDir);

impl Buildah {
    /// Builds a Containerfile and pushes what comes of it.
    fn push(&self, registry: &Registry, image: &str, containerfile: &str, how: &[&str]) {
        let context = self.0.path().join("context");
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("Containerfile"), containerfile).unwrap();
        let (image, context) = (registry.image(image), context.display().to_string());
        self.run(&[&["bud", "--tls-verify=false", "--tag", &image], how, &[&context]].concat());
        self.run(&["push", "--tls-verify=false", &image]);
    }

    /// Forgets what was built and pulled.
    fn forget(&self) {
        self.run(&["rmi", "--all", "--force"]);
    }

    fn run(&self, arguments: &[&str]) {
        let output = std::process::Command::new("buildah")
            .args(["--root", &self.0.path().join("root").display().to_string()])
            .args(["--runroot", &self.0.path().join("run").display().to_string()])
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "buildah {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn buildah_with_a_cache_builds_on_an_old_base_and_as_documented_on_the_new_one() {
    let Some(registry) = Registry::open() else { return };
    let buildah = Buildah(tempfile::tempdir().unwrap());
    let host = format!("127.0.0.1:{}", registry.port);
    let from = format!("FROM {host}/bases/own:1\nLABEL of=ruby\n");
    let gitlab = FakeGitlab::start();
    gitlab.settings(&json!({"registry": host}));
    let ruby = gitlab.project("images/ruby", &[("Containerfile", &from)]);
    built(&gitlab, ruby);
    buildah.push(&registry, "bases/own:1", "FROM scratch\nCOPY Containerfile /one\n", &[]);
    buildah.forget();
    let chain = Chain::of(gitlab, &settings(&registry, "rebuild = false"));
    until_base(&chain, "images/ruby", "unknown");
    let build = |how: &[&str]| {
        buildah.push(&registry, "images/ruby:latest", &from, how);
        let pipeline = chain.gitlab.pipeline(ruby, &json!({"driven": true}));
        chain.gitlab.bring(pipeline, "success");
    };
    build(&["--layers"]);
    until_base(&chain, "images/ruby", "new");
    // Somebody else moves the base; this storage has the old one still.
    let elsewhere = Buildah(tempfile::tempdir().unwrap());
    elsewhere.push(&registry, "bases/own:1", "FROM scratch\nCOPY Containerfile /two\n", &[]);
    build(&["--layers", "--pull=false"]);
    until_base(&chain, "images/ruby", "old");
    build(&["--pull=always", "--no-cache"]);
    until_base(&chain, "images/ruby", "new");
    buildah.forget();
    elsewhere.forget();
}
