//! Services: names, ports, variables, and what is left of them.

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
fn two_services_on_one_port_are_reached_by_all_their_names_from_the_job() {
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
fn a_service_without_an_alias_is_reached_by_the_names_that_its_image_gives_it() {
    let host = HOST.get();
    let (image, own) = (host.image(&server()), std::process::id());
    // A registry's port, as a tag and a digest, is part of no name; `db-1:16` is docker.io's.
    let full = format!("registry.example.com:5000/group-{own}/my_db:16");
    let short = format!("db-{own}:16");
    let stored = format!("docker.io/library/{short}");
    assert!(host.podman(&["tag", &image, &full, &stored]).status.success());
    let names = format!("registry.example.com__group-{own}__my_db registry.example.com-group-{own}-my_db db-{own}");
    let job = Job::new(&host.image(&Image::busybox()))
        .with("services", json!([{"name": full}, {"name": short}]))
        .script(&[&format!("for name in {names}; do wget -q -O - http://$name:8080/name; done")]);
    let outcome = Runner::new(&host).play(&job);
    let first = format!("registry.example.com__group-{own}__my_db");
    outcome.expect(State::Success).expect_log(&format!("\n{first}\n{first}\ndb-{own}\n"));
    assert!(!outcome.log().contains("Warning: service"), "{}", outcome.log());
    host.podman(&["rmi", &full, &stored]);
}

#[test]
fn names_and_aliases_lead_to_services_from_the_helper_and_from_other_services_too() {
    let host = Host::start();
    let helper = host.image(&Image::git());
    host.configure(&format!("[job.helper]\nmode = 'image'\nimage = '{helper}'"));
    host.crash_daemon();
    // Each serves its own name, and what the other says by each of its names.
    let asks = "mkdir /tmp/www && hostname >/tmp/www/name && httpd -p 8080 -h /tmp/www; \
        for name in $OTHERS; do until wget -q -O - http://$name:8080/name >>/tmp/www/got.new; do sleep 0.1; done; done; \
        mv /tmp/www/got.new /tmp/www/got; exec sleep 1000";
    let image = host.image(&Image::busybox().expose(8080).cmd(&["sh", "-c", asks]));
    let service = |alias: &str, others: &str| json!({"name": image, "alias": alias, "variables": [{"key": "OTHERS", "value": others}]});
    let services = json!([service("db database", "cache memory"), service("cache memory", "db database")]);
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())).with("services", services));
    attempt.make_ready();
    let fetch = "get() { exec 3<>/dev/tcp/$1/8080; printf 'GET %s HTTP/1.0\\r\\n\\r\\n' $2 >&3; tail -n 1 <&3; }\n\
        command -v git; for name in db database cache memory; do get $name /name; done\n";
    let from_helper = attempt.run_lines("get_sources", fetch).wait();
    from_helper.expect_code(0).expect_text("/git\ndb\ndb\ncache\ncache\n");
    let ask = "for name in db memory; do until wget -q -O - http://$name:8080/got; do sleep 0.1; done; done\n";
    attempt.run_lines("build_script", ask).wait().expect_code(0).expect_text("cache\ncache\ndb\ndb\n");
    attempt.finish();
}

#[test]
fn services_of_the_configuration_and_their_own_entrypoint_and_user() {
    let host = Host::start();
    let image = host.image(&server());
    let line =
        "mkdir /tmp/www && echo \"$WORD of $(id -u):$(id -g), $0\" >/tmp/www/said && exec httpd -f -p 8080 -h /tmp/www";
    host.configure(&format!(
        "[job]\nservices_limit = 2\n[[job.services]]\nimage = '{image}'\naliases = ['always']\n\
         entrypoint = ['/bin/sh', '-c', '{line}', 'entered']\nenvironment = {{ WORD = 'configured' }}"
    ));
    host.crash_daemon();
    let own = json!({
        "name": image, "alias": "own", "entrypoint": ["/bin/sh", "-c", line], "command": ["commanded"],
        "variables": [{"key": "WORD", "value": "asked"}], "executor_opts": {"docker": {"user": "1234:4321"}},
    });
    let ask = "for name in always own; do wget -q -O - http://$name:8080/said; done";
    let base = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new(&base).with("services", json!([own])).script(&[ask]));
    outcome.expect(State::Success).expect_log("configured of 0:0, entered\nasked of 1234:4321, commanded\n");
    // Without services of its own a job has the configuration's, which count for its limit.
    let alone = runner.play(&Job::new(&base).script(&["wget -q -O - http://always:8080/said"]));
    alone.expect(State::Success).expect_log("configured of 0:0, entered\n");
    runner.play(&Job::new(&base).with("services", json!([own, own]))).expect_log("services_limit");
}

#[test]
fn proxies_of_podmans_environment_and_the_daemons_reach_no_container_and_the_administrators_do() {
    let proxies = "http_proxy = 'http://podmans.example.invalid:1'\nHTTPS_PROXY = 'http://podmans.example.invalid:2'\nNO_PROXY = 'podmans.example.invalid'";
    let variables = ["http_proxy", "HTTPS_PROXY", "no_proxy"]
        .map(|name| (name.to_owned(), "http://daemons.example.invalid".to_owned()));
    let host = Host::with_environment(
        &format!(
            "[podman.environment]\n{proxies}\n[profile.proxied.job]\nenvironment = {{ FTP_PROXY = 'http://jobs.example.invalid' }}"
        ),
        variables.into(),
    );
    let image = host.image(&server());
    let base = host.image(&Image::busybox());
    let job = || Job::new(&base).with("services", json!([{"name": image, "alias": "db"}]));
    let runner = Runner::new(&host);
    for (profile, expected) in [(None, 0), (Some("proxied"), 2)] {
        let mut attempt = runner.attempt(&Job { profile: profile.map(str::to_owned), ..job() });
        attempt.make_ready();
        let lease = attempt.lease();
        let seen = attempt.run_lines("build_script", "env; env -u http_proxy wget -q -O - http://db:8080/env\n").wait();
        seen.expect_code(0);
        let containers = host.containers(&format!("io.windlass.lease={}", &lease[..12]));
        assert_eq!(containers.len(), 2);
        let inspected =
            host.podman(&[&["inspect"], &containers.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
        for text in [seen.text(), String::from_utf8_lossy(&inspected.stdout).into_owned()] {
            assert!(!text.contains("podmans.example") && !text.contains("daemons.example"), "{text}");
        }
        assert_eq!(seen.text().matches("FTP_PROXY=http://jobs.example.invalid").count(), expected, "{}", seen.text());
        attempt.finish();
    }
}

#[test]
fn a_service_sees_public_variables_and_its_own_and_none_is_in_podman_inspect() {
    let host = HOST.get();
    let image = host.image(&server());
    let job =
        Job::new(&host.image(&Image::busybox())).variable("COLOR", "green").secret("DEPLOY_KEY", "k3y-s3cret").with(
            "services",
            json!([{"name": image, "alias": "db", "variables": [
                {"key": "PASSWORD", "value": "pass-$COLOR-w0rd"}, {"key": "GIVEN", "value": "<$DEPLOY_KEY>"}]}]),
        );
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let lease = attempt.lease();
    let environment = attempt.run_lines("build_script", "wget -q -O - http://db:8080/env\n").wait();
    environment.expect_code(0).expect_text("COLOR=green").expect_text("PASSWORD=pass-green-w0rd");
    // What the job's author writes into the service's own he has asked for.
    environment.expect_text("GIVEN=<k3y-s3cret>");
    assert!(!environment.text().contains("DEPLOY_KEY"), "{}", environment.text());
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
fn what_the_rules_forbid_fails_the_job_with_the_rules_name() {
    let host = Host::configured(
        "[job]\nservices_limit = 1\nallowed_services = ['localhost/windlass/busybox']\nallowed_images = ['localhost/windlass/*']\nallowed_pull_policies = ['never']",
    );
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let refused = |job: Job, words: &str| runner.play(&job).expect_refused(words);
    refused(Job::new(&image).with("services", json!([{"name": "redis:7"}])), "allowed_services of [job]");
    refused(Job::new(&image).with("services", json!([{"name": image}, {"name": image}])), "services_limit");
    refused(Job::new("LOCALHOST/other/busybox:1"), "allowed_images of [job]");
    let pulled = |policy: &str| Job::new(&image).with("services", json!([{"name": image, "pull_policy": [policy]}]));
    refused(pulled("always"), "pull_policy always is not allowed: allowed_pull_policies of [job] has never");
    refused(pulled("sometimes"), "\"sometimes\" is no pull_policy");
    runner.play(&pulled("never")).expect(State::Success);
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
