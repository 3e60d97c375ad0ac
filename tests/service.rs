//! The daemon and whoever looks after it: what it tells systemd, a changed configuration, a host that is drained.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use support::account::Account;
use support::notices::Notices;
use support::wait::{seconds, value};
use support::{Host, Image, Job, Runner, until};

/// A daemon and what it tells systemd.
fn notified(toml: &str) -> (Host, Notices) {
    let notices = Notices::listen();
    (Host::with_environment(toml, notices.environment()), notices)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// How many slots the daemon has, and how many of them are held.
fn slots(host: &Host) -> (usize, usize) {
    let status = host.status();
    let slots = status["slots"].as_array().unwrap();
    let counted = slots.iter().filter(|slot| slot["goes"] == false).count();
    (counted, slots.iter().filter(|slot| !slot["lease"].is_null()).count())
}

#[test]
fn it_is_ready_when_it_serves_and_says_how_busy_it_is() {
    let (host, notices) = notified("");
    let ready = notices.wait_for(0, "READY=1");
    assert!(notices.since(0)[..ready].iter().any(|message| message.contains("STATUS=starting")));
    notices.wait_for_status("0/4 slots busy");
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    notices.wait_for_status("1/4 slots busy");
    attempt.finish();
    notices.wait_for_status("0/4 slots busy");
    assert_eq!(notices.having("WATCHDOG=1"), 0, "nobody has asked for it");
    host.end_daemon(Signal::SIGTERM);
    assert_eq!(notices.having("STOPPING=1"), 1);
    assert_eq!(notices.status().as_deref(), Some("ending: running jobs go on"));
    host.start_daemon();
}

#[test]
fn a_daemon_that_cannot_serve_is_never_ready() {
    let (host, notices) = notified("");
    notices.wait_for(0, "READY=1");
    host.end_daemon(Signal::SIGTERM);
    host.configure("[podman]\ncommand = \"false\"");
    let from = notices.count();
    let mut command = host.account.command(&host.programs.windlassd);
    command.arg("--config").arg(host.config()).envs(notices.environment());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let told = notices.since(from).concat();
    assert!(told.contains("STATUS=starting") && !told.contains("READY=1"), "{told}");
    host.configure("");
    host.start_daemon();
}

#[test]
fn signs_of_life_come_from_the_loop_that_takes_callers_and_end_with_its_work() {
    let notices = Notices::listen();
    let mut environment = notices.environment();
    environment.push(("WATCHDOG_USEC".into(), "300000".into()));
    let host = Host::with_environment("", environment);
    until("it gives signs of life", seconds(20), || notices.having("WATCHDOG=1") > 3);
    // Without a descriptor for the next caller it can't work, though its process is well.
    let limit = |limit: &str| {
        let pid = host.daemon_pid().to_string();
        let output = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    };
    let failures = || host.log().matches("accept a caller: ").count();
    limit("4");
    let _caller = UnixStream::connect(host.socket()).unwrap();
    until("it can take no callers", seconds(20), || failures() > 1);
    let (alive, failed) = (notices.having("WATCHDOG=1"), failures());
    until("it has tried for ten times as long as its signs of life are apart", seconds(20), || failures() > failed + 5);
    assert_eq!(notices.having("WATCHDOG=1"), alive);
    limit("1024");
    until("it gives signs of life again", seconds(20), || notices.having("WATCHDOG=1") > alive + 3);
    host.status();
}

#[test]
fn a_changed_configuration_is_for_jobs_that_come_from_then_on() {
    let (host, notices) = notified("");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut before = runner.attempt(&Job::new(&image));
    before.make_ready();
    let from = notices.wait_for(0, "READY=1");
    host.reload("slots = 6\n[job]\nenvironment = { COLOUR = \"blue\" }\n[podman]\ntimeout = \"5m\"");
    let reloading = notices.wait_for(from, "RELOADING=1");
    let message = notices.since(reloading - 1)[0].clone();
    let time: u64 = message.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap().parse().unwrap();
    assert!(time > 0);
    notices.wait_for(reloading, "READY=1");
    notices.wait_for_status("1/6 slots busy; only a restart of windlassd takes over podman.timeout");
    assert_eq!(slots(&host), (6, 1));
    let shown = text(&host.windlass(&["status", "--socket", host.socket().to_str().unwrap()]));
    assert!(shown.contains("warning: only a restart of windlassd takes over podman.timeout"), "{shown}");
    assert!(host.log().contains("taken over for new jobs: job.environment.COLOUR, slots"), "{}", host.log());

    let colour = "echo \"colour: ${COLOUR-none}\"\n";
    before.run_lines("build_script", colour).wait().expect_code(0).expect_text("colour: none");
    let mut after = runner.attempt(&Job::new(&image));
    after.make_ready();
    after.run_lines("build_script", colour).wait().expect_code(0).expect_text("colour: blue");
    for attempt in [before, after] {
        attempt.finish();
    }
}

#[test]
fn a_wrong_configuration_is_refused_and_the_old_one_stays() {
    let (host, notices) = notified("slots = 3");
    let from = notices.wait_for(0, "READY=1");
    std::fs::create_dir(host.dir().join("conf.d")).unwrap();
    let wrong = host.dir().join("conf.d/10-wrong.toml");
    std::fs::write(&wrong, "\n[job]\ngrace = \"soon\"\n").unwrap();
    host.reload("slots = 5");
    let reloading = notices.wait_for(from, "RELOADING=1");
    let ready = notices.wait_for(reloading, "READY=1");
    notices.wait_for_status("0/3 slots busy; the changed configuration is refused");
    assert_eq!(slots(&host), (3, 0));
    assert!(host.log().contains("conf.d/10-wrong.toml:3:9: job.grace:"), "{}", host.log());
    // A daemon that was started with it would not run either, so the next thing is to mend it.
    std::fs::remove_file(&wrong).unwrap();
    host.reload("slots = 5");
    notices.wait_for(notices.wait_for(ready, "RELOADING=1"), "READY=1");
    notices.wait_for_status("0/5 slots busy");
    assert_eq!(notices.status().as_deref(), Some("0/5 slots busy"));
}

#[test]
fn a_reload_that_hangs_does_not_keep_the_daemon_from_ending() {
    let (host, notices) = notified("");
    let from = notices.wait_for(0, "READY=1");
    // Who reads it waits for somebody who writes, as one waits for a user database or a disk that hangs.
    std::fs::create_dir(host.dir().join("conf.d")).unwrap();
    let hanging = host.dir().join("conf.d/10-hangs.toml");
    nix::unistd::mkfifo(&hanging, nix::sys::stat::Mode::S_IRWXU).unwrap();
    host.reload("slots = 3");
    let reloading = notices.wait_for(from, "RELOADING=1");
    assert_eq!(host.end_daemon(Signal::SIGTERM), Some(0));
    let told = notices.since(reloading).concat();
    assert!(told.contains("STOPPING=1") && !told.contains("READY=1"), "{told}");
    std::fs::remove_file(&hanging).unwrap();
    host.start_daemon();
    assert_eq!(slots(&host), (3, 0));
}

#[test]
fn each_loop_of_the_daemon_is_among_the_figures() {
    let host = Host::start();
    let figures = support::openmetrics::Figures::of(&host);
    for name in [
        "doctor",
        "free-space",
        "history",
        "metrics",
        "page",
        "page-changes",
        "purge",
        "reload",
        "slots-status",
        "socket-users",
        "space-status",
        "sweep",
        "trash",
        "usage",
    ] {
        let figure = format!("windlass_loop_age_seconds{{loop=\"{name}\"}}");
        assert!(figures.values.get(&figure).is_some_and(|age| *age < 60.0), "{figure}: {figures:?}");
    }
}

#[test]
fn slots_that_are_taken_away_stay_with_their_jobs_until_these_end() {
    let (host, notices) = notified("slots = 2");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut attempts: Vec<_> = (0..2).map(|_| runner.attempt(&Job::new(&image))).collect();
    attempts.iter_mut().for_each(|attempt| attempt.make_ready());
    let calls: Vec<_> = attempts
        .iter_mut()
        .map(|attempt| {
            attempt
                .run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\necho whole\n")
        })
        .collect();
    calls.iter().for_each(|call| call.wait_for_output("started"));
    host.reload("slots = 1");
    notices.wait_for_status("2/1 slots busy");
    // Another daemon finds fewer slots than jobs.
    host.crash_daemon();
    notices.wait_for_status("2/1 slots busy");
    assert_eq!(slots(&host), (1, 2));
    let mut third = runner.attempt(&Job::new(&image));
    let waiting = third.config();
    waiting.wait_for_output("aiting for a free slot");
    for attempt in &attempts {
        let container = host.container(&attempt.lease()).unwrap();
        assert!(host.podman(&["exec", &container, "touch", "/builds/go"]).status.success());
    }
    for call in calls {
        call.wait().expect_code(0).expect_text("whole");
    }
    attempts.remove(0).finish();
    notices.wait_for_status("1/1 slots busy, 1 job waits");
    assert!(waiting.is_running(), "the slot that is left has a job");
    attempts.remove(0).finish();
    third.take_answer(waiting.wait()).expect_code(0);
    assert_eq!(slots(&host), (1, 1));
    third.finish();
}

#[test]
fn who_may_call_can_be_changed_while_the_daemon_runs() {
    let stranger = match Account::rootless() {
        Ok(Account::Other(user)) => Account::Other(user),
        _ => return eprintln!("SKIPPED: there is no second user to call as"),
    };
    let Account::Other(user) = &stranger else { unreachable!() };
    let host = Host::start();
    let programs = host.programs.copied(&host.dir().join("for-others"));
    let status = || {
        let mut command = stranger.command(&programs.windlass);
        command.args(["status", "--socket"]).arg(host.socket()).output().unwrap()
    };
    assert!(text(&status()).contains("allowed_users"), "{}", text(&status()));
    host.reload(&format!("[socket]\nallowed_users = [\"{}\"]", user.name));
    until("they may call", seconds(20), || status().status.success());
    // To ask is one thing.
    let mut command = stranger.command(&programs.windlass);
    let output = command.args(["drain", "--socket"]).arg(host.socket()).output().unwrap();
    assert!(!output.status.success() && text(&output).contains("only root"), "{}", text(&output));
    assert!(host.status()["daemon"]["drained_since"].is_null());
}

#[test]
fn a_drained_host_ends_its_jobs_and_takes_none_until_that_is_over() {
    let (host, notices) = notified("");
    let image = host.image(&Image::busybox());
    let socket = host.socket().display().to_string();
    let runner = Runner::new(&host);
    let mut running = runner.attempt(&Job::new(&image));
    running.make_ready();
    assert!(host.windlass(&["drain", "--socket", &socket]).status.success());
    notices.wait_for_status("drained: no new jobs; 1/4 slots busy");
    let mut new = runner.attempt(&Job::new(&image));
    let waiting = new.config();
    waiting.wait_for_output("aiting until this host takes new jobs again");

    let said = host.dir().join("drain.stderr");
    let mut drain = host.account.command(&host.programs.windlass);
    drain.args(["drain", "--wait", "--socket", &socket]).stderr(File::create(&said).unwrap());
    let mut drain = drain.spawn().unwrap();
    let waits = format!("waiting for 1 job(s) to end: {}", running.job.id);
    until("it waits for the job", seconds(20), || std::fs::read_to_string(&said).unwrap().contains(&waits));
    host.crash_daemon();
    notices.wait_for_status("drained: no new jobs; 1/4 slots busy, 1 job waits");
    let shown = text(&host.windlass(&["status", "--socket", &socket]));
    assert!(shown.contains("drained for"), "{shown}");
    running.run_lines("build_script", "echo still here\n").wait().expect_code(0).expect_text("still here");
    assert!(drain.try_wait().unwrap().is_none(), "a job still runs");
    running.finish();
    let ended = value("the drain has ended", seconds(20), || drain.try_wait().unwrap());
    assert!(ended.success() && waiting.is_running());
    assert_eq!(slots(&host), (4, 0));

    assert!(host.windlass(&["undrain", "--socket", &socket]).status.success());
    new.take_answer(waiting.wait()).expect_code(0).expect_text("Got slot");
    notices.wait_for_status("1/4 slots busy");
    new.finish();
}

#[test]
fn a_job_that_waits_for_a_slot_gets_none_of_a_drained_host() {
    let host = Host::configured("slots = 1\nslot_wait = \"3s\"");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut first = runner.attempt(&Job::new(&image));
    first.configure().expect_code(0);
    let second = runner.attempt(&Job::new(&image));
    let waiting = second.config();
    waiting.wait_for_output("aiting for a free slot");
    assert!(host.windlass(&["drain", "--socket", host.socket().to_str().unwrap()]).status.success());
    first.finish();
    waiting.wait().expect_code(2).expect_text("this host takes no new jobs since");
    second.cleanup().wait().expect_code(0);
    assert!(host.windlass(&["undrain", "--socket", host.socket().to_str().unwrap()]).status.success());
}
