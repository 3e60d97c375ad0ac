//! `windlass shell`: who may, where it opens, and that it and its stage end in order.

use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use windlass::sys::terminal;

use crate::support::host::SharedHost;
use crate::support::wait::seconds;
use crate::support::{Host, Image, Job, Runner, until};
use crate::typed::Typed;
use crate::{go, running, shell, text, windlass};

static HOST: SharedHost = SharedHost::new("");

/// What has to hold however stages are run.
fn shells(host: &Host) {
    let runner = Runner::new(host);
    let job = Job::new(&host.image(&Image::busybox().env("OF=image"))).secret("SECRET", "s3cret-w0rd");
    let id = job.id.to_string();
    let (attempt, call) = running(&runner, &job);
    // Plain streams, and exit codes.
    let said = shell(host, &[&id], "echo $OF-$SECRET-\npwd\nid -u\necho wrong >&2\nexit 42\n", 42);
    for part in ["image--\n", "/builds", "\n0\n", "wrong"] {
        assert!(said.contains(part), "{part:?} is missing:\n{said}");
    }
    assert!(!said.contains("s3cret"), "{said}");
    assert_eq!(shell(host, &[&id, "--user", "4711:12", "--", "sh", "-c", "id -u; id -g; exit 3"], "", 3), "4711\n12\n");
    shell(host, &[&id, "--", "sh", "-c", "kill -TERM $$"], "", 143);
    // More than any pipe holds, both ways at once.
    let much = "0123456789abcdef".repeat(64 * 1024);
    assert!(shell(host, &[&id, "--", "cat"], &much, 0) == much, "it comes back as it went in");
    // A terminal: its size and its changes, Ctrl-C, and the end.
    let typed = Typed::start(host, &[&id], 31, 101);
    typed.sees("The environment is the image's");
    typed.keys("stty size; echo $TERM; tty\n");
    typed.sees("31 101");
    typed.sees("vt100");
    typed.sees("/dev/pts/");
    terminal::set_size(typed.master.as_fd(), 20, 64).unwrap();
    until("the size has changed", seconds(20), || {
        typed.keys("stty size\n");
        std::thread::sleep(std::time::Duration::from_millis(100));
        typed.seen().contains("20 64")
    });
    typed.keys("sleep 1000\n");
    until("it sleeps", seconds(20), || {
        host.processes(&attempt.lease()).iter().any(|p| p.command.contains("sleep 1000"))
    });
    typed.keys("\x03");
    typed.keys("echo still-$((20+2))\nexit 5\n");
    typed.sees("still-22");
    assert_eq!(typed.code(), Some(5));
    // A caller that is killed takes its shell along.
    let mut typed = Typed::start(host, &[&id, "--", "sleep", "2000"], 24, 80);
    let sleeps = || host.processes(&attempt.lease()).iter().any(|process| process.command.contains("sleep 2000"));
    until("the command runs", seconds(20), sleeps);
    kill(Pid::from_raw(i32::try_from(typed.child.id()).unwrap()), Signal::SIGKILL).unwrap();
    typed.child.wait().unwrap();
    until("the command is gone", seconds(20), || !sleeps());
    // The end of the stage ends a shell, and the shell neither changes nor delays the job.
    let typed = Typed::start(host, &[&id], 24, 80);
    typed.keys("trap '' TERM HUP; echo open-$((20+3))\n");
    typed.sees("open-23");
    go(host, &id);
    let finished = call.wait();
    finished.expect_code(1);
    assert_eq!(std::fs::read_to_string(attempt.exit_code_file()).unwrap(), "7");
    assert_eq!(typed.code(), Some(137));
    let user = if host.account.is_root() { "root (uid 0)".to_owned() } else { format!("(uid {})", host.account.uid()) };
    let log = host.log();
    for part in
        ["a shell is opened in the job's container", "the shell has ended with exit code 42", "who is gone", &user]
    {
        assert!(log.contains(part), "{part:?} is missing:\n{log}");
    }
    attempt.finish();
}

#[test]
fn a_shell_is_a_terminal_or_plain_streams_and_ends_with_its_stage() {
    shells(&HOST.get());
}

#[test]
fn a_shell_is_the_same_where_stages_come_by_podman_exec() {
    shells(&Host::configured("[job]\nexec = \"podman\""));
}

#[test]
fn a_shell_is_the_same_without_privileges() {
    let Some(host) = Host::rootless("") else { return };
    shells(&host);
    // Root may look into the containers of another user's daemon.
    if nix::unistd::getuid().is_root() {
        let runner = Runner::new(&host);
        let job = Job::new(&host.image(&Image::busybox()));
        let (attempt, call) = running(&runner, &job);
        let mut command = Command::new(&host.programs.windlass);
        command.args(["shell", "--socket"]).arg(host.socket()).args([&job.id.to_string(), "--", "touch", "/builds/go"]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        call.wait().expect_code(1);
        attempt.finish();
    }
}

#[test]
fn a_shell_is_where_it_was_asked_for_by_job_lease_or_slot() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let service = Image::busybox().env("OF=service").cmd(&["sleep", "1000"]);
    let job = Job::new(&host.image(&Image::busybox().env("OF=job")))
        .with("services", json!([{"name": host.image(&service), "alias": "db"}]));
    let id = job.id.to_string();
    let (attempt, call) = running(&runner, &job);
    let lease = host.lease(&attempt.lease()).unwrap();
    let slot = format!("{}/{}", lease["profile"].as_str().unwrap(), lease["slot"]);
    for name in [&id, lease["id"].as_str().unwrap(), &slot] {
        assert_eq!(shell(&host, &[name, "--", "sh", "-c", "echo $OF"], "", 0), "job\n");
    }
    assert_eq!(shell(&host, &[&id, "--service", "db", "--", "sh", "-c", "echo $OF"], "", 0), "service\n");
    for (arguments, words) in [
        (&["99999999"] as &[&str], "no job"),
        (&[&id, "--service", "other"], "there are: db"),
        (&[&id, "--helper"], "no helper"),
        (&[&id, "--user", "nobody-here"], "nobody-here"),
        (&[&id, "--", "/no/such/program"], "/no/such/program"),
    ] {
        let output = windlass(&host, "shell", arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{words:?} is missing: {}", text(&output));
    }
    go(&host, &id);
    call.wait().expect_code(1);
    attempt.finish();
}

#[test]
fn a_shell_in_the_helper_is_in_the_helper() {
    let helper = Image::git().env("OF=helper");
    let host = Host::configured(&format!("[job.helper]\nmode = 'image'\nimage = '{}'\n", helper.name()));
    host.image(&helper);
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()));
    let (attempt, call) = running(&runner, &job);
    assert_eq!(shell(&host, &[&job.id.to_string(), "--helper", "--", "sh", "-c", "echo $OF"], "", 0), "helper\n");
    go(&host, &job.id.to_string());
    call.wait().expect_code(1);
    attempt.finish();
}
