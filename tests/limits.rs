//! Limits: a job that meets one says so in its log, and the host stays well.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Host, Image, Job, Runner, State, storage};

/// Whether this host can limit what a container of ours uses; says so when it can't.
fn enforced(host: &Host, controller: &str) -> bool {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let legacy = std::path::Path::new("/sys/fs/cgroup").join(controller).is_dir();
    let enforced = host.account.is_root() && (legacy || unified.split_whitespace().any(|name| name == controller));
    if !enforced {
        eprintln!("SKIPPED: this host cannot limit {controller} here");
    }
    enforced && storage::on_path("podman")
}

#[test]
fn out_of_memory_is_in_the_job_log_with_limit_and_peak() {
    let host = Host::configured("[job]\nmemory = \"64 MiB\"");
    if !enforced(&host, "memory") {
        return;
    }
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()));
    let outcome = runner.play(&job.clone().script(&["dd if=/dev/zero of=/dev/null bs=300M count=1"]));
    outcome
        .expect(State::script_failure(137))
        .expect_log("out of memory")
        .expect_log("limit 64.0 MiB")
        .expect_log("peak");
    // One that stays below the limit hears nothing of it.
    let outcome = runner.play(&job.script(&["dd if=/dev/zero of=/dev/null bs=8M count=1"]));
    outcome.expect(State::Success);
    assert!(!outcome.log().contains("out of memory"), "{}", outcome.log());
}

#[test]
fn memory_that_only_a_child_ran_out_of_is_in_the_job_log_too() {
    let host = Host::configured("[job]\nmemory = \"64 MiB\"");
    if !enforced(&host, "memory") {
        return;
    }
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()))
        .script(&["dd if=/dev/zero of=/dev/null bs=300M count=1 || echo survived"]);
    runner.play(&job).expect(State::Success).expect_log("survived").expect_log("out of memory");
}

#[test]
fn a_fork_bomb_meets_the_pids_limit() {
    let host = Host::configured("[job]\npids = 40");
    if !enforced(&host, "pids") {
        return;
    }
    let runner = Runner::new(&host);
    let image = host.image(&Image::busybox());
    // The bomb goes out by itself once all of it has met the limit; the shell may or may not meet it too.
    let bomb = Job::new(&image).script(&[
        "bomb() { bomb | bomb & }",
        "bomb",
        "i=0; while [ $i -lt 1000 ]; do /bin/true || exit 9; i=$((i + 1)); done; exit 9",
    ]);
    let outcome = runner.play(&bomb);
    assert!(
        matches!(outcome.state, State::Failed { reason: "script_failure", .. }),
        "{:?}\n{}",
        outcome.state,
        outcome.log()
    );
    outcome.expect_log("40");
    outcome.expect_log("too many processes");
    runner.play(&Job::new(&image).script(&["echo well"])).expect(State::Success).expect_log("well");
}

#[test]
fn the_job_log_ends_with_what_the_job_used() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox())).script(&["i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done"]);
    let outcome = runner.play(&job);
    outcome.expect(State::Success);
    if enforced(&host, "memory") {
        outcome.expect_log("The job used ").expect_log("of memory at its peak").expect_log("s of CPU time");
    }
}
