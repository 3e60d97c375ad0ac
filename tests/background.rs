//! What a stage leaves running neither delays its end nor lives to see the next stage.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::host::SharedHost;
use support::{Image, Job, Runner, scenarios};

static HOST: SharedHost = SharedHost::new("");

#[test]
fn background_processes_are_gone_at_the_next_stage_and_files_stay() {
    scenarios::background(&HOST.get());
}

#[test]
fn a_background_process_that_runs_setuid_root_under_a_non_root_user_is_gone_at_the_next_stage() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::git().user("app"))));
    attempt.make_ready();
    let script = "suid-setpriv --reuid 0 --clear-groups sleep 1000 &\n\
                  until grep -q '^Uid:[[:space:]]0[[:space:]]0' /proc/$!/status; do sleep 0.05; done\nid -u\necho started as root\n";
    attempt.run_lines("build_script", script).wait().expect_code(0).expect_text("1234\nstarted as root");
    let left = host.processes(&attempt.lease());
    assert!(left.iter().all(|process| process.command.contains("windlass-init")), "{left:?}");
    attempt
        .run_lines("after_script", "ps ax | grep '[s]leep' || echo gone\n")
        .wait()
        .expect_code(0)
        .expect_text("gone");
    attempt.finish();
}

#[test]
fn a_stage_that_forks_without_end_is_ended_with_all_its_processes() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    // Each process lives on in another one, so that no single pass over them catches all.
    let script = "hop() { sleep 0.01; hop & }\nfor i in 1 2 3 4 5 6 7 8; do hop & done\necho started\n";
    attempt.run_lines("build_script", script).wait().expect_code(0);
    let left = host.processes(&attempt.lease());
    assert!(left.len() == 1, "only the init is left: {left:?}");
    attempt.run_lines("after_script", "echo next\n").wait().expect_code(0).expect_text("next");
    attempt.finish();
}
