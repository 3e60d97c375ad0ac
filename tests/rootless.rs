//! Under a user without privileges, as most hosts run it: the same has to hold.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::{Host, Image, Job, Runner, scenarios};

#[test]
fn jobs_run_and_end_as_they_do_rootful() {
    let Some(host) = Host::rootless("") else { return };
    scenarios::whole_jobs(&host);
    scenarios::exit_codes(&host);
    scenarios::streams(&host);
    scenarios::device_files_of_a_user(&host);
    scenarios::background(&host);
    scenarios::termination(&host);
    scenarios::shim_killed(&host);
    scenarios::restart_in_mid_stage(&host);
    scenarios::runner_killed(&host);
}

#[test]
fn the_root_of_a_container_is_not_the_user_that_runs_it() {
    let Some(host) = Host::rootless("") else { return };
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "id -u\necho started\nuntil [ -e /builds/go ]; do sleep 0.05; done\n");
    call.wait_for_output("started");
    let processes = host.processes(&attempt.lease());
    assert!(processes.len() > 1, "{processes:?}");
    let own = host.account.uid().as_raw().to_string();
    for process in &processes {
        let uids = process.status("Uid").unwrap();
        assert!(uids.split_whitespace().all(|uid| uid != own), "{} runs as {uids}", process.command);
    }
    call.terminate();
    call.wait();
    attempt.finish();
}

#[test]
fn podman_exec_does_as_well() {
    let Some(host) = Host::rootless("[job]\nexec = \"podman\"") else { return };
    scenarios::whole_jobs(&host);
    scenarios::exit_codes(&host);
    scenarios::streams(&host);
    scenarios::background(&host);
    scenarios::termination(&host);
    scenarios::restart_in_mid_stage(&host);
}
