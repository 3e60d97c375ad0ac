//! Leases that nobody cleans up are cleaned up by the daemon.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use nix::sys::signal::Signal;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, scenarios, until};

#[test]
fn nothing_is_left_ten_seconds_after_the_runner_was_killed_in_mid_stage() {
    scenarios::runner_killed(&Host::start());
}

#[test]
fn nothing_is_left_ten_seconds_after_the_runner_was_killed_between_two_calls() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let mut leased = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    leased.configure().expect_code(0);
    let mut ready = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    ready.make_ready();
    runner.kill();
    for lease in [leased.lease(), ready.lease()] {
        until("nothing is left of the job", seconds(10), || {
            host.lease(&lease).is_none() && host.container(&lease).is_none()
        });
    }
}

#[test]
fn a_runner_that_was_killed_while_the_daemon_was_away_is_noticed_by_the_next_one() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let lease = attempt.lease();
    host.end_daemon(Signal::SIGKILL);
    runner.kill();
    host.start_daemon();
    until("nothing is left of the job", seconds(10), || {
        host.lease(&lease).is_none() && host.container(&lease).is_none()
    });
}

#[test]
fn a_job_past_its_timeout_and_margin_that_nobody_cleans_up_is_reaped() {
    let host = Host::configured("[job]\ntimeout_margin = \"1s\"");
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())).timeout(seconds(3)));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    let finished = call.wait_for(seconds(20));
    finished.expect_code(2).expect_text("timeout");
    host.wait_until_gone(&attempt.lease());
}

#[test]
fn containers_of_no_lease_are_removed_at_the_start_and_those_of_others_are_not() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let run_dir = host.run_dir().display().to_string();
    // Containers inherit labels from their image, so a label alone makes none of them the daemon's.
    let create = |daemon: &str, name: &str| {
        let label = format!("io.windlass.daemon={daemon}");
        let name = name.replace("ID", &format!("{:012x}", std::process::id()));
        let output = host.podman(&[
            "create",
            "--name",
            &name,
            "--network=none",
            "--label",
            &label,
            "--label",
            "io.windlass.lease=0123456789ab",
            &image,
            "true",
        ]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let orphan = create(&run_dir, "windlass-ID-job");
    let foreign = create(&format!("{run_dir}-of-another"), "windlass-ID-job-2");
    let labelled = create(&run_dir, "somebody-elses-ID");
    host.crash_daemon();
    let exists = |id: &str| host.podman(&["container", "exists", id]).status.success();
    until("the orphan is gone", seconds(20), || !exists(&orphan));
    assert!(exists(&foreign), "a container of another daemon was removed");
    assert!(exists(&labelled), "a container that only carries our label was removed");
    host.podman(&["rm", "--force", &foreign, &labelled]);
}

#[test]
fn a_lease_that_config_was_killed_over_is_given_back() {
    let host = Host::configured("slots = 1");
    let runner = Runner::new(&host);
    let image = host.image(&Image::busybox());
    let mut first = runner.attempt(&Job::new(&image));
    first.configure().expect_code(0);
    let second = runner.attempt(&Job::new(&image));
    let waiting = second.config();
    waiting.wait_for_output("aiting for a free slot");
    waiting.signal(Signal::SIGKILL, true);
    waiting.wait();
    first.finish();
    until("no slot is taken", seconds(10), || {
        let status = host.status();
        status["leases"].as_array().unwrap().is_empty() && status["slots"][0]["lease"].is_null()
    });
    second.cleanup().wait().expect_code(0);
}
