//! What an administrator does to one job: a shell in its container (`shells`), and keeping it when it fails (`holds`).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod holds;
mod shells;
mod typed;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use support::{Attempt, Host, Image, Job, Runner};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `windlass` with these arguments behind the socket's.
fn command(host: &Host, subcommand: &str, arguments: &[&str]) -> Command {
    let mut command = host.account.command(&host.programs.windlass);
    command.args([subcommand, "--socket"]).arg(host.socket()).args(arguments);
    command
}

fn windlass(host: &Host, subcommand: &str, arguments: &[&str]) -> Output {
    command(host, subcommand, arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs a shell with these words as its input; it has to end with `code`.
#[track_caller]
fn shell(host: &Host, arguments: &[&str], input: &str, code: i32) -> String {
    let mut command = command(host, "shell", arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.as_bytes().to_vec());
    // Whoever writes first and reads then waits for ever, once it is more than pipes hold. A shell that ends early takes not all of it.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}\n{}", text(&output), host.log());
    text(&output)
}

/// An attempt whose script runs until `/builds/go` is there.
fn running<'a>(runner: &'a Runner<'a>, job: &Job) -> (Attempt<'a>, support::Call<'a>) {
    let mut attempt = runner.attempt(job);
    attempt.make_ready();
    let call =
        attempt.run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\nexit 7\n");
    call.wait_for_output("started");
    (attempt, call)
}

fn go(host: &Host, job: &str) {
    let output = windlass(host, "shell", &[job, "--user", "0", "--", "touch", "/builds/go"]);
    // The stage that it lets go may end first, and a shell ends with its stage.
    assert!(matches!(output.status.code(), Some(0 | 137)), "{}\n{}", text(&output), host.log());
}

#[test]
fn others_than_administrators_get_no_shell_and_hold_nothing() {
    let Ok(account) = support::account::Account::rootless() else { return };
    if !nix::unistd::getuid().is_root() {
        eprintln!("SKIPPED: only root can be another user");
        return;
    }
    let host = Host::configured("[socket]\nallowed_users = ['windlass-test']");
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()));
    let (attempt, call) = running(&runner, &job);
    let program = host.dir().join("windlass-copy");
    std::fs::copy(&host.programs.windlass, &program).unwrap();
    let id = job.id.to_string();
    for (subcommand, name) in [("shell", id.as_str()), ("hold", "group/project"), ("release", "group/project")] {
        let mut command = account.command(&program);
        let output =
            command.args([subcommand, name, "--socket"]).arg(host.socket()).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{subcommand}: {}", text(&output));
        assert!(text(&output).contains("only root and the daemon's own user may"), "{}", text(&output));
    }
    assert!(!host.log().contains("a shell is opened"));
    go(&host, &id);
    call.wait().expect_code(1);
    attempt.finish();
}
