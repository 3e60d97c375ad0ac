//! The daemon may be killed and started again at any moment without a running job noticing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use nix::sys::signal::Signal;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, scenarios, until};

#[test]
fn a_stage_goes_on_while_the_daemon_is_killed_and_started_again() {
    scenarios::restart_in_mid_stage(&Host::start());
}

#[test]
fn the_daemon_may_be_killed_between_any_two_calls() {
    const STAGES: [&str; 5] =
        ["prepare_script", "get_sources", "build_script", "after_script", "cleanup_file_variables"];
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let calls = 3 + STAGES.len();
    for crash in 0..calls {
        let mut attempt = runner.attempt(&Job::new(&image).script(&["echo kept > f"]).after_script(&["cat f"]));
        let mut number = 0;
        let mut crash_before = || {
            if number == crash {
                host.crash_daemon();
            }
            number += 1;
        };
        crash_before();
        attempt.configure().expect_code(0);
        crash_before();
        attempt.prepare().wait().expect_code(0);
        for stage in STAGES {
            crash_before();
            attempt.run(stage).wait().expect_code(0);
        }
        crash_before();
        attempt.finish();
    }
}

#[test]
fn calls_wait_for_a_daemon_that_is_away() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    host.end_daemon(Signal::SIGKILL);
    let call = attempt.run_lines("build_script", "echo ran\n");
    call.wait_for_output("aiting for windlassd");
    host.start_daemon();
    call.wait().expect_code(0).expect_text("ran");
    attempt.finish();
}

#[test]
fn a_daemon_that_stays_away_is_a_system_failure_that_says_so() {
    let host = Host::configured("[socket]\ndaemon_wait = \"1s\"");
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    host.end_daemon(Signal::SIGKILL);
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(2).expect_text("windlassd");
    host.start_daemon();
    attempt.finish();
}

#[test]
fn sigterm_ends_the_daemon_and_leaves_its_jobs_alone() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call =
        attempt.run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\necho whole\n");
    call.wait_for_output("started");
    assert_eq!(host.end_daemon(Signal::SIGTERM), Some(0), "an orderly end is a success");
    assert!(call.is_running());
    let container = host.container(&attempt.lease()).unwrap();
    assert!(host.podman(&["exec", &container, "touch", "/builds/go"]).status.success());
    // The stage ends while nobody is there to be told.
    call.wait().expect_code(0).expect_text("whole");
    host.start_daemon();
    attempt.run_lines("after_script", "echo next\n").wait().expect_code(0);
    attempt.finish();
}

#[test]
fn a_daemon_killed_while_it_makes_a_container_leaves_none_behind() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    for _ in 0..3 {
        let mut attempt = runner.attempt(&Job::new(&image));
        attempt.configure().expect_code(0);
        let lease = attempt.lease();
        let call = attempt.prepare();
        until("prepare is under way", seconds(10), || {
            !call.is_running() || host.lease(&lease).is_some_and(|lease| lease["state"] != "leased")
        });
        host.crash_daemon();
        let finished = call.wait();
        assert!(matches!(finished.code, Some(0 | 2)), "{finished:?}");
        if finished.code == Some(0) {
            attempt.run_lines("build_script", "echo ran\n").wait().expect_code(0);
        }
        attempt.finish();
    }
}

#[test]
fn a_shim_that_died_while_the_daemon_was_away_does_not_keep_its_stage() {
    let host = Host::configured("[socket]\ndaemon_wait = \"1s\"");
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    host.end_daemon(Signal::SIGKILL);
    call.signal(Signal::SIGKILL, true);
    call.wait();
    host.start_daemon();
    attempt
        .run_lines("after_script", "ps | grep '[s]leep' || echo gone\n")
        .wait_for(seconds(30))
        .expect_code(0)
        .expect_text("gone");
    attempt.finish();
}
