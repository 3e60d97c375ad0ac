//! SIGTERM ends a stage politely and then by force; so does the death of its shim.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use nix::sys::signal::Signal;
use support::host::SharedHost;
use support::wait::seconds;
use support::{Image, Job, Runner, scenarios};

static HOST: SharedHost = SharedHost::new("");

#[test]
fn every_process_gets_sigterm_and_the_rest_is_killed_after_the_grace() {
    scenarios::termination(&HOST.get());
}

#[test]
fn a_shim_killed_with_9_has_the_same_effect_on_the_container() {
    scenarios::shim_killed(&HOST.get());
}

#[test]
fn a_process_with_another_user_gets_sigterm_too() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::git().user("app"))));
    attempt.make_ready();
    let script = "trap 'exit 1' TERM\nsuid-setpriv --reuid 0 --clear-groups bash -c 'trap \"echo root ran; exit\" TERM; echo root waits; while :; do sleep 0.1; done' &\n\
                  while :; do sleep 0.1; done\n";
    let call = attempt.run_lines("build_script", script);
    call.wait_for_output("root waits");
    call.terminate();
    let finished = call.wait_for(seconds(15));
    assert_ne!(finished.code, Some(0));
    finished.expect_text("root ran");
    attempt.finish();
}

#[test]
fn sigterm_while_the_container_is_made_ends_prepare_and_leaves_nothing() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.configure().expect_code(0);
    let call = attempt.prepare();
    call.pid();
    call.terminate();
    let finished = call.wait_for(seconds(15));
    // It may have been done already when the signal came.
    assert!(finished.signal.is_some() || finished.code.is_some(), "{finished:?}");
    attempt.finish();
}

#[test]
fn a_stage_whose_shim_alone_gets_sigterm_is_ended() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    call.signal(Signal::SIGTERM, false);
    let finished = call.wait_for(seconds(15));
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    attempt.finish();
}
