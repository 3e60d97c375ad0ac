//! `[job] exec = "podman"`, for hosts whose policy denies the container's init: the same has to hold.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::host::SharedHost;
use support::scenarios;

static HOST: SharedHost = SharedHost::new("[job]\nexec = \"podman\"");

#[test]
fn exit_codes_are_the_jobs_own() {
    scenarios::exit_codes(&HOST.get());
}

#[test]
fn whole_jobs_are_green_or_red_with_their_code() {
    scenarios::whole_jobs(&HOST.get());
}

#[test]
fn output_arrives_byte_by_byte_and_stdin_is_empty() {
    scenarios::streams(&HOST.get());
}

#[test]
fn a_user_without_privileges_may_write_to_the_device_files_of_its_output() {
    scenarios::device_files_of_a_user(&HOST.get());
}

#[test]
fn background_processes_are_gone_at_the_next_stage() {
    scenarios::background(&HOST.get());
}

#[test]
fn sigterm_ends_every_process() {
    scenarios::termination(&HOST.get());
}

#[test]
fn a_shim_killed_with_9_ends_its_stage() {
    scenarios::shim_killed(&HOST.get());
}

#[test]
fn a_stage_survives_the_daemon() {
    scenarios::restart_in_mid_stage(&support::Host::configured("[job]\nexec = \"podman\""));
}

#[test]
fn a_runner_that_is_killed_leaves_nothing() {
    scenarios::runner_killed(&support::Host::configured("[job]\nexec = \"podman\""));
}
