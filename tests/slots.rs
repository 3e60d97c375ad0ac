//! Slots bound how many jobs run at once; the next one waits and says so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::wait::seconds;
use support::{Host, Image, Job, Runner, until};

#[test]
fn of_three_jobs_on_two_slots_the_third_waits_says_so_and_runs() {
    let host = Host::configured("slots = 2");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut attempts: Vec<_> = (0..3).map(|_| runner.attempt(&Job::new(&image))).collect();
    attempts[0].make_ready();
    attempts[1].make_ready();
    let third = attempts[2].config();
    third.wait_for_output("aiting for a free slot");
    let job = attempts[2].job.id;
    until("the third job is seen waiting", seconds(5), || {
        host.lease_of_job(job).is_some_and(|lease| lease["state"] == "waiting")
    });
    assert!(third.is_running());
    let first = attempts.remove(0);
    first.finish();
    let finished = third.wait();
    finished.expect_code(0);
    let answer: serde_json::Value = serde_json::from_slice(&finished.stdout).expect("only JSON on stdout");
    let third = &mut attempts[1];
    third.job_env = vec![("WINDLASS_LEASE".into(), answer["job_env"]["WINDLASS_LEASE"].as_str().unwrap().into())];
    third.prepare().wait().expect_code(0);
    third.run_lines("build_script", "echo ran\n").wait().expect_code(0).expect_text("ran");
    for attempt in attempts {
        attempt.finish();
    }
}

#[test]
fn a_job_that_waits_too_long_for_a_slot_is_a_system_failure_that_says_so() {
    let host = Host::configured("slots = 1\nslot_wait = \"1s\"");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut first = runner.attempt(&Job::new(&image));
    first.configure().expect_code(0);
    let mut second = runner.attempt(&Job::new(&image));
    second.configure().expect_code(2).expect_text("no slot");
    second.cleanup().wait().expect_code(0);
    assert!(host.lease(&first.lease()).is_some(), "the cleanup of one job ended another");
    first.finish();
}

#[test]
fn a_job_ended_while_it_waits_for_a_slot_waits_no_more() {
    let host = Host::configured("slots = 1");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut first = runner.attempt(&Job::new(&image));
    first.configure().expect_code(0);
    let second = runner.attempt(&Job::new(&image));
    let waiting = second.config();
    waiting.wait_for_output("aiting for a free slot");
    waiting.terminate();
    let finished = waiting.wait_for(seconds(10));
    assert_ne!(finished.code, Some(0));
    until("nobody waits", seconds(5), || host.lease_of_job(second.job.id).is_none());
    second.cleanup().wait().expect_code(0);
    first.finish();
}

#[test]
fn a_project_with_all_its_slots_waits_for_itself_while_others_go_on() {
    let host = Host::configured("slots = 3\n[job]\nmax_slots = 1");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut first = runner.attempt(&Job::new(&image));
    first.configure().expect_code(0);
    let second = runner.attempt(&Job::new(&image));
    let waiting = second.config();
    waiting.wait_for_output("another job of this project");
    let waits = &host.lease_of_job(second.job.id).expect("it is listed")["waits"];
    assert!(waits["what"].as_str().unwrap().contains("1 may run at once (max_slots of "), "{waits}");
    assert!(waits["until"].is_string(), "{waits}");
    host.crash_daemon();
    let mut other = runner.attempt(&Job::new(&image).project(8, "group/other"));
    other.configure().expect_code(0);
    assert!(waiting.is_running());
    first.finish();
    waiting.wait_for(seconds(20)).expect_code(0);
    other.finish();
    second.cleanup().wait().expect_code(0);
}
