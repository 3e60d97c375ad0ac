//! CI_DEBUG_SERVICES: what services say is in the job log, as fast as that takes it; what is left out is said, and holds up nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::wait::seconds;
use support::{Attempt, Host, Image, Job, Runner, until};

/// Numbers that the service prints at once: several times what its log holds.
const FLOOD: u64 = 1_000_000;
/// Memory that a program may take for lines on their way, in KiB.
const MEMORY_MAX: u64 = 16 << 10;

/// An attempt at a job with a service that counts when it is told to: to [`FLOOD`] as fast as it can, and then slowly.
fn beside_one_who_counts<'a>(host: &Host, runner: &'a Runner<'_>) -> Attempt<'a> {
    let counts = format!(
        "echo ready; until test -e /tmp/flood; do sleep 0.1; done; seq 1 {FLOOD}; touch /tmp/flooded; \
         i={FLOOD}; while :; do i=$((i + 1)); echo $i; sleep 0.01; done"
    );
    let service = host.image(&Image::busybox().cmd(&["sh", "-c", &counts]));
    let services = json!([{"name": service, "alias": "one", "entrypoint": null}]);
    let job = Job::new(&host.image(&Image::busybox())).with("services", services);
    let mut attempt = runner.attempt(&job.variable("CI_DEBUG_SERVICES", "true"));
    // Without the stages before the script's, which would have its first words.
    attempt.configure().expect_code(0);
    attempt.prepare().wait().expect_code(0);
    attempt
}

/// A container of a lease, by its role.
fn container(host: &Host, lease: &str, role: &str) -> String {
    let filters = [format!("label=io.windlass.lease={}", &lease[..12]), format!("label=io.windlass.role={role}")];
    let output = host.podman(&["ps", "--quiet", "--filter", &filters[0], "--filter", &filters[1]]);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn inside(host: &Host, container: &str, command: &[&str]) -> bool {
    host.podman(&[&["exec", container], command].concat()).status.success()
}

/// The most memory that a process has had, in KiB.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Fails unless all numbers are there in their order, but for those of which a line says that they are left out; returns how many such
/// lines there are.
fn in_order(said: &str) -> usize {
    let (mut last, mut notices, mut excused) = (0, 0, false);
    for line in said.lines().filter_map(|line| line.strip_prefix("[service one] ")) {
        match line.parse::<u64>() {
            Ok(number) => {
                assert!(number == last + 1 || excused && number > last, "{number} comes after {last}");
                (last, excused) = (number, false);
            }
            Err(_) if line.contains("lines are left out here") => (notices, excused) = (notices + 1, true),
            Err(_) => assert_eq!((line, last), ("ready", 0)),
        }
    }
    notices
}

#[test]
fn a_service_that_says_more_than_the_job_log_takes_loses_lines_only_where_that_is_said_and_the_job_goes_on() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let mut attempt = beside_one_who_counts(&host, &runner);
    let lease = attempt.lease();
    let (service, job) = (container(&host, &lease, "service"), container(&host, &lease, "job"));
    let stage = attempt.run_lines("build_script", "until test -e /tmp/go; do sleep 0.05; done; echo went on\n");
    stage.wait_for_output("[service one] ready");
    let (shim, daemon) = (stage.pid(), host.daemon_pid());
    let before = [peak(shim), peak(daemon)];
    // Nobody takes what is printed.
    kill(Pid::from_raw(runner.pid()), Signal::SIGSTOP).unwrap();
    assert!(inside(&host, &service, &["touch", "/tmp/flood"]));
    until("it has counted", seconds(120), || inside(&host, &service, &["test", "-e", "/tmp/flooded"]));
    let grown = [peak(shim) - before[0], peak(daemon) - before[1]];
    eprintln!("a shim took {} KiB and the daemon {} KiB more", grown[0], grown[1]);
    assert!(grown.iter().all(|grown| *grown < MEMORY_MAX), "{grown:?} KiB");
    kill(Pid::from_raw(runner.pid()), Signal::SIGCONT).unwrap();
    stage.wait_for_output(&format!("[service one] {FLOOD}\n"));
    assert!(inside(&host, &job, &["touch", "/tmp/go"]));
    let first = stage.wait();
    first.expect_code(0).expect_text("went on");
    // What is said from one stage to the next is neither lost nor said again.
    let second = attempt.run_lines("after_script", "sleep 0.5; echo after it\n").wait();
    second.expect_code(0).expect_text("after it");
    assert!(second.took < seconds(5), "its end took {:?}", second.took);
    let said = first.text() + &second.text();
    let notices = in_order(&said);
    assert!(notices > 0 && said.len() > 1 << 20, "{notices} notices in {} bytes", said.len());
    second.expect_text("[service one] ");
    attempt.finish();
    assert_eq!(fs::read_dir(host.state_dir().join("service-logs")).unwrap().count(), 0, "its log is gone");
}

#[test]
fn while_the_job_log_takes_nothing_of_a_flood_the_stage_can_be_ended_and_so_can_its_job() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let mut attempt = beside_one_who_counts(&host, &runner);
    let lease = attempt.lease();
    let (service, job) = (container(&host, &lease, "service"), container(&host, &lease, "job"));
    let script = "trap 'touch /tmp/told' TERM; touch /tmp/begun; while :; do sleep 0.05; done\n";
    let stage = attempt.run_lines("build_script", script);
    stage.wait_for_output("[service one] ready");
    until("the script runs", seconds(20), || inside(&host, &job, &["test", "-e", "/tmp/begun"]));
    let shim = stage.pid();
    kill(Pid::from_raw(runner.pid()), Signal::SIGSTOP).unwrap();
    assert!(inside(&host, &service, &["touch", "/tmp/flood"]));
    until("it has counted", seconds(120), || inside(&host, &service, &["test", "-e", "/tmp/flooded"]));
    kill(Pid::from_raw(shim), Signal::SIGTERM).unwrap();
    until("the script is told", seconds(10), || inside(&host, &job, &["test", "-e", "/tmp/told"]));
    // A runner that dies takes its job along.
    runner.kill();
    host.wait_until_gone(&lease);
    assert_eq!(fs::read_dir(host.state_dir().join("service-logs")).unwrap().count(), 0, "its log is gone");
}

#[test]
fn a_daemon_that_takes_a_job_over_goes_on_with_what_services_say_from_then_on_and_says_so() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let mut attempt = beside_one_who_counts(&host, &runner);
    let (lease, script) = (attempt.lease(), "until test -e /tmp/go; do sleep 0.05; done\n");
    let stage = attempt.run_lines("build_script", script);
    stage.wait_for_output("[service one] ready");
    host.crash_daemon();
    stage.wait_for_output("[service one] [lines are left out here");
    assert!(inside(&host, &container(&host, &lease, "job"), &["touch", "/tmp/go"]));
    let said = stage.wait();
    said.expect_code(0);
    assert_eq!(said.text().matches("[service one] ready").count(), 1, "{}", said.text());
    attempt.finish();
}

#[test]
fn a_rootless_hosts_services_are_heard_too() {
    let Some(host) = Host::rootless("[job]\nnetwork = 'host'") else { return };
    let runner = Runner::new(&host);
    let mut attempt = beside_one_who_counts(&host, &runner);
    let stage = attempt.run_lines("build_script", "until test -e /tmp/go; do sleep 0.05; done\n");
    stage.wait_for_output("[service one] ready");
    stage.terminate();
    stage.wait();
    attempt.finish();
    assert_eq!(fs::read_dir(host.state_dir().join("service-logs")).unwrap().count(), 0, "its log is gone");
}
