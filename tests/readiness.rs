//! Services: when they are ready, how long that is waited for, and what they say.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use support::host::SharedHost;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, State, until};

static HOST: SharedHost = SharedHost::new("");

/// An image with these lines of a Containerfile, which exposes a port where nobody listens; the test removes it.
fn checked(host: &Host, lines: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("localhost/windlass-{}/checked:{number}", std::process::id());
    let directory = tempfile::tempdir().unwrap();
    let file = format!("FROM {}\nEXPOSE 9/tcp\n{lines}\n", host.image(&Image::busybox()));
    std::fs::write(directory.path().join("Containerfile"), file).unwrap();
    let path = directory.path().to_str().unwrap();
    let built = host.podman(&["build", "--quiet", "--format", "docker", "--network", "none", "--tag", &name, path]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    name
}

#[test]
fn a_service_that_ends_is_named_with_its_last_words_and_the_job_goes_on_unless_it_is_required() {
    let host = Host::configured("[job]\nwait_for_services = '20s'\n[profile.strict.job]\nservices_required = true");
    let broken = Image::busybox().expose(9).cmd(&["sh", "-c", "echo no configuration >&2; exit 3"]);
    let (image, job) = (host.image(&broken), host.image(&Image::busybox()));
    let job = || Job::new(&job).with("services", json!([{"name": image, "alias": "broken"}]));
    let runner = Runner::new(&host);
    let outcome = runner.play(&job());
    outcome.expect(State::Success).expect_log("service broken").expect_log("exited, exit code 3");
    outcome.expect_log("[service broken] no configuration");
    let outcome = runner.play(&job().profile("strict"));
    outcome.expect_log("not ready: broken (services_required");
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    // There is nothing to wait for with one that has no port; that it has failed is seen.
    let portless = Image::busybox().cmd(&["sh", "-c", "echo no license >&2; exit 4"]);
    let well = Image::busybox().cmd(&["true"]);
    let (portless, well, job) = (host.image(&portless), host.image(&well), host.image(&Image::busybox()));
    let services = json!([{"name": well, "alias": "well"}, {"name": portless, "alias": "portless"}]);
    let job = || Job::new(&job).with("services", services.clone());
    let outcome = runner.play(&job());
    outcome.expect(State::Success).expect_log(", exit code 4").expect_log("[service portless] no license");
    assert!(!outcome.log().contains("service well"), "{}", outcome.log());
    runner.play(&job().profile("strict")).expect_log("not ready: portless (services_required");
}

#[test]
fn a_service_is_waited_for_until_one_of_its_lowest_twenty_ports_opens_and_a_warning_if_none_does() {
    let host = Host::configured("[job]\nwait_for_services = '3s'");
    let serves = ["httpd", "-f", "-p", "8080", "-h", "/etc"];
    let late = Image::busybox().expose(8080).cmd(&["sh", "-c", "sleep 1; exec httpd -f -p 8080 -h /tmp"]);
    let second = Image::busybox().expose(1).expose(8080).cmd(&serves);
    let last = (1..=20).fold(Image::busybox().expose(8080), Image::expose).cmd(&serves);
    let never = Image::busybox().expose(8080).cmd(&["sleep", "1000"]);
    let services = [(&late, "late"), (&second, "second"), (&last, "last"), (&never, "never")];
    let services = services.map(|(image, alias)| json!({"name": host.image(image), "alias": alias}));
    let job = Job::new(&host.image(&Image::busybox()))
        .with("services", json!(services))
        .script(&["echo open: $(wget -q -O - http://last:8080/hostname)"]);
    let outcome = Runner::new(&host).play(&job);
    outcome
        .expect(State::Success)
        .expect_log("Service late is ready after")
        .expect_log("Service second is ready after");
    // That the twenty-first is open has not counted.
    outcome.expect_log("Warning: service last (").expect_log("\nopen: last\n");
    outcome.expect_log("Warning: service never (").expect_log("it is running");
}

#[test]
fn an_image_with_a_healthcheck_is_asked_for_its_health_with_the_services_variables() {
    let host = HOST.get();
    let base = host.image(&Image::busybox());
    let name = checked(
        &host,
        "HEALTHCHECK CMD test \"$ANSWER\" = 42 && test -e /tmp/up\nCMD [\"sh\", \"-c\", \"sleep 1; touch /tmp/up; exec sleep 1000\"]",
    );
    let services = json!([{"name": name, "alias": "app", "variables": [{"key": "ANSWER", "value": "42"}]}]);
    let job = Job::new(&base).with("services", services);
    Runner::new(&host).play(&job).expect(State::Success).expect_log("Service app is ready after");
    host.podman(&["rmi", &name]);
}

#[test]
fn the_variable_for_the_port_beats_what_the_image_exposes() {
    let host = HOST.get();
    let image = Image::busybox().expose(1).cmd(&["httpd", "-f", "-p", "8081", "-h", "/tmp"]);
    let services = json!([{"name": host.image(&image), "alias": "web", "variables": [{"key": "HEALTHCHECK_TCP_PORT", "value": "8081"}]}]);
    let job = Job::new(&host.image(&Image::busybox())).with("services", services);
    Runner::new(&host).play(&job).expect(State::Success).expect_log("Service web is ready after");
}

#[test]
fn what_services_say_is_in_the_job_log_when_the_job_wants_that() {
    let host = HOST.get();
    let talks = Image::busybox().cmd(&["sh", "-c", "echo starting; until test -e /tmp/stop; do sleep 0.1; done"]);
    let (image, base) = (host.image(&talks), host.image(&Image::busybox()));
    let job = || Job::new(&base).with("services", json!([{"name": image, "alias": "talker"}]));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job().variable("CI_DEBUG_SERVICES", "true"));
    attempt.configure().expect_code(0);
    attempt.prepare().wait().expect_code(0);
    let stage = attempt.run_lines("build_script", "while ! test -e /tmp/go; do sleep 0.05; done\n");
    stage.wait_for_output("[service talker] starting");
    stage.terminate();
    stage.wait();
    attempt.finish();
    let outcome = runner.play(&job());
    outcome.expect(State::Success);
    assert!(!outcome.log().contains("[service talker]"), "{}", outcome.log());
}

#[test]
fn a_check_of_health_that_hangs_ends_in_its_own_time_and_holds_up_neither_the_wait_nor_other_services() {
    let host = Host::configured("[job]\nwait_for_services = '6s'");
    let hangs = checked(&host, "HEALTHCHECK --timeout=1s CMD sleep 54321\nCMD [\"sleep\", \"1000\"]");
    let stuck = checked(&host, "HEALTHCHECK CMD sleep 54321\nCMD [\"sleep\", \"1000\"]");
    let well = checked(
        &host,
        "HEALTHCHECK CMD test -e /tmp/up\nCMD [\"sh\", \"-c\", \"sleep 1; touch /tmp/up; exec sleep 1000\"]",
    );
    let names = [(&hangs, "hangs"), (&stuck, "stuck"), (&well, "well")];
    let services = names.map(|(image, alias)| json!({"name": image, "alias": alias}));
    let job = Job::new(&host.image(&Image::busybox())).with("services", json!(services));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.configure().expect_code(0);
    let prepared = attempt.prepare().wait();
    prepared.expect_code(0).expect_text("Service well is ready after");
    for name in ["hangs", "stuck"] {
        let line = format!("Warning: service {name} ");
        let text = prepared.text();
        let line = text.lines().find(|text| text.starts_with(&line)).unwrap_or_else(|| panic!("{text}"));
        let after = line.split("is not ready after ").nth(1).unwrap().split("s;").next().unwrap();
        assert!((6.0..12.0).contains(&after.parse::<f64>().unwrap()), "{line}");
    }
    let lease = attempt.lease();
    let containers = host.containers(&format!("io.windlass.lease={}", &lease[..12]));
    until("no check of health runs on", seconds(10), || {
        let commands = containers.iter().map(|container| host.podman(&["top", container, "args"]));
        !commands.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).any(|text| text.contains("54321"))
    });
    attempt.finish();
    host.podman(&["rmi", &hangs, &stuck, &well]);
}

#[test]
fn a_wait_for_services_ends_with_the_job() {
    let host = Host::configured("[job]\nwait_for_services = '10m'");
    let stuck = checked(&host, "HEALTHCHECK --timeout=9m CMD sleep 1000\nCMD [\"sleep\", \"1000\"]");
    let job = Job::new(&host.image(&Image::busybox())).with("services", json!([{"name": stuck, "alias": "stuck"}]));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.configure().expect_code(0);
    let prepare = attempt.prepare();
    prepare.wait_for_output("Waiting for services to be ready: stuck");
    prepare.terminate();
    prepare.wait();
    // Waits until the lease is gone, which takes seconds and not what the check may take.
    attempt.finish();
    host.podman(&["rmi", &stuck]);
}

#[test]
fn a_job_goes_on_when_nobody_can_look_whether_its_services_are_ready() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let podman = dir.path().join("podman");
    let script = "#!/bin/sh\ncase \"$1 $*\" in exec\\ *\\ connect\\ *) echo 'Error: no sessions today' >&2; exit 125 ;; esac\nexec podman \"$@\"\n";
    std::fs::write(&podman, script).unwrap();
    for path in [dir.path(), &podman] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let host = Host::configured(&format!(
        "[podman]\ncommand = '{}'\n[job]\nexec = 'podman'\nwait_for_services = '3s'\n[profile.strict.job]\nservices_required = true",
        podman.display()
    ));
    let service = host.image(&Image::busybox().expose(8080).cmd(&["httpd", "-f", "-p", "8080"]));
    let base = host.image(&Image::busybox());
    let job = || Job::new(&base).with("services", json!([{"name": service, "alias": "web"}]));
    let runner = Runner::new(&host);
    let outcome = runner.play(&job());
    outcome
        .expect(State::Success)
        .expect_log("whether services are ready can't be looked at")
        .expect_log("no sessions today");
    outcome.expect_log("Warning: service web ");
    assert_eq!(outcome.log().matches("no sessions today").count(), 1, "it is said once: {}", outcome.log());
    // Where services are required, that is nothing that the job has done.
    let strict = runner.play(&job().profile("strict"));
    strict.expect(State::system_failure()).expect_log("can't be looked at: web: ");
}

#[test]
fn of_a_line_of_a_service_that_does_not_end_the_job_log_has_the_beginning() {
    let host = HOST.get();
    let talks = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo a word after it; exec sleep 1000";
    let image = host.image(&Image::busybox().cmd(&["sh", "-c", talks]));
    let job = Job::new(&host.image(&Image::busybox())).with("services", json!([{"name": image, "alias": "talker"}]));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job.variable("CI_DEBUG_SERVICES", "true"));
    attempt.configure().expect_code(0);
    attempt.prepare().wait().expect_code(0);
    let stage = attempt.run_lines("build_script", "while ! test -e /tmp/go; do sleep 0.05; done\n");
    stage.wait_for_output("[service talker] a word after it");
    stage.terminate();
    let said = stage.wait().text();
    assert!(said.contains("[service talker] xxxx") && said.contains("the rest is left out"), "{said:.2000}");
    assert!(said.lines().all(|line| line.len() < 5000), "a line is longer");
    attempt.finish();
}
