//! Calls that gitlab-runner would not make, or not in this order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::process::{Command, Stdio};

use support::host::SharedHost;
use support::{Image, Job, Runner};

static HOST: SharedHost = SharedHost::new("");

#[test]
fn run_before_prepare_is_a_system_failure_that_says_so() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.configure().expect_code(0);
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(2).expect_text("not prepared");
    attempt.prepare().wait().expect_code(0);
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(0);
    attempt.finish();
}

#[test]
fn a_second_prepare_of_one_lease_is_refused_and_the_first_stands() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    attempt.prepare().wait().expect_code(2).expect_text("prepared already");
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(0);
    attempt.finish();
}

#[test]
fn of_two_prepares_at_once_one_makes_the_container() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.configure().expect_code(0);
    let (one, other) = (attempt.prepare(), attempt.prepare());
    let mut codes = [one.wait().code, other.wait().code];
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(2)]);
    assert_eq!(host.containers(&format!("io.windlass.lease={}", &attempt.lease()[..12])).len(), 1);
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(0);
    attempt.finish();
}

#[test]
fn cleanup_may_come_twice_without_prepare_and_without_config() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let image = host.image(&Image::busybox());
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.make_ready();
    attempt.cleanup().wait().expect_code(0);
    attempt.finish();
    let mut unprepared = runner.attempt(&Job::new(&image));
    unprepared.configure().expect_code(0);
    unprepared.finish();
    runner.attempt(&Job::new(&image)).cleanup().wait().expect_code(0);
}

#[test]
fn a_cleanup_ends_the_lease_of_its_own_job_only() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let image = host.image(&Image::busybox());
    let mut kept = runner.attempt(&Job::new(&image));
    kept.make_ready();
    runner.attempt(&Job::new(&image)).cleanup().wait().expect_code(0);
    kept.run_lines("build_script", "echo ran\n").wait().expect_code(0);
    kept.finish();
}

#[test]
fn an_unknown_lease_is_refused_and_its_cleanup_is_done_already() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    for lease in ["0".repeat(32), "../../../../etc".into(), String::new(), "x".repeat(4000)] {
        attempt.job_env = vec![("WINDLASS_LEASE".into(), lease)];
        for call in [attempt.prepare(), attempt.run_lines("build_script", "echo ran\n")] {
            let finished = call.wait();
            finished.expect_code(2);
            assert!(finished.text().to_lowercase().contains("lease"), "{}", finished.text());
        }
        attempt.cleanup().wait().expect_code(0);
    }
}

#[test]
fn a_lease_that_has_ended_runs_nothing_more() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    attempt.cleanup().wait().expect_code(0);
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(2);
    attempt.prepare().wait().expect_code(2);
    attempt.finish();
}

#[test]
fn another_attempt_at_a_job_ends_what_the_one_before_left() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()));
    let mut first = runner.attempt(&job);
    first.make_ready();
    let mut second = runner.attempt(&job);
    second.make_ready();
    host.wait_until_gone(&first.lease());
    second.run_lines("build_script", "echo ran\n").wait().expect_code(0);
    second.finish();
}

#[test]
fn a_cleanup_in_mid_stage_ends_the_stage() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    attempt.cleanup().wait().expect_code(0);
    call.wait().expect_code(2);
    attempt.finish();
}

#[test]
fn bad_arguments_are_system_failures_whatever_the_codes_are() {
    let host = HOST.get();
    let call = |shim: &str, arguments: &[&str]| {
        let mut command = Command::new(host.programs.shim(shim));
        command.env_clear().env("SYSTEM_FAILURE_EXIT_CODE", "77").env("BUILD_FAILURE_EXIT_CODE", "66");
        let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{shim} {arguments:?} says nothing");
        output.status.code()
    };
    let socket = host.socket().display().to_string();
    for shim in ["config", "prepare", "run", "cleanup"] {
        for arguments in
            [&["--bogus"][..], &["--socket"], &["--profile"], &["--socket", &socket, "too", "many", "words"]]
        {
            assert_eq!(call(shim, arguments), Some(77), "{shim} {arguments:?}");
        }
    }
    assert_eq!(call("run", &["--socket", &socket]), Some(77));
    assert_eq!(call("run", &["--socket", &socket, "/nonexistent/script", "build_script"]), Some(77));
    assert_eq!(call("prepare", &["--socket", &socket]), Some(77));
    assert_eq!(call("config", &["--socket", &socket]), Some(77), "without JOB_RESPONSE_FILE");
}

#[test]
fn two_stages_of_one_job_do_not_run_at_once() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let first = attempt.run_lines(
        "build_script",
        "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\necho first > /builds/order\n",
    );
    first.wait_for_output("started");
    let second = attempt.run_lines("after_script", "cat /builds/order\n");
    second.pid();
    let container = host.container(&attempt.lease()).unwrap();
    assert!(host.podman(&["exec", &container, "touch", "/builds/go"]).status.success());
    first.wait().expect_code(0);
    // It was either refused or ran after the first.
    let second = second.wait();
    assert!(second.code == Some(2) || second.text() == "first\n", "{second:?}");
    attempt.finish();
}
