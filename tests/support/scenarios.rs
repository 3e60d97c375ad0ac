//! What has to hold however stages are run: through the container's init, by `podman exec`, rootful and rootless.

use std::fs;

use nix::sys::signal::Signal;

use super::attempt::Runner;
use super::driver::State;
use super::host::Host;
use super::images::Image;
use super::job::Job;
use super::wait::{seconds, until};

/// Exit codes that tell the job's end from podman's, the shell's and the system's only when nobody mixes them up.
const CODES: [i32; 9] = [1, 2, 3, 42, 125, 126, 127, 137, 255];

/// Every exit code of a script, and a death by signal, is the job's own.
pub fn exit_codes(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    attempt.run_lines("build_script", "exit 0\n").wait().expect_code(0);
    assert!(!attempt.exit_code_file().exists(), "a stage that succeeds leaves no exit code");
    for code in CODES {
        attempt.run_lines("build_script", &format!("exit {code}\n")).wait().expect_code(1);
        assert_eq!(fs::read_to_string(attempt.exit_code_file()).unwrap(), code.to_string());
    }
    // The shell itself, and a command of the script.
    attempt.run_raw("build_script", b"kill -KILL $$\n").wait().expect_code(1);
    assert_eq!(fs::read_to_string(attempt.exit_code_file()).unwrap(), "137");
    attempt.run_lines("build_script", "sh -c 'kill -SEGV $$'\n").wait().expect_code(1);
    assert_eq!(fs::read_to_string(attempt.exit_code_file()).unwrap(), "139");
    attempt.finish();
}

/// A whole job is green, its stages in order; one that fails is red with its code, and after_script runs.
pub fn whole_jobs(host: &Host) {
    let image = host.image(&Image::busybox());
    let runner = Runner::new(host);
    let green =
        runner.play(&Job::new(&image).script(&["echo hello > f", "cat f"]).after_script(&["cat f", "echo after"]));
    green.expect(State::Success).expect_log("hello").expect_log("after");
    assert_eq!(
        green.names(),
        [
            "config",
            "prepare",
            "prepare_script",
            "get_sources",
            "build_script",
            "after_script",
            "cleanup_file_variables",
            "cleanup"
        ]
    );
    let red = runner
        .play(&Job::new(&image).script(&["echo before", "(exit 42)", "echo never"]).after_script(&["echo after"]));
    red.expect(State::script_failure(42)).expect_log("before").expect_log("after");
    assert!(!red.call("build_script").text().contains("\nnever"), "{}", red.log());
}

/// stdout and stderr arrive apart, byte by byte, and stdin is empty.
pub fn streams(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let all: Vec<u8> = (0..=255).collect();
    let octal: String = all.iter().map(|byte| format!("\\{byte:03o}")).collect();
    let finished = attempt.run_lines("build_script", &format!("printf '{octal}'\necho error >&2\nprintf end\n")).wait();
    finished.expect_code(0);
    assert_eq!(finished.stdout, [&all[..], b"end"].concat(), "binary, and no newline at its end");
    assert_eq!(String::from_utf8_lossy(&finished.stderr), "error\n");
    let finished = attempt
        .run_lines("build_script", "wc -c\nif read line; then echo \"got $line\"; else echo nothing; fi\n")
        .wait();
    finished.expect_code(0);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "0\nnothing\n");
    attempt.finish();
}

/// As a user without privileges, scripts may open /dev/stdout and /dev/stderr.
pub fn device_files_of_a_user(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox().user("app"))));
    attempt.make_ready();
    let script = "id -u\necho out > /dev/stdout\necho err > /dev/stderr\necho both | tee /dev/stderr\n";
    let finished = attempt.run_lines("build_script", script).wait();
    finished.expect_code(0);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "1234\nout\nboth\n");
    assert_eq!(String::from_utf8_lossy(&finished.stderr), "err\nboth\n");
    attempt.finish();
}

/// What a stage leaves running neither delays its end nor lives to see the next stage; what it wrote does.
pub fn background(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let script = "echo kept > /builds/group/project/file\necho kept > /tmp/file\nsleep 1000 &\nsetsid sleep 1000 &\n(nohup sleep 1000 >/dev/null 2>&1 &)\necho done\n";
    let finished = attempt.run_lines("build_script", script).wait_for(seconds(20));
    finished.expect_code(0).expect_text("done");
    let left = host.processes(&attempt.lease());
    assert!(left.iter().all(|process| process.command.contains("windlass-init")), "{left:?}");
    let finished = attempt
        .run_lines("after_script", "cat /builds/group/project/file /tmp/file\nps | grep '[s]leep' || echo gone\n")
        .wait();
    finished.expect_code(0);
    assert_eq!(String::from_utf8_lossy(&finished.stdout), "kept\nkept\ngone\n");
    attempt.finish();
}

/// SIGTERM reaches every process; traps run; what does not end is killed after the grace; the exit is not 0.
pub fn termination(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let script = "trap 'echo trap ran; exit 0' TERM\n(trap 'echo child ran; exit 0' TERM; while :; do sleep 0.1; done) &\n\
                  (trap 'echo stubborn' TERM; while :; do sleep 0.1; done) &\necho started\nwhile :; do sleep 0.1; done\n";
    let call = attempt.run_lines("build_script", script);
    call.wait_for_output("started");
    call.terminate();
    let finished = call.wait_for(seconds(15));
    assert_ne!(finished.code, Some(0), "after SIGTERM nothing is a success: {}", finished.text());
    finished.expect_text("trap ran").expect_text("child ran").expect_text("stubborn");
    // Another stage, in which nothing is willing to end.
    let call = attempt.run_lines("build_script", "trap '' TERM\necho deaf\nwhile :; do sleep 0.1; done\n");
    call.wait_for_output("deaf");
    call.terminate();
    let finished = call.wait_for(seconds(15));
    assert!(finished.code.is_some_and(|code| code != 0), "{finished:?}");
    let finished = attempt.run_lines("after_script", "ps | grep '[s]leep' || echo gone\n").wait();
    finished.expect_code(0).expect_text("gone");
    attempt.finish();
}

/// A shim killed with -9 ends its stage as a termination would.
pub fn shim_killed(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let script = "trap 'echo trap ran > /builds/trapped; exit 1' TERM\n(trap '' TERM; while :; do sleep 0.1; done) &\n\
                  echo started\nwhile :; do sleep 0.1; done\n";
    let call = attempt.run_lines("build_script", script);
    call.wait_for_output("started");
    call.signal(Signal::SIGKILL, true);
    let finished = call.wait_for(seconds(15));
    assert_eq!(finished.signal, Some(Signal::SIGKILL as i32));
    let finished = attempt
        .run_lines("after_script", "cat /builds/trapped\nps | grep '[s]leep' || echo gone\n")
        .wait_for(seconds(20));
    finished.expect_code(0).expect_text("trap ran").expect_text("gone");
    attempt.finish();
}

/// A daemon that is killed with -9 in the middle of a stage and started again is not noticed by the stage.
pub fn restart_in_mid_stage(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    // The stage goes on when the test says so.
    let script = "i=0\nwhile [ $i -lt 2000 ]; do echo line $i; i=$((i + 1)); done\necho half\n\
                  until [ -e /builds/go ]; do sleep 0.05; done\nwhile [ $i -lt 4000 ]; do echo line $i; i=$((i + 1)); done\nexit 7\n";
    let call = attempt.run_lines("build_script", script);
    call.wait_for_output("half");
    host.end_daemon(Signal::SIGKILL);
    assert!(call.is_running());
    host.start_daemon();
    // The shim takes up its connection to the new daemon.
    let lease = attempt.lease();
    until("the stage is known again", seconds(10), || {
        host.lease(&lease).is_some_and(|lease| lease["stage"] == "build_script")
    });
    let container = host.container(&lease).expect("the container lives");
    assert!(host.podman(&["exec", &container, "touch", "/builds/go"]).status.success());
    let finished = call.wait();
    finished.expect_code(1);
    assert_eq!(fs::read_to_string(attempt.exit_code_file()).unwrap(), "7");
    let expected: String = (0..2000)
        .map(|i| format!("line {i}\n"))
        .chain(["half\n".into()])
        .chain((2000..4000).map(|i| format!("line {i}\n")))
        .collect();
    assert_eq!(String::from_utf8_lossy(&finished.stdout), expected);
    attempt.run_lines("after_script", "echo next\n").wait().expect_code(0).expect_text("next");
    attempt.finish();
}

/// When gitlab-runner dies, its job is gone within ten seconds, slot and all.
pub fn runner_killed(host: &Host) {
    let runner = Runner::new(host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let lease = attempt.lease();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    runner.kill();
    until("nothing is left of the job", seconds(10), || {
        host.lease(&lease).is_none() && host.container(&lease).is_none()
    });
    assert!(!host.run_dir().join("leases").join(&lease).exists());
    let slots = host.status()["slots"].as_array().unwrap().clone();
    assert!(slots.iter().all(|slot| slot["lease"].is_null()), "{slots:?}");
}
