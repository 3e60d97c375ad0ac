//! What an administrator does to one job: a shell in its container, and keeping it when it fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::host::SharedHost;
use support::wait::seconds;
use support::{Attempt, Host, Image, Job, Runner, State, until, value};
use windlass::sys::terminal;

static HOST: SharedHost = SharedHost::new("");

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

/// `windlass shell` in a terminal of its own.
struct Typed {
    child: Child,
    master: OwnedFd,
    seen: Arc<Mutex<String>>,
}

impl Typed {
    fn start(host: &Host, arguments: &[&str], rows: u16, columns: u16) -> Self {
        let pty = terminal::open().unwrap();
        terminal::set_size(pty.master.as_fd(), rows, columns).unwrap();
        let mut command = command(host, "shell", arguments);
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        command.env("TERM", "vt100").stdin(end()).stdout(end()).stderr(end());
        terminal::lead_session(&mut command);
        terminal::take_terminal(&mut command);
        let child = command.spawn().unwrap();
        drop((command, pty.slave));
        let (seen, mut reader) = (Arc::<Mutex<String>>::default(), File::from(pty.master.try_clone().unwrap()));
        std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = reader.read(&mut buffer) {
                    seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }
        });
        Self { child, master: pty.master, seen }
    }

    fn keys(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    fn sees(&self, words: &str) {
        let since = std::time::Instant::now();
        while !self.seen().contains(words) {
            assert!(since.elapsed() < seconds(20), "{words:?} was not shown but:\n{}", self.seen());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn code(mut self) -> Option<i32> {
        value("windlass shell ends", seconds(20), || self.child.try_wait().unwrap()).code()
    }
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
    shell(host, &[job, "--user", "0", "--", "touch", "/builds/go"], "", 0);
}

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

fn hold(host: &Host, arguments: &[&str]) {
    let output = windlass(host, "hold", arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// The states of all that is held or waited for.
fn held(host: &Host) -> Vec<String> {
    let rows = host.json(&["hold", "--list"]);
    rows.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect()
}

fn wait_until_held(host: &Host, job: u64) -> Value {
    value("the job is held and its slot free", seconds(20), || {
        let status = host.status();
        let lease = host.lease_of_job(job).filter(|lease| lease["state"] == "held")?;
        status["slots"].as_array().unwrap().iter().all(|slot| slot["lease"].is_null()).then_some(lease)
    })
}

fn wait_until_gone(host: &Host, job: u64) {
    until("the job is gone", seconds(20), || host.lease_of_job(job).is_none());
}

/// What has to hold of holds everywhere.
fn holds(host: &Host) {
    let image = host.image(&Image::busybox());
    let runner = Runner::new(host);
    let failing = || {
        Job::new(&image).file("KEY_FILE", "s3cret-file").secret("SECRET", "s3cret-w0rd").script(&[
            "echo kept > left-behind",
            // As gitlab-runner does.
            "mkdir -p $CI_PROJECT_DIR.tmp",
            "echo $KEY_FILE > $CI_PROJECT_DIR.tmp/KEY_FILE",
            "(exit 9)",
        ])
    };
    hold(host, &["group/project", "--for", "10m"]);
    runner.play(&Job::new(&image)).expect(State::Success);
    assert_eq!(held(host), ["waiting"], "a job that succeeds is not held");
    let job = failing();
    let id = job.id.to_string();
    let outcome = runner.play_to_be_held(&job);
    outcome.expect(State::script_failure(9)).expect_log(&format!("windlass shell {id}")).expect_log("is kept until");
    let lease = wait_until_held(host, job.id);
    assert!(lease["held_until"].is_string() && lease["slot"].is_null(), "{lease}");
    let shown = text(&windlass(host, "status", &[]));
    assert!(shown.contains("held") && shown.contains(&format!("windlass shell {id}")), "{shown}");
    assert_eq!(shell(host, &[&id, "--", "cat", "left-behind"], "", 0), "kept\n");
    let search =
        "cat /proc/*/environ; for place in /builds /tmp; do [ ! -d $place ] || grep -r s3cret $place; done; true";
    let secrets = shell(host, &[&id, "--user", "0", "--", "sh", "-c", search], "", 0);
    assert!(!secrets.contains("s3cret"), "{secrets}");
    assert!(!host.run_dir().join("leases").join(&outcome.leases[0]).join("auth.json").exists());
    // Others run meanwhile, and find another build directory.
    runner.play(&Job::new(&image).script(&["test ! -e left-behind"])).expect(State::Success);
    // A purge takes nothing of it, and the next daemon goes on with it.
    windlass(host, "cache", &["purge", "--all"]);
    host.crash_daemon();
    let lease = wait_until_held(host, job.id);
    assert_eq!(lease["state"], "held");
    assert_eq!(shell(host, &[&id, "--", "cat", "left-behind"], "", 0), "kept\n");
    // gitlab-runner may clean up twice.
    assert_eq!(held(host), ["held"]);
    let released = windlass(host, "release", &[&id]);
    assert!(text(&released).contains(&format!("released: job {id}")), "{}", text(&released));
    wait_until_gone(host, job.id);
    assert!(held(host).is_empty());
    // The next failure of a project is nobody's.
    let job = failing();
    runner.play(&job).expect(State::script_failure(9));
    wait_until_gone(host, job.id);
}

#[test]
fn a_failed_job_is_held_until_it_is_released() {
    holds(&Host::start());
}

#[test]
fn a_failed_job_is_held_where_stages_come_by_podman_exec() {
    holds(&Host::configured("[job]\nexec = \"podman\""));
}

#[test]
fn a_failed_job_is_held_without_privileges() {
    let Some(host) = Host::rootless("") else { return };
    holds(&host);
}

#[test]
fn a_job_is_held_where_nothing_else_is_kept_and_its_variables_are_removed() {
    let host = Host::configured("[lanes]\nscope = 'none'");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    hold(&host, &["7"]);
    let job =
        Job::new(&image).script(&["mkdir -p $CI_PROJECT_DIR.tmp", "echo s3cret > $CI_PROJECT_DIR.tmp/more", "exit 1"]);
    runner.play_to_be_held(&job).expect(State::script_failure(1));
    wait_until_held(&host, job.id);
    let id = job.id.to_string();
    until("the directory is gone", seconds(20), || {
        shell(&host, &[&id, "--", "sh", "-c", "test -e /builds/group/project.tmp; echo $?"], "", 0) == "1\n"
    });
    assert_eq!(windlass(&host, "release", &["group/project"]).status.code(), Some(0));
    wait_until_gone(&host, job.id);
}

#[test]
fn a_hold_ends_with_its_time_also_while_the_daemon_is_away() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let fail = |time: &str| {
        hold(&host, &["group/project", "--for", time]);
        let job = Job::new(&image).script(&["exit 1"]);
        runner.play_to_be_held(&job).expect(State::script_failure(1));
        job
    };
    let job = fail("8s");
    wait_until_held(&host, job.id);
    wait_until_gone(&host, job.id);
    let job = fail("8s");
    wait_until_held(&host, job.id);
    host.end_daemon(Signal::SIGKILL);
    let since = std::time::Instant::now();
    until("its time is over", seconds(20), || since.elapsed() > seconds(9));
    host.start_daemon();
    wait_until_gone(&host, job.id);
    assert!(host.log().contains("the time of its hold is over"));
}

#[test]
fn a_wish_outlasts_the_daemon_and_is_for_the_job_that_was_named() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let (other, named) = (Job::new(&image).script(&["exit 1"]), Job::new(&image).script(&["exit 1"]));
    hold(&host, &["gitlab.example.com/group/project", "--job", &named.id.to_string()]);
    host.crash_daemon();
    runner.play(&other).expect(State::script_failure(1));
    wait_until_gone(&host, other.id);
    runner.play_to_be_held(&named).expect(State::script_failure(1));
    wait_until_held(&host, named.id);
    // One who drains the host does not wait for it.
    let drained = windlass(&host, "drain", &["--wait"]);
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
    assert_eq!(windlass(&host, "undrain", &[]).status.code(), Some(0));
    windlass(&host, "release", &[&named.id.to_string()]);
    wait_until_gone(&host, named.id);
}

#[test]
fn a_canceled_job_is_not_held_and_the_next_one_is_waited_for() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox())).script(&["echo started", "sleep 1000"]).cancel_when("started");
    hold(&host, &["group/project"]);
    runner.play(&job);
    wait_until_gone(&host, job.id);
    assert_eq!(held(&host), ["waiting"]);
    assert_eq!(windlass(&host, "release", &["group/project"]).status.code(), Some(0));
    assert!(held(&host).is_empty());
    let nothing = windlass(&host, "release", &["group/project"]);
    assert!(nothing.status.code() == Some(1) && text(&nothing).contains("nothing is held"), "{}", text(&nothing));
}

#[test]
fn no_more_is_held_and_no_longer_than_the_configuration_allows() {
    let host = Host::configured("[hold]\nmax_held = 1\nmax_time = '1h'");
    for (arguments, words) in
        [(["group/project", "--for", "2h"], "max_time"), (["group/project", "--for", "0s"], "max_time")]
    {
        let refused = windlass(&host, "hold", &arguments);
        assert!(refused.status.code() == Some(1) && text(&refused).contains(words), "{}", text(&refused));
    }
    hold(&host, &["group/project"]);
    let refused = windlass(&host, "hold", &["group/other"]);
    assert!(refused.status.code() == Some(1) && text(&refused).contains("max_held"), "{}", text(&refused));
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox())).script(&["exit 1"]);
    runner.play_to_be_held(&job).expect(State::script_failure(1));
    wait_until_held(&host, job.id);
    let refused = windlass(&host, "hold", &["group/other"]);
    assert!(refused.status.code() == Some(1) && text(&refused).contains("max_held"), "{}", text(&refused));
    // Jobs that run come first: where the disk is too full for them, what is held goes.
    host.reload("[hold]\nmax_held = 1\n[purge]\nmin_free = '100%'");
    until("the reload is in effect", seconds(20), || host.log().contains("purge.min_free"));
    let next = Job::new(&host.image(&Image::busybox()));
    runner.play(&next).expect(State::Success).expect_log("Released failed jobs that were held");
    wait_until_gone(&host, job.id);
}
