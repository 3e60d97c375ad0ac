//! The script's exit code is the job's own; everything else is a system failure.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::host::SharedHost;
use support::{Image, Job, Runner, State, scenarios};

static HOST: SharedHost = SharedHost::new("");

#[test]
fn every_exit_code_and_a_death_by_signal_arrive_as_the_jobs_own() {
    scenarios::exit_codes(&HOST.get());
}

#[test]
fn whole_jobs_are_green_or_red_with_their_code() {
    scenarios::whole_jobs(&HOST.get());
}

#[test]
fn an_exit_code_left_in_the_file_is_never_reported_again() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    std::fs::write(attempt.exit_code_file(), "42").unwrap();
    attempt.run_lines("build_script", "exit 1\n").wait().expect_code(1);
    assert_eq!(std::fs::read_to_string(attempt.exit_code_file()).unwrap(), "1");
    attempt.run_lines("after_script", "exit 0\n").wait().expect_code(0);
    assert!(!attempt.exit_code_file().exists(), "gitlab-runner would report it for a later stage");
    std::fs::write(attempt.exit_code_file(), "42").unwrap();
    assert!(host.podman(&["kill", &host.container(&attempt.lease()).unwrap()]).status.success());
    attempt.run_lines("build_script", "exit 3\n").wait().expect_code(2);
    assert!(!attempt.exit_code_file().exists());
    attempt.finish();
}

#[test]
fn a_container_that_vanishes_in_mid_stage_is_a_system_failure() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    assert!(host.podman(&["kill", &host.container(&attempt.lease()).unwrap()]).status.success());
    let finished = call.wait();
    finished.expect_code(2).expect_text("container");
    attempt.finish();
}

#[test]
fn a_job_that_times_out_is_ended_and_cleaned_up() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let job =
        Job::new(&host.image(&Image::busybox())).script(&["echo started", "sleep 1000"]).after_script(&["echo after"]);
    let outcome = runner.play(&job.timeout(support::wait::seconds(4)));
    outcome.expect(State::Failed { reason: "job_execution_timeout", exit_code: None }).expect_log("started");
    assert_eq!(outcome.names().last(), Some(&"cleanup"));
}

#[test]
fn a_canceled_job_runs_its_trap_and_then_after_script() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()))
        .script(&["trap 'echo trap ran; exit 1' TERM", "echo begun", "while :; do sleep 0.1; done"])
        .after_script(&["echo after ran", "ps | grep '[s]leep' || echo nothing left"])
        .cancel_when("\nbegun");
    let outcome = runner.play(&job);
    outcome.expect_log("trap ran").expect_log("after ran").expect_log("nothing left");
    assert_ne!(outcome.state, State::Success);
}
