//! A daemon for the chain alone: it runs no jobs and needs no podman.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::chain::{Chain, Diamond};
use crate::support::gitlab::FakeGitlab;
use crate::support::wait::{seconds, until};
use crate::support::{Image, Job, Runner};

/// No slots, and no podman to run anything with.
const ALONE: &str = "slots = 0\n[podman]\ncommand = '/nonexistent/podman'\ninit = '/nonexistent/windlass-init'\n";

fn windlass(chain: &Chain, arguments: &[&str]) -> String {
    let socket = chain.host.socket().display().to_string();
    let output = chain.host.windlass(&[arguments, &["--socket", &socket]].concat());
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn without_slots_the_chain_runs_where_there_is_no_podman() {
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    let chain = Chain::of(gitlab, ALONE);
    until("the webhook is there", seconds(30), || chain.gitlab.hooks(diamond.base).len() == 1);
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.started(diamond.ruby, 0);
    let shown = windlass(&chain, &["status"]);
    assert!(shown.contains("this windlassd runs no jobs (slots is 0)"), "{shown}");
    let refused = windlass(&chain, &["drain"]);
    assert!(refused.contains("runs no jobs: slots is 0"), "{refused}");
    let (socket, config) = (chain.host.socket().display().to_string(), chain.host.config().display().to_string());
    let doctor = chain.host.windlass(&["doctor", "--json", "--config", &config, "--socket", &socket]);
    let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let errors = report["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "error");
    assert!(errors.clone().all(|finding| finding["subject"] == "service"), "{:#?}", errors.collect::<Vec<_>>());
    let skipped = report["findings"].as_array().unwrap().iter().filter(|finding| finding["check"] == "no-jobs");
    assert_eq!(skipped.count(), 9, "{report:#}");
    let runner = Runner::new(&chain.host);
    let attempt = runner.attempt(&Job::new("example.com/none"));
    attempt.config().wait().expect_text("this windlassd runs no jobs: slots is 0");
    chain.configure(&ALONE.replace("slots = 0", "slots = 2"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(chain.host.daemon_pid()), Signal::SIGHUP).unwrap();
    until("it is said what waits", seconds(20), || {
        windlass(&chain, &["status"]).contains("only a restart of windlassd takes over slots")
    });
}

#[test]
fn jobs_that_an_earlier_daemon_has_left_are_ended_in_order_first() {
    let gitlab = FakeGitlab::start();
    Diamond::make(&gitlab);
    let chain = Chain::of(gitlab, "");
    let image = chain.host.image(&Image::busybox());
    let runner = Runner::new(&chain.host);
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.make_ready();
    chain.restart("slots = 0\n");
    attempt.run_lines("build_script", "echo still here\n").wait().expect_code(0).expect_text("still here");
    let next = runner.attempt(&Job::new(&image));
    next.config().wait().expect_text("has no slots");
    attempt.finish();
    chain.restart(ALONE);
    assert!(windlass(&chain, &["status"]).contains("runs no jobs"));
    // What this host's podman has to prove at the end wants the real one.
    chain.restart("");
}
