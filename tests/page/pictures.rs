//! The pictures of the README, from a chain that is being rebuilt; see scripts/screenshots.sh.

use std::path::PathBuf;

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::chain::{Chain, Diamond};
use crate::support::gitlab::FakeGitlab;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::wait::seconds;
use crate::support::{Image, Job, Runner, until};

#[test]
#[ignore = "makes files; scripts/screenshots.sh runs it"]
fn the_pictures_of_the_readme() {
    let Some(into) = std::env::var_os("WINDLASS_SCREENSHOTS").map(PathBuf::from) else {
        panic!("WINDLASS_SCREENSHOTS says where they go: run scripts/screenshots.sh");
    };
    let page = PageAt(free_port());
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    for (name, on) in [
        ("go", "base"),
        ("rails", "ruby"),
        ("jobs", "rails"),
        ("shop", "rails"),
        ("assets", "node"),
        ("docs", "node"),
        ("proxy", "go"),
    ] {
        let project = gitlab.project(&format!("images/{name}"), &[(".gitlab-deps", &format!("images/{on}\n"))]);
        let times = json!({"to": "success", "quiet": true, "created_at": "2026-05-12T15:20:00.000Z", "finished_at": "2026-05-12T15:26:29.000Z"});
        gitlab.pipeline(project, &times);
    }
    let chain = Chain::of(gitlab, &format!("slots = 4\n{}[job]\nmemory = '256 MiB'\n", page.settings()));
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let (ruby, node) = (chain.started(diamond.ruby, 0), chain.started(diamond.node, 0));
    chain.gitlab.bring(node, "failed");
    chain.gitlab.bring(ruby, "running");
    chain.until_words("images/docs", "blocked by");
    let image = chain.host.image(&Image::busybox());
    let runner = Runner::new(&chain.host);
    let mut attempts: Vec<_> = [(7, "shop/backend"), (8, "shop/frontend"), (9, "images/ruby")]
        .into_iter()
        .map(|(id, path)| runner.attempt(&Job::new(&image).project(id, path)))
        .collect();
    let stages: Vec<_> = attempts
        .iter_mut()
        .map(|attempt| {
            attempt.make_ready();
            let stage = attempt.run_lines("build_script", "echo begun\nwhile ! test -e /tmp/end; do sleep 0.1; done\n");
            stage.wait_for_output("begun");
            stage
        })
        .collect();
    let browser = Browser::start();
    browser.size((1100, 720));
    browser.open(&page.url("/"));
    browser.until_live();
    until("all that is used is known", seconds(30), || browser.text("#slots").matches("CPUs").count() == 3);
    browser.picture(&into.join("now.png"));
    browser.dark(true);
    browser.open(&page.url("/chain"));
    browser.until_live();
    browser.until_text("#projects", "blocked by images/node");
    browser.picture(&into.join("chain.png"));
    for (attempt, stage) in attempts.into_iter().zip(stages) {
        let container = chain.host.container(&attempt.lease()).unwrap();
        assert!(chain.host.podman(&["exec", &container, "touch", "/tmp/end"]).status.success());
        stage.wait().expect_code(0);
        attempt.finish();
    }
}
