//! Services: names, ports, readiness, variables, and what is left of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::json;
use support::host::SharedHost;
use support::{Host, Image, Job, Runner, State};

static HOST: SharedHost = SharedHost::new("");

/// A web server on port 8080 that serves its own environment.
fn server() -> Image {
    Image::busybox().expose(8080).cmd(&[
        "sh",
        "-c",
        "mkdir /tmp/www && env >/tmp/www/env && hostname >/tmp/www/name && exec httpd -f -p 8080 -h /tmp/www",
    ])
}

#[test]
fn two_services_on_one_port_are_reached_by_all_their_names_from_job_and_each_other() {
    let host = HOST.get();
    let image = host.image(&server());
    let job = Job::new(&host.image(&Image::busybox()))
        .with("services", json!([{"name": image, "alias": "db, database"}, {"name": image, "alias": "cache"}]))
        .script(&[
            "for name in db database cache; do wget -q -O - http://$name:8080/name; done",
            "grep -c build /etc/hosts",
            "test \"$(grep -w db /etc/hosts | cut -f1)\" != \"$(grep -w cache /etc/hosts | cut -f1)\"",
        ]);
    let runner = Runner::new(&host);
    let outcome = runner.play(&job);
    outcome.expect(State::Success).expect_log("Service db is ready after").expect_log("Service cache is ready after");
    outcome.expect_log("db\ndb\ncache\n");
}

#[test]
fn a_service_sees_public_variables_and_its_own_and_none_is_in_podman_inspect() {
    let host = HOST.get();
    let image = host.image(&server());
    let job =
        Job::new(&host.image(&Image::busybox())).variable("COLOR", "green").secret("DEPLOY_KEY", "k3y-s3cret").with(
            "services",
            json!([{"name": image, "alias": "db", "variables": [
                {"key": "PASSWORD", "value": "pass-$COLOR-w0rd"}, {"key": "STOLEN", "value": "<$DEPLOY_KEY>"}]}]),
        );
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let lease = attempt.lease();
    let environment = attempt.run_lines("build_script", "wget -q -O - http://db:8080/env\n").wait();
    environment.expect_code(0).expect_text("COLOR=green").expect_text("PASSWORD=pass-green-w0rd");
    environment.expect_text("STOLEN=<>");
    assert!(!environment.text().contains("k3y-s3cret"), "{}", environment.text());
    for container in host.containers(&format!("io.windlass.lease={}", &lease[..12])) {
        let inspected = host.podman(&["inspect", &container]);
        let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
        assert!(!text.contains("w0rd") && !text.contains("k3y-s3cret"), "{text}");
    }
    let commands = support::processes::all().into_iter().map(|process| process.command).collect::<Vec<_>>().join("\n");
    assert!(!commands.contains("w0rd") && !commands.contains("k3y-s3cret"), "{commands}");
    attempt.finish();
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
}

#[test]
fn a_service_whose_port_opens_late_is_waited_for_and_one_that_never_does_is_a_warning() {
    let host = Host::configured("[job]\nwait_for_services = '3s'");
    let late = Image::busybox().expose(8080).cmd(&["sh", "-c", "sleep 1; exec httpd -f -p 8080 -h /tmp"]);
    let never = Image::busybox().expose(8080).cmd(&["sleep", "1000"]);
    let job = Job::new(&host.image(&Image::busybox())).with(
        "services",
        json!([{"name": host.image(&late), "alias": "late"}, {"name": host.image(&never), "alias": "never"}]),
    );
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success).expect_log("Service late is ready after");
    outcome.expect_log("service never").expect_log("it is running");
}

#[test]
fn an_image_with_a_healthcheck_is_asked_for_its_health_with_the_services_variables() {
    let host = HOST.get();
    let directory = tempfile::tempdir().unwrap();
    let base = host.image(&Image::busybox());
    let name = format!("localhost/windlass-{}/healthy:1", std::process::id());
    let file = format!(
        "FROM {base}\nEXPOSE 9/tcp\nHEALTHCHECK CMD test \"$ANSWER\" = 42 && test -e /tmp/up\nCMD [\"sh\", \"-c\", \"sleep 1; touch /tmp/up; exec sleep 1000\"]\n"
    );
    std::fs::write(directory.path().join("Containerfile"), file).unwrap();
    let path = directory.path().to_str().unwrap();
    let built = host.podman(&["build", "--quiet", "--format", "docker", "--network", "none", "--tag", &name, path]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
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
fn what_the_rules_forbid_fails_the_job_with_the_rules_name() {
    let host = Host::configured(
        "[job]\nservices_limit = 1\nallowed_services = ['localhost/windlass/busybox']\nallowed_images = ['localhost/windlass/*']",
    );
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let refused = |job: Job, words: &str| {
        let outcome = runner.play(&job);
        outcome.expect_log(words);
        assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
        assert_eq!(outcome.names(), ["config", "prepare", "cleanup"]);
    };
    refused(Job::new(&image).with("services", json!([{"name": "redis:7"}])), "allowed_services of [job]");
    refused(Job::new(&image).with("services", json!([{"name": image}, {"name": image}])), "services_limit");
    refused(Job::new("LOCALHOST/other/busybox:1"), "allowed_images of [job]");
    runner.play(&Job::new(&image)).expect(State::Success);
}

#[test]
fn services_go_with_a_runner_that_is_killed() {
    let host = Host::start();
    let image = host.image(&server());
    let job = Job::new(&host.image(&Image::busybox())).with("services", json!([{"name": image, "alias": "db"}]));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let lease = attempt.lease();
    assert_eq!(host.containers(&format!("io.windlass.lease={}", &lease[..12])).len(), 2);
    runner.kill();
    host.wait_until_gone(&lease);
    assert!(host.containers(&format!("io.windlass.lease={}", &lease[..12])).is_empty());
}

#[test]
fn docker_in_docker_without_its_privilege_is_named() {
    let host = HOST.get();
    let image = host.image(&Image::busybox());
    let tag = format!("localhost/windlass-{}/docker:27-dind", std::process::id());
    assert!(host.podman(&["tag", &image, &tag]).status.success());
    let job = Job::new(&image).with("services", json!([{"name": tag, "command": ["sleep", "1000"]}]));
    Runner::new(&host).play(&job).expect(State::Success).expect_log("needs the host's privileges");
    host.podman(&["rmi", &tag]);
}

#[test]
fn what_services_say_is_in_the_job_log_when_the_job_wants_that() {
    let host = HOST.get();
    let talks = Image::busybox().cmd(&["sh", "-c", "echo starting; until test -e /tmp/stop; do sleep 0.1; done"]);
    let (image, base) = (host.image(&talks), host.image(&Image::busybox()));
    let job = || Job::new(&base).with("services", json!([{"name": image, "alias": "talker"}]));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job().variable("CI_DEBUG_SERVICES", "true"));
    attempt.make_ready();
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
fn a_rootless_job_reaches_its_services_by_name() {
    use std::os::unix::fs::PermissionsExt;
    let tun = std::fs::metadata("/dev/net/tun").map(|about| about.permissions().mode() & 0o006);
    if !matches!(tun, Ok(0o006)) {
        eprintln!("SKIPPED, rootless networks: /dev/net/tun is not there for every user");
        return;
    }
    let Some(host) = Host::rootless("") else { return };
    let image = host.image(&server());
    let job = Job::new(&host.image(&Image::busybox()))
        .with("services", json!([{"name": image, "alias": "db", "variables": [{"key": "WORD", "value": "rootless"}]}]))
        .script(&["wget -q -O - http://db:8080/env | grep WORD"]);
    Runner::new(&host).play(&job).expect(State::Success).expect_log("WORD=rootless");
}

#[test]
fn postgresql_and_redis_serve_one_job_by_name() {
    let Some(image) = Image::databases() else { return };
    let postgres = "set -e; bin=$(echo /usr/lib/postgresql/*/bin); $bin/initdb -D /tmp/data -U postgres --auth=trust --no-locale >/dev/null; \
        echo 'host all all all trust' >>/tmp/data/pg_hba.conf; exec $bin/postgres -D /tmp/data -k /tmp -c \"listen_addresses=*\"";
    let redis = ["/usr/bin/redis-server", "--protected-mode", "no", "--save", "", "--dir", "/tmp"];
    let host = Host::start();
    let database = host.image(&image.clone().user("app").entrypoint(&["/bin/bash", "-c", postgres]).expose(5432));
    let store = host.image(&image.clone().user("app").entrypoint(&redis).expose(6379));
    let services = json!([{"name": database, "alias": "postgres"}, {"name": store, "alias": "redis cache"}]);
    let job = Job::new(&host.image(&image)).with("services", services).script(&[
        "psql=$(echo /usr/lib/postgresql/*/bin/psql)",
        "$psql -h postgres -U postgres -qAt -c 'create table t (n int)' -c 'insert into t values (6), (7)'",
        "$psql -h postgres -U postgres -At -c \"select 'product ' || exp(sum(ln(n)))::numeric::int from t\"",
        "redis-cli -h redis set answer 42",
        "redis-cli -h cache get answer",
    ]);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success).expect_log("\nproduct 42\n").expect_log("\nOK\n").expect_log("\n42\n");
    assert!(!outcome.log().contains("Warning: service"), "both were ready in time: {}", outcome.log());
}

#[test]
fn nothing_of_a_job_has_a_label_of_gitlab_runners() {
    // Its package prunes what carries them, stopped containers and volumes, at each of its upgrades.
    let host = HOST.get();
    let image = host.image(&server());
    let job = Job::new(&host.image(&Image::busybox())).with("services", json!([{"name": image, "alias": "db"}]));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let lease = format!("label=io.windlass.lease={}", &attempt.lease()[..12]);
    let shown = |arguments: &[&str]| String::from_utf8_lossy(&host.podman(arguments).stdout).into_owned();
    let format = "{{range $key, $value := .Labels}}{{$key}}={{$value}} {{end}}";
    let listed = [
        shown(&["ps", "--all", "--filter", &lease, "--format", format]),
        shown(&["network", "ls", "--filter", &lease, "--format", "{{.Labels}}"]),
        shown(&["volume", "ls", "--filter", &lease, "--format", "{{.Labels}}"]),
        shown(&["image", "inspect", "--format", format, job.image.as_deref().unwrap(), &image]),
    ];
    assert_eq!(listed[0].matches("io.windlass.lease=").count(), 2, "{listed:#?}");
    assert!(listed[1].contains("io.windlass.lease"), "{listed:#?}");
    assert!(listed.iter().all(|labels| !labels.contains("com.gitlab")), "{listed:#?}");
    attempt.finish();
}
