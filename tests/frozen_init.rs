//! Nothing depends on the goodwill of the process that runs the stages: a job can reach it, after all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Instant;

use nix::sys::signal::Signal;
use support::host::SharedHost;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, until};

/// Grace 1 s, margin 2 s.
static HOST: SharedHost = SharedHost::new("");

fn freeze(host: &Host, lease: &str) {
    support::processes::process(host.init_pid(lease)).unwrap().signal(Signal::SIGSTOP);
}

fn container_is_dead(host: &Host, lease: &str) -> bool {
    let Some(container) = host.container(lease) else { return true };
    let output = host.podman(&["inspect", "--format", "{{.State.Running}}", &container]);
    String::from_utf8_lossy(&output.stdout).trim() != "true"
}

#[test]
fn an_init_that_freezes_in_mid_stage_is_a_system_failure_and_its_container_is_ended() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    freeze(&host, &attempt.lease());
    let since = Instant::now();
    call.wait_for(seconds(30)).expect_code(2).expect_text("init");
    assert!(since.elapsed() < seconds(12), "it took {:?}", since.elapsed());
    until("the container is ended", seconds(5), || container_is_dead(&host, &attempt.lease()));
    attempt.run_lines("after_script", "echo next\n").wait().expect_code(2);
    attempt.finish();
}

#[test]
fn an_init_that_is_frozen_when_its_stage_is_terminated_is_ended_within_grace_and_margin() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    freeze(&host, &attempt.lease());
    call.terminate();
    call.wait_for(seconds(12)).expect_code(2);
    until("the container is ended", seconds(5), || container_is_dead(&host, &attempt.lease()));
    attempt.finish();
}

#[test]
fn an_init_that_is_frozen_while_its_shim_is_killed_is_ended_too() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    freeze(&host, &attempt.lease());
    call.signal(Signal::SIGKILL, true);
    until("the container is ended", seconds(12), || container_is_dead(&host, &attempt.lease()));
    attempt.finish();
}

#[test]
fn an_init_that_is_frozen_before_a_stage_fails_the_stage() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    freeze(&host, &attempt.lease());
    attempt.run_lines("build_script", "echo ran\n").wait_for(seconds(15)).expect_code(2);
    attempt.finish();
}

#[test]
fn a_stage_stopped_by_its_own_job_is_ended_by_a_termination() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    // Process 1 cannot be stopped or killed from inside, though the job is root beside it.
    let call = attempt.run_lines(
        "build_script",
        "kill -STOP 1; kill -KILL 1; kill -HUP 1\necho started\nkill -STOP $$\nsleep 1000\n",
    );
    call.wait_for_output("started");
    call.terminate();
    let finished = call.wait_for(seconds(15));
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    attempt.finish();
}

/// The fixtures, compiled once for this test program.
static FIXTURES: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nonsense");
    std::fs::create_dir_all(&dir).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fixtures/nonsense_init.rs");
    for mode in ["deaf", "gone", "garbage", "huge", "liar"] {
        let output = Command::new("rustc")
            .args(["--edition", "2024", "-C", "target-feature=+crt-static", "--cfg", &format!("mode=\"{mode}\""), "-o"])
            .arg(dir.join(mode))
            .arg(&source)
            .output()
            .expect("rustc can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // The daemon wants it beside any init.
    support::programs::copy_program(&support::programs::Programs::built().shim("files"), &dir.join("windlass-files"));
    dir
});

fn with_init(mode: &str) -> Host {
    Host::configured(&format!("[podman]\ninit = \"{}\"", FIXTURES.join(mode).display()))
}

#[test]
fn an_init_that_never_answers_or_answers_nonsense_fails_prepare() {
    for mode in ["deaf", "gone", "garbage", "huge"] {
        let host = with_init(mode);
        let runner = Runner::new(&host);
        let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
        attempt.configure().expect_code(0);
        let finished = attempt.prepare().wait_for(seconds(40));
        finished.expect_code(2);
        assert!(!finished.text().contains('\u{1b}'), "{mode}: {}", finished.text());
        attempt.finish();
        let memory = support::processes::resident_kib(host.daemon_pid());
        assert!(memory < 96 * 1024, "{mode}: the daemon needs {memory} KiB");
    }
}

#[test]
fn an_end_of_the_stage_that_cannot_be_is_a_system_failure() {
    let host = with_init("liar");
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.configure().expect_code(0);
    attempt.prepare().wait().expect_code(0);
    attempt.run_lines("build_script", "echo ran\n").wait_for(seconds(20)).expect_code(2);
    attempt.finish();
}
