//! Who may call the service, how well it is shut in, and that no end of the daemon is one of a job.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use serde_json::{Value, json};

use crate::support::boxed::{in_a_box, in_a_box_over};
use crate::support::installed::{Installed, PATIENCE, group, run, source, text};
use crate::support::{Attempt, Image, Job, Runner, State, until};
use crate::{SETTINGS, UNTIL_TOLD};

#[test]
fn a_rootless_service_is_shut_in_and_its_jobs_outlive_it() {
    in_a_box("service::rootless_in_the_box");
}

#[test]
fn a_rootful_service_is_shut_in_and_its_jobs_outlive_it() {
    in_a_box("service::rootful_in_the_box");
}

#[test]
fn a_newer_systemd_waits_until_a_reload_is_done() {
    let newer = source("target/newer-systemd");
    if waits_for_a_reload() || std::env::var_os("WINDLASS_ROOT").is_some() {
        return eprintln!("the other tests of this file run with what systemd there is");
    }
    if !newer.join("complete").exists() {
        // Not every mirror has backports.
        return eprintln!(
            "SKIPPED: scripts/prepare.sh --for test fetches a newer systemd, where Debian has a backport"
        );
    }
    in_a_box_over("service::newer_in_the_box", &newer.join("root"));
}

#[test]
#[ignore = "runs in a box"]
fn newer_in_the_box() {
    assert!(waits_for_a_reload());
    let windlass = Installed::new(false, SETTINGS);
    let image = windlass.image(&Image::busybox());
    the_units_are_sound(&windlass);
    a_reload_is_seen_and_a_wrong_one_refused(&windlass);
    a_stopped_daemon_is_started_by_its_callers(&windlass, &image);
    the_journal_can_be_asked_for_a_job(&windlass, &image);
}

#[test]
#[ignore = "runs in a box"]
fn rootless_in_the_box() {
    service(false);
}

#[test]
#[ignore = "runs in a box"]
fn rootful_in_the_box() {
    service(true);
}

fn service(rootful: bool) {
    // As on hosts where something gathers core dumps.
    fs::create_dir_all("/run/systemd/system.conf.d").unwrap();
    fs::write("/run/systemd/system.conf.d/cores.conf", "[Manager]\nDefaultLimitCORE=infinity\n").unwrap();
    run(Command::new("systemctl").arg("daemon-reload"));
    let windlass = Installed::new(rootful, SETTINGS);
    let image = windlass.image(&Image::busybox());
    the_units_are_sound(&windlass);
    it_is_shut_in(&windlass);
    only_those_may_call_who_are_named(&windlass);
    gitlab_runner_may_call_and_is_stopped_gently(&windlass);
    a_job_outlives_every_end_of_the_daemon(&windlass, &image);
    a_stopped_daemon_is_started_by_its_callers(&windlass, &image);
    a_reload_is_seen_and_a_wrong_one_refused(&windlass);
    the_journal_can_be_asked_for_a_job(&windlass, &image);
}

fn the_units_are_sound(windlass: &Installed) {
    if !windlass.rootful {
        the_manager_that_is_started_is_of_the_units_user();
    }
    let units = ["windlass.service", "windlass.socket", "windlass-jobs.slice"];
    let said = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units));
    assert!(!said.contains("windlass"), "{said}");
    let user = windlass.property("User");
    assert_eq!(user, if windlass.rootful { "root" } else { "windlass" });
    until("the status is told", PATIENCE, || windlass.property("StatusText") == "0/10 slots busy");
    assert_eq!(windlass.property("Type"), if waits_for_a_reload() { "notify-reload" } else { "notify" });
}

/// Also where a drop-in names another.
fn the_manager_that_is_started_is_of_the_units_user() {
    let unit = fs::read_to_string("/usr/lib/systemd/system/windlass.service").unwrap();
    let start = unit.lines().find(|line| line.starts_with("ExecStartPre=")).expect("what starts the manager");
    run(Command::new("useradd").args(["--system", "someone"]));
    let other = format!("[Service]\nType=oneshot\nUser=someone\n{start}\nExecStart=/bin/true\n");
    fs::write("/run/systemd/system/other.service", other).unwrap();
    run(Command::new("systemctl").arg("daemon-reload"));
    run(Command::new("systemctl").args(["start", "other.service"]));
    let uid = User::from_name("someone").unwrap().unwrap().uid;
    let state = text(&Command::new("systemctl").args(["is-active", &format!("user@{uid}.service")]).output().unwrap());
    assert_eq!(state.trim(), "active");
}

/// Whether this systemd waits until the daemon says that a reload is done: it does from 253 on.
fn waits_for_a_reload() -> bool {
    let words = run(Command::new("systemctl").arg("--version"));
    let version = words.split_whitespace().nth(1).and_then(|word| word.split(['.', '~']).next());
    version.expect("a version").parse::<u32>().expect("a number") >= 253
}

fn it_is_shut_in(windlass: &Installed) {
    let pid = windlass.pid().unwrap();
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).expect("the limit");
    assert_eq!(cores.split_whitespace().nth(4), Some("0"), "its secrets would be in a core dump: {cores}");
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
    assert_eq!(
        namespace(pid),
        namespace(1),
        "another mount namespace would hide the mounts of its jobs after a restart"
    );
    if !windlass.rootful {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        for field in ["CapEff", "CapPrm", "CapAmb"] {
            assert!(status.contains(&format!("{field}:\t0000000000000000")), "{status}");
        }
    }
    // Whatever systemd would have set is set, or there is a reason why not.
    let unit = windlass.systemctl(&["cat", "windlass.service"]);
    let output =
        Command::new("systemd-analyze").args(["security", "--json=short", "windlass.service"]).output().unwrap();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    let weak = found.iter().filter(|item| item["set"] == false);
    let names: BTreeSet<&str> =
        weak.filter_map(|item| item["name"].as_str()?.split_once('=')).map(|(name, _)| name).collect();
    let silent: Vec<_> = names.iter().filter(|name| !unit.contains(&format!("{name}="))).collect();
    assert!(names.len() > 10 && silent.is_empty(), "the unit does not say why it has no {silent:?}");
    let shown = run(Command::new("systemd-analyze").args(["security", "--no-pager", "windlass.service"]));
    let (_, level) = shown.rsplit_once("windlass.service: ").expect("a level");
    let level: f64 = level.split_whitespace().next().unwrap().parse().unwrap();
    let most = if windlass.rootful { 9.0 } else { 7.4 };
    assert!(level <= most, "the exposure has grown to {level}:\n{shown}");
}

fn only_those_may_call_who_are_named(windlass: &Installed) {
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let ask = |group| text(&windlass.command_as(&nobody, group, "windlass").arg("status").output().unwrap());
    let outside = ask(nobody.gid);
    assert!(outside.contains("cannot reach windlassd") && outside.contains("ermission denied"), "{outside}");
    let inside = ask(group("windlass-callers"));
    assert!(inside.contains("may not use windlassd"), "{inside}");
    let mut shim = windlass.command_as(&nobody, nobody.gid, "/usr/libexec/windlass/windlass-cleanup");
    let output = shim.env("WINDLASS_LEASE", "0".repeat(32)).env("SYSTEM_FAILURE_EXIT_CODE", "2").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("it has to be in the socket's group"), "{}", text(&output));
}

fn gitlab_runner_may_call_and_is_stopped_gently(windlass: &Installed) {
    // What its package would install, as far as it matters here.
    let unit = "[Service]\nUser=gitlab-runner\nType=exec\nWorkingDirectory=/home/gitlab-runner\nExecStart=/bin/sh -c \
                'trap \"echo gently >end; exit\" QUIT; windlass status >answer 2>&1; while :; do sleep 0.1; done'\n";
    fs::write("/etc/systemd/system/gitlab-runner.service", unit).unwrap();
    windlass.systemctl(&["daemon-reload"]);
    let shown = windlass.systemctl(&["show", "-p", "TimeoutStopUSec,After", "gitlab-runner.service"]);
    assert!(shown.lines().any(|line| line == "TimeoutStopUSec=4h"), "{shown}");
    let after: Vec<&str> = shown.lines().find_map(|line| line.strip_prefix("After=")).unwrap().split(' ').collect();
    assert!(["windlass.socket", "windlass.service"].iter().all(|unit| after.contains(unit)), "{shown}");
    windlass.systemctl(&["start", "gitlab-runner.service"]);
    let home = Path::new("/home/gitlab-runner");
    until("it has an answer", PATIENCE, || {
        fs::read_to_string(home.join("answer")).is_ok_and(|answer| answer.contains("of 10 slots busy"))
    });
    windlass.systemctl(&["stop", "gitlab-runner.service"]);
    assert_eq!(fs::read_to_string(home.join("end")).unwrap(), "gently\n");
}

/// A web server on port 8080.
fn server() -> Image {
    Image::busybox().expose(8080).cmd(&["httpd", "-f", "-p", "8080", "-h", "/etc"])
}

fn a_job_outlives_every_end_of_the_daemon(windlass: &Installed, image: &str) {
    windlass.add_to_unit("WatchdogSec=5s");
    windlass.restart();
    let runner = Runner::on(windlass);
    let service = json!([{"name": windlass.image(&server()), "alias": "web"}]);
    let mut alone = runner.attempt(&Job::new(image).profile("connected"));
    let mut served = runner.attempt(&Job::new(image).profile("connected").with("services", service));
    for attempt in [&mut alone, &mut served] {
        attempt.configure().expect_code(0);
        attempt.prepare().wait_for(PATIENCE).expect_code(0);
        attempt.run("get_sources").wait().expect_code(0);
    }
    let fetch = format!("{UNTIL_TOLD}wget -q -O - http://web:8080/passwd\n");
    let calls = [alone.run_lines("build_script", UNTIL_TOLD), served.run_lines("build_script", &fetch)];
    calls.iter().for_each(|call| call.wait_for_output("started"));
    let leases = [alone.lease(), served.lease()];
    let pids = || leases.iter().flat_map(|lease| windlass.container_pids(lease)).collect::<Vec<_>>();
    let before = pids();
    assert!(before.len() >= 5, "two inits with a shell each, and a service: {before:?}");
    let below = if windlass.rootful {
        "/windlass.slice/windlass-jobs.slice/".to_owned()
    } else {
        let uid = User::from_name("windlass").unwrap().unwrap().uid;
        format!("/user.slice/user-{uid}.slice/user@{uid}.service/")
    };
    for pid in &before {
        // A shell's child may be gone.
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        assert!(cgroup.is_empty() || cgroup.contains(&below), "{cgroup}");
    }
    the_pages_commands_show_the_job(windlass, &alone);
    let still_there = || {
        assert!(calls.iter().all(|call| call.is_running()));
        until("the jobs are seen", PATIENCE, || windlass.property("StatusText") == "2/10 slots busy");
        until("nothing but the daemon is in its cgroup", PATIENCE, || {
            windlass.pid().is_some_and(|pid| windlass.own_pids() == [pid])
        });
    };
    still_there();
    windlass.restart();
    still_there();
    windlass.crash();
    still_there();
    // One that hangs gives no sign of life.
    let hanging = windlass.pid().unwrap();
    kill(Pid::from_raw(hanging), Signal::SIGSTOP).unwrap();
    windlass.wait_for_another(hanging);
    assert!(windlass.journal(&[]).contains("Watchdog timeout"), "{}", windlass.journal(&[]));
    still_there();
    // Their shells' own children come and go.
    let after: BTreeSet<i32> = pids().into_iter().collect();
    let inits = before.iter().filter(|pid| after.contains(pid)).count();
    assert!(inits >= 5, "{before:?} before, {after:?} after");
    for lease in &leases {
        let told = windlass.in_job(lease, &["touch", "/builds/go"]);
        assert!(told.status.success(), "{}", text(&told));
    }
    let [of_alone, of_served] = calls;
    of_alone.wait().expect_code(0).expect_text("started\nwhole");
    of_served.wait().expect_code(0).expect_text("started\nwhole").expect_text("root:x:0:0");
    for attempt in [alone, served] {
        attempt.finish();
    }
    fs::remove_file("/etc/systemd/system/windlass.service.d/90-test.conf").unwrap();
    windlass.systemctl(&["daemon-reload"]);
    windlass.restart();
}

/// A command as a page has it, typed by root, who may lack sudo.
fn typed(page: &str, command: &str) -> String {
    let text = fs::read_to_string(source(page)).unwrap();
    assert!(text.contains(command), "{page} has no {command:?}");
    run(Command::new("bash").args(["-euo", "pipefail", "-c", command.trim_start_matches("sudo ")]))
}

/// What the pages tell to look with, while this job and another run.
fn the_pages_commands_show_the_job(windlass: &Installed, attempt: &Attempt<'_>) {
    let figures = "curl --unix-socket /run/windlass/admin.sock http://windlass/metrics";
    until("both slots are counted", PATIENCE, || {
        let shown = typed("docs/watching.md", figures);
        assert!(shown.contains("# EOF"), "all figures:\n{shown}");
        shown.lines().any(|line| line == "windlass_slots{profile=\"connected\",state=\"busy\"} 2")
    });
    if !windlass.rootful {
        let list = "sudo systemd-run --pipe --uid=windlass podman ps";
        for page in ["docs/service.md", "docs/troubleshooting.md"] {
            let shown = typed(page, list);
            assert!(shown.contains(&format!("windlass-{}-job", &attempt.lease()[..12])), "{shown}");
        }
    }
    let job = attempt.job().id.to_string();
    let opened = windlass.windlass(&["shell", &job, "--", "true"]);
    assert!(opened.status.success(), "{}", text(&opened));
    let shown =
        typed("docs/troubleshooting.md", "journalctl -u windlass JOB=4711 -o verbose --output-fields=MESSAGE,BY");
    assert!(!shown.contains("a shell"), "no job has that number:\n{shown}");
    let said = |part: &str| {
        let shown = windlass.journal(&[&format!("JOB={job}"), "--output=json", "--output-fields=MESSAGE,BY"]);
        let mut entries = shown.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let has =
            |entry: &Value, field: &str, part: &str| entry[field].as_str().is_some_and(|text| text.contains(part));
        entries.any(|entry| has(&entry, "MESSAGE", part) && has(&entry, "BY", "root (uid 0)"))
    };
    until("the journal says who has opened it", PATIENCE, || said("a shell is opened in the job's container"));
    until("and that it has ended", PATIENCE, || said("the shell has ended with exit code 0"));
}

fn a_stopped_daemon_is_started_by_its_callers(windlass: &Installed, image: &str) {
    windlass.systemctl(&["stop", "windlass.service"]);
    assert_eq!(windlass.pid(), None);
    let runner = Runner::on(windlass);
    // The daemon's limits are no job's.
    let outcome = runner.play(&Job::new(image).script(&["ulimit -c unlimited", "echo hello"]));
    outcome.expect(State::Success).expect_log("hello");
    assert!(!outcome.log().contains("aiting for windlassd"), "the socket has kept the call: {}", outcome.log());
    assert!(windlass.pid().is_some());
}

fn a_reload_is_seen_and_a_wrong_one_refused(windlass: &Installed) {
    let reload = || windlass.systemctl(&["reload", "windlass.service"]);
    let told = |part: &str| windlass.property("StatusText").contains(part);
    let waits = waits_for_a_reload();
    let status = |part: &str| if waits { assert!(told(part), "{part}") } else { until(part, PATIENCE, || told(part)) };
    windlass.configure("60-slots.toml", "slots = 5\n");
    reload();
    status("0/7 slots busy");
    windlass.configure("70-wrong.toml", "[job]\ngrace = \"soon\"\n");
    let refused = Command::new("systemctl").args(["reload", "windlass.service"]).status().unwrap();
    assert_eq!(refused.success(), waits, "a systemd that waits for the daemon does not learn what comes of it");
    assert_eq!(windlass.property("ActiveState"), "active");
    status("the changed configuration is refused");
    assert!(windlass.journal(&[]).contains("/etc/windlass/conf.d/70-wrong.toml:2:9: job.grace:"));
    fs::remove_file("/etc/windlass/conf.d/70-wrong.toml").unwrap();
    fs::remove_file("/etc/windlass/conf.d/60-slots.toml").unwrap();
    reload();
    until("all is as before", PATIENCE, || windlass.property("StatusText") == "0/10 slots busy");
    // One that does not start with it is not started again and again.
    windlass.configure("70-wrong.toml", "[job]\ngrace = \"soon\"\n");
    let output = Command::new("systemctl").args(["restart", "windlass.service"]).output().unwrap();
    assert!(!output.status.success());
    assert_eq!((windlass.property("ExecMainStatus"), windlass.property("NRestarts")), ("78".into(), "0".into()));
    fs::remove_file("/etc/windlass/conf.d/70-wrong.toml").unwrap();
    windlass.systemctl(&["start", "windlass.service"]);
}

fn the_journal_can_be_asked_for_a_job(windlass: &Installed, image: &str) {
    let runner = Runner::on(windlass);
    let job = Job::new(image).project(4711, "some/where").script(&["(exit 3)"]);
    runner.play(&job).expect(State::script_failure(3));
    let id = format!("JOB={}", job.id);
    let messages = |arguments: &[&str]| {
        let shown = windlass.journal(&[&["--output=cat"], arguments].concat());
        shown.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = [&id, "PROJECT=some/where", "SLOT=default/0", "PIPELINE=1"];
    until("the journal has it", PATIENCE, || messages(&all).len() >= 3);
    // Another profile's first slot is another slot.
    let other = Job::new(image).profile("connected");
    runner.play(&other).expect(State::Success);
    let of_other = |slot: &str| messages(&[&format!("JOB={}", other.id), slot]).len();
    until("the journal has the other", PATIENCE, || of_other("SLOT=connected/0") >= 3);
    assert_eq!(of_other("SLOT=default/0"), 0);
    let slot = format!("job {} of some/where has slot default/0", job.id);
    assert!(messages(&all).contains(&slot), "{:?}", messages(&all));
    let stage = messages(&[&id, "STAGE=build_script"]);
    assert!(stage.len() == 1 && stage[0].contains("has ended with exit code 3"), "{stage:?}");
    assert_eq!(messages(&["PROJECT=no/where"]).concat().matches("job").count(), 0);
}
