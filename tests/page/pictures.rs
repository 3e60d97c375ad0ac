//! The pictures of the README and docs/watching.md, from a chain that is being rebuilt and a host with jobs; see scripts/screenshots.sh.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::past::{self, Disk};
use crate::support::attempt::Attempt;
use crate::support::browser::Browser;
use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::wait::{seconds, value};
use crate::support::{Host, Image, Job, Runner, until};

/// A desktop's window, and a phone's.
const DESKTOP: (u32, u32) = (1240, 780);
const PHONE: (u32, u32) = (390, 760);
/// The images of the jobs that run.
const IMAGES: [&str; 4] = ["ruby:3.3", "node:22", "buildah:1", "docs:2"];

/// What builds on what.
const PROJECTS: [(&str, &[&str]); 12] = [
    ("base", &[]),
    ("ruby", &["base"]),
    ("node", &["base"]),
    ("go", &["base"]),
    ("rails", &["ruby"]),
    ("app", &["ruby", "node"]),
    ("assets", &["node"]),
    ("docs", &["node"]),
    ("proxy", &["go"]),
    ("metrics", &["go"]),
    ("shop", &["rails"]),
    ("jobs", &["rails"]),
];

#[test]
#[ignore = "makes files; scripts/screenshots.sh runs it"]
fn the_pictures_of_the_readme() {
    let Some(into) = std::env::var_os("WINDLASS_SCREENSHOTS").map(PathBuf::from) else {
        panic!("WINDLASS_SCREENSHOTS says where they go: run scripts/screenshots.sh");
    };
    let page = PageAt(free_port());
    let settings = format!(
        "slots = 4\n{}doctor_interval = '2s'\n[socket]\nallowed_users = ['nobody']\n[job]\nmemory = '512 MiB'\ncpus = 2\nshm_size = '400 MiB'\n",
        page.settings()
    );
    let chain = rebuilding(&settings);
    let host = &chain.host;
    host.end_daemon(nix::sys::signal::Signal::SIGTERM);
    past::keep(
        host,
        &[
            (7, "shop/backend", [412, 1_640, 0]),
            (8, "shop/frontend", [388, 2_910, 0]),
            (9, "images/rails", [3, 0, 6_450]),
            (11, "images/ruby", [2, 0, 3_120]),
            (14, "shop/mobile", [1_205, 870, 0]),
            (17, "docs/handbook", [96, 44, 0]),
        ],
    );
    host.start_daemon();
    chain.until_looked();
    let image = host.image(&Image::busybox());
    let named = IMAGES.map(|name| format!("registry.example.com/images/{name}"));
    for name in &named {
        assert!(host.podman(&["tag", &image, name]).status.success());
    }
    let runner = Runner::new(host);
    let jobs = [
        (7, "shop/backend", 190, 70),
        (8, "shop/frontend", 310, 160),
        (9, "images/rails", 84, 25),
        (17, "docs/handbook", 41, 10),
    ];
    let mut attempts: Vec<Attempt<'_>> = jobs
        .iter()
        .zip(&named)
        .map(|((id, path, ..), image)| runner.attempt(&Job::new(image).project(*id, path)))
        .collect();
    let stages: Vec<_> = attempts
        .iter_mut()
        .zip(jobs)
        .map(|(attempt, (_, _, mib, busy))| {
            attempt.make_ready();
            let stage = attempt.run_lines("build_script", &work(mib, busy));
            stage.wait_for_output("begun");
            stage
        })
        .collect();
    let next = runner.attempt(&Job::new(&named[0]).project(14, "shop/mobile"));
    let waiting = next.config();
    let browser = Browser::start();
    let take = |path: &str, size: (u32, u32), dark: bool, name: &str, ready: &dyn Fn() -> bool| {
        browser.size_of_picture(size);
        browser.dark(dark);
        browser.open(&page.url(path));
        browser.until_live();
        until(&format!("{path} shows everything"), seconds(60), ready);
        // A part that comes in between brings the old names back.
        until("a picture without this run's directories", seconds(60), || {
            rename(&browser, host);
            browser.picture(&into.join(name));
            !browser.text("main").contains(&host.dir().display().to_string())
        });
    };
    let jobs_are_seen =
        || browser.text("#slots").matches("CPUs").count() == 4 && browser.text("#summary").contains("warn");
    let chain_is_seen = || browser.text("#projects").contains("blocked by images/node");
    take("/", DESKTOP, false, "now.png", &jobs_are_seen);
    take("/", PHONE, true, "now-phone.png", &jobs_are_seen);
    take("/chain", DESKTOP, true, "chain.png", &chain_is_seen);
    take("/chain", PHONE, false, "chain-phone.png", &chain_is_seen);
    record_past(page, host);
    host.crash_daemon();
    let days_are_seen = || browser.count("svg.plot") >= 2;
    take("/jobs", DESKTOP, false, "jobs.png", &days_are_seen);
    take("/disk", DESKTOP, true, "disk.png", &|| browser.count("svg.plot") >= 1);
    set_mode(host, 0o600);
    take("/", (1240, 560), false, "doctor.png", &|| browser.text("#doctor").contains("can't connect"));
    set_mode(host, 0o666);
    waiting.terminate();
    waiting.wait_for(seconds(10));
    next.cleanup().wait().expect_code(0);
    for (attempt, stage) in attempts.into_iter().zip(stages) {
        let container = host.container(&attempt.lease()).unwrap();
        assert!(host.podman(&["exec", &container, "touch", "/tmp/end"]).status.success());
        stage.wait().expect_code(0);
        attempt.finish();
    }
    named.iter().for_each(|name| drop(host.podman(&["untag", &image, name])));
}

/// A chain in the middle of a rebuild that began half an hour ago: one link has failed, and what builds on it is blocked.
fn rebuilding(settings: &str) -> Chain {
    let gitlab = FakeGitlab::start();
    let ago = |minutes: i64| Timestamp::now() - SignedDuration::from_mins(minutes);
    let mut ids = std::collections::BTreeMap::new();
    for (number, (name, on)) in (0..).zip(PROJECTS) {
        let on: String = on.iter().map(|name| format!("images/{name}\n")).collect();
        let files = match on.is_empty() {
            true => vec![("Containerfile", "FROM docker.io/library/debian:stable\n".to_owned())],
            false => vec![(".gitlab-deps", on)],
        };
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let project = gitlab.project(&format!("images/{name}"), &files);
        let began = 3 * 24 * 60 - number * 7;
        let (created_at, finished_at) = (ago(began).to_string(), ago(began - 6).to_string());
        gitlab.pipeline(
            project,
            &json!({"to": "success", "quiet": true, "created_at": created_at, "finished_at": finished_at}),
        );
        ids.insert(name, project);
    }
    let back = |minutes: i64| gitlab.set_clock_ahead(-minutes * 60_000);
    back(31);
    let chain = Chain::of(gitlab, settings);
    let gitlab = &chain.gitlab;
    let back = |minutes: i64| gitlab.set_clock_ahead(-minutes * 60_000);
    let end = |pipeline: u64, minutes: i64, status: &str| {
        back(minutes);
        gitlab.bring(pipeline, status);
    };
    let base = gitlab.pipeline(ids["base"], &json!({"driven": true}));
    end(base, 26, "success");
    let [ruby, node, go] = ["ruby", "node", "go"].map(|name| started(&chain, ids[name]));
    for pipeline in [ruby, node, go] {
        gitlab.bring(pipeline, "running");
    }
    end(go, 21, "success");
    let [proxy, metrics] = ["proxy", "metrics"].map(|name| started(&chain, ids[name]));
    gitlab.bring(proxy, "running");
    gitlab.bring(metrics, "running");
    end(node, 18, "failed");
    end(proxy, 17, "success");
    end(metrics, 14, "success");
    end(ruby, 11, "success");
    let rails = started(&chain, ids["rails"]);
    gitlab.bring(rails, "running");
    end(rails, 3, "success");
    let shop = started(&chain, ids["shop"]);
    gitlab.bring(shop, "running");
    let jobs = started(&chain, ids["jobs"]);
    gitlab.bring(jobs, "running");
    back(0);
    chain.until_words("images/docs", "blocked by");
    chain
}

/// The pipeline that the chain has started for a project. A clock that jumps has it look twice before it starts anything.
fn started(chain: &Chain, project: u64) -> u64 {
    value("a pipeline is started", seconds(120), || chain.starts(project).first().copied())
}

/// A script that uses so much memory and CPU until it is told to end.
fn work(mib: u32, busy: u32) -> String {
    format!(
        "dd if=/dev/zero of=/dev/shm/memory bs=1M count={mib} 2>/dev/null\necho begun\n\
         while ! test -e /tmp/end; do i=0; while [ $i -lt {busy}000 ]; do i=$((i+1)); done; sleep 0.05; done\n"
    )
}

/// What doctor calls an error: who may connect to the daemon's socket.
fn set_mode(host: &Host, mode: u32) {
    fs::set_permissions(host.socket(), Permissions::from_mode(mode)).unwrap();
}

/// Two weeks of a busy host, on the disks of this one.
pub fn record_past(page: PageAt, host: &Host) {
    let disk = page.api("disk");
    let of = |disk: &serde_json::Value| Disk {
        path: disk["path"].as_str().unwrap().to_owned(),
        bytes: disk["bytes"].as_i64().unwrap(),
        free: disk["free_bytes"].as_i64().unwrap(),
    };
    let disks: Vec<Disk> = disk["file_systems"].as_array().unwrap().iter().map(of).collect();
    past::record(host, &disks);
}

/// Calls the directories of this run as those of an installed daemon are called.
fn rename(browser: &Browser, host: &Host) {
    let storage = host.storage.runtime_dir();
    let names = serde_json::json!([
        [host.run_dir(), "/run/windlass"],
        [host.state_dir(), "/var/lib/windlass"],
        [storage.parent().unwrap(), "/var/lib/windlass"],
    ]);
    browser.run(&format!(
        "const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);\
         while (walk.nextNode()) for (const [from, to] of {names})\
         {{ if (walk.currentNode.data.includes(from)) walk.currentNode.data = walk.currentNode.data.replaceAll(from, to); }}"
    ));
}
