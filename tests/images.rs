//! Images: their shells, users and entrypoints, and those that cannot be had.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::host::SharedHost;
use support::registry::{Registry, free_port};
use support::wait::seconds;
use support::{Host, Image, Job, Runner, State};

static HOST: SharedHost = SharedHost::new("");

/// Runs one script in an image and returns what the stage printed.
fn printed(image: &Image, job: impl FnOnce(Job) -> Job, script: &str) -> String {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job(Job::new(&host.image(image))));
    attempt.make_ready();
    let finished = attempt.run_lines("build_script", script).wait();
    finished.expect_code(0);
    attempt.finish();
    finished.text()
}

#[test]
fn bash_is_taken_where_there_is_one_and_sh_elsewhere() {
    let script = "echo \"shell ${BASH_VERSION:+bash}\"\n";
    assert_eq!(printed(&Image::git(), |job| job, script), "shell bash\n");
    assert_eq!(printed(&Image::busybox(), |job| job, script), "shell \n");
}

#[test]
fn stages_run_as_the_user_of_the_image() {
    let script = "id -u; id -g; id -G; echo $HOME; touch /builds/group/project/file && ls -n /builds/group/project | awk '/file/ {print $3}'\n";
    assert_eq!(printed(&Image::busybox().user("app"), |job| job, script), "1234\n1234\n1234 4321\n/home/app\n1234\n");
    assert_eq!(printed(&Image::git().user("1234:4321"), |job| job, "id -u; id -g\n"), "1234\n4321\n");
    assert_eq!(printed(&Image::busybox().user("5555"), |job| job, "id -u; id -g\n"), "5555\n0\n");
}

#[test]
fn the_variables_of_the_image_are_there() {
    let image = Image::busybox().env("GREETING=hello").env("PATH=/bin:/usr/bin:/opt/bin");
    assert_eq!(printed(&image, |job| job, "echo $GREETING $PATH\n"), "hello /bin:/usr/bin:/opt/bin\n");
}

#[test]
fn the_entrypoint_of_the_image_runs_before_each_stages_shell() {
    let image = Image::busybox().entrypoint(&["/bin/sh", "-c", "echo entered; exec \"$@\"", "entry"]);
    assert_eq!(printed(&image, |job| job, "echo script\n"), "entered\nscript\n");
    // `image: entrypoint: [""]` in the job clears it, another one replaces it.
    assert_eq!(printed(&image, |job| job.entrypoint(&[""]), "echo script\n"), "script\n");
    let other = ["/bin/sh", "-c", "echo mine; exec \"$@\"", "entry"];
    assert_eq!(printed(&image, |job| job.entrypoint(&other), "echo script\n"), "mine\nscript\n");
}

#[test]
fn an_image_from_scratch_is_refused_because_it_has_no_shell() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new(&host.image(&Image::scratch())));
    outcome.expect_log("shell");
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    assert_eq!(outcome.names(), ["config", "prepare", "cleanup"], "another attempt would not help");
}

#[test]
fn a_user_that_the_image_does_not_have_is_named() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new(&host.image(&Image::busybox().user("nobody-there"))));
    outcome.expect_log("nobody-there");
    assert_eq!(outcome.names(), ["config", "prepare", "cleanup"]);
}

#[test]
fn an_image_that_is_not_on_the_host_and_may_not_be_pulled_is_named() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new("localhost/windlass/not-there:latest"));
    outcome.expect_log("localhost/windlass/not-there:latest").expect_log("never");
    assert_eq!(outcome.names(), ["config", "prepare", "cleanup"]);
}

#[test]
fn a_job_without_image_gets_the_default_image_or_is_told_that_there_is_none() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut job = Job::new("");
    let outcome = runner.play(&job);
    outcome.expect_log("names no image");
    assert_eq!(outcome.names(), ["config", "prepare", "cleanup"]);
    drop(runner);
    let image = host.image(&Image::busybox());
    let host = Host::configured(&format!("[job]\ndefault_image = \"{image}\""));
    job.id += 500;
    Runner::new(&host)
        .play(&job.script(&["echo in the default image"]))
        .expect(State::Success)
        .expect_log("in the default image");
}

/// A host that pulls from this registry.
fn pulling(registry: &Registry) -> Host {
    let conf = registry.registries_conf().display().to_string();
    Host::configured(&format!(
        "[job]\npull_policy = \"if-not-present\"\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = \"{conf}\""
    ))
}

#[test]
fn an_image_that_the_registry_does_not_have_fails_the_job_once_in_the_registrys_words() {
    let Some(registry) = Registry::open() else { return };
    let host = pulling(&registry);
    let outcome = Runner::new(&host).play(&Job::new(&registry.image("group/missing:1")));
    outcome.expect_log(&registry.image("group/missing:1")).expect_log("manifest unknown");
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    assert_eq!(outcome.names(), ["config", "prepare", "cleanup"], "another attempt would not help");
    assert!(registry.manifest_requests() <= 2, "{} requests for the manifest", registry.manifest_requests());
}

#[test]
fn an_image_that_the_registry_keeps_from_us_fails_the_job_once_in_the_registrys_words() {
    let Some(registry) = Registry::with_passwords() else { return };
    let host = pulling(&registry);
    let outcome = Runner::new(&host).play(&Job::new(&registry.image("group/private:1")));
    outcome.expect_log(&registry.image("group/private:1")).expect_log("authentication required");
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    assert_eq!(outcome.names(), ["config", "prepare", "cleanup"], "another attempt would not help");
    assert!(registry.requests() <= 6, "{} requests to the registry", registry.requests());
}

#[test]
fn a_registry_that_cannot_be_reached_is_a_system_failure() {
    let host = Host::configured("[job]\npull_policy = \"if-not-present\"");
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&format!("127.0.0.1:{}/group/image:1", free_port())));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(seconds(60)).expect_code(2).expect_text("connection refused");
    attempt.finish();
}

#[test]
fn an_image_is_pulled_once_for_jobs_that_want_it_at_the_same_time() {
    let Some(registry) = Registry::open() else { return };
    let host = pulling(&registry);
    let (source, target) = (host.image(&Image::busybox()), registry.image("group/busybox:1"));
    let push =
        host.storage.command().args(["push", "--quiet", "--tls-verify=false", &source, &target]).output().unwrap();
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    let before = registry.manifest_requests();
    let runner = Runner::new(&host);
    let mut attempts: Vec<_> = (0..3).map(|_| runner.attempt(&Job::new(&target))).collect();
    for attempt in &mut attempts {
        attempt.configure().expect_code(0);
    }
    let calls: Vec<_> = attempts.iter().map(support::Attempt::prepare).collect();
    for call in calls {
        call.wait().expect_code(0).expect_text(&target);
    }
    let requests = registry.manifest_requests() - before;
    assert!(requests <= 2, "{requests} requests for the manifest");
    for attempt in attempts {
        attempt.finish();
    }
    host.podman(&["rmi", &target]);
}

#[test]
fn the_administrators_user_comes_before_the_jobs_unless_a_list_says_whom_jobs_may_choose() {
    let host = Host::configured("[job]\nuser = '1234:4321'");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let job = || Job::new(&image).script(&["id -u; id -g"]);
    runner.play(&job()).expect(State::Success).expect_log("\n1234\n4321\n");
    let as_user = |user: &str| serde_json::json!({"name": image, "executor_opts": {"docker": {"user": user}}});
    let outcome = runner.play(&job().with("image", as_user("0")));
    outcome.expect(State::Success).expect_log("\n1234\n4321\n");
    outcome.expect_log("the job asks for user 0, and runs as 1234:4321");
    host.configure("[job]\nuser = '1234:4321'\nallowed_users = ['0', '77']");
    host.crash_daemon();
    runner.play(&job()).expect(State::Success).expect_log("\n1234\n4321\n");
    runner.play(&job().with("image", as_user("0"))).expect(State::Success).expect_log("\n0\n0\n");
    // The job's variables are in it, as everywhere in an image.
    let chosen = job().with("image", as_user("$APP_UID")).variable("APP_UID", "77");
    runner.play(&chosen).expect(State::Success).expect_log("\n77\n0\n");
    let outcome = runner.play(&job().with("image", as_user("${APP_UID}")).variable("APP_UID", "78"));
    outcome.expect_log("user 78 is not allowed: allowed_users of [job] has 0, 77");
}

#[test]
fn the_administrators_own_images_are_allowed_by_their_names_too() {
    let host = Host::start();
    let (own, other) = (host.image(&Image::busybox()), host.image(&Image::busybox().env("OTHER=1")));
    host.configure(&format!(
        "[job]\nnetwork = 'private'\ndefault_image = '{own}'\nallowed_images = ['nothing/like/it']\nallowed_services = ['nothing/like/it']\n\
         [[job.services]]\nimage = '{own}'\naliases = ['first']\ncommand = ['sleep', '1000']\n"
    ));
    host.crash_daemon();
    let runner = Runner::new(&host);
    let service = |image: &str| serde_json::json!([{"name": image, "alias": "second", "command": ["sleep", "1000"]}]);
    runner.play(&Job::new(&own).with("services", service(&own))).expect(State::Success);
    runner.play(&Job::new(&other)).expect_log("is not allowed: allowed_images of [job]");
    runner
        .play(&Job::new(&own).with("services", service(&other)))
        .expect_log("is not allowed: allowed_services of [job]");
}

#[test]
fn a_platform_that_this_host_cannot_run_is_named() {
    use std::process::{Command, Stdio};
    let host = Host::start();
    let name = format!("localhost/windlass-test/s390x:{}", std::process::id());
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/images.sh");
    let mut tar = Command::new(script).arg("scratch").stdout(Stdio::piped()).spawn().unwrap();
    let mut import = host.storage.command();
    import.args(["import", "--quiet", "--arch", "s390x", "-", &name]).stdin(tar.stdout.take().unwrap());
    assert!(import.output().unwrap().status.success() && tar.wait().unwrap().success());
    let asked = serde_json::json!({"name": name, "executor_opts": {"docker": {"platform": "linux/s390x"}}});
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new(&name).with("image", asked.clone()));
    outcome.expect_refused("is for s390x, which this host can't run");
    let beside = Job::new(&host.image(&Image::busybox())).with("services", serde_json::json!([asked]));
    runner.play(&beside).expect_refused(&format!("image {name} is for s390x, which this host can't run"));
    // One that is there for another platform than the one asked for is as good as none.
    let asked = serde_json::json!({"name": name, "executor_opts": {"docker": {"platform": "linux/amd64"}}});
    let outcome = runner.play(&Job::new(&name).with("image", asked));
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    host.podman(&["rmi", &name]);
}

/// Puts an image for this host and one for another, and an index of both as `group/two:1`, into a registry; the ids of both.
fn push_for_two_platforms(host: &Host, registry: &Registry) -> [String; 2] {
    let podman = |arguments: &[&str]| {
        let output = host.podman(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let own = podman(&["version", "--format", "{{.Client.OsArch}}"]).replace("linux/", "");
    let base = host.image(&Image::busybox());
    let images = [own.as_str(), "s390x"].map(|architecture| {
        let source = format!("localhost/windlass-{}/{architecture}:{}", std::process::id(), registry.port);
        let container = podman(&["create", &base, "true"]);
        let message = format!("LABEL port={}-{architecture}", registry.port);
        podman(&["commit", "--quiet", "--change", &message, &container, &source]);
        podman(&["rm", &container]);
        if architecture != own {
            // The same files under another architecture.
            podman(&["rmi", &source]);
            let mut tar = host.storage.command();
            let container = podman(&["create", &base, "true"]);
            let mut tar = tar.args(["export", &container]).stdout(std::process::Stdio::piped()).spawn().unwrap();
            let mut import = host.storage.command();
            import.args(["import", "--quiet", "--arch", architecture, "--change", &message, "-", &source]);
            assert!(import.stdin(tar.stdout.take().unwrap()).output().unwrap().status.success());
            assert!(tar.wait().unwrap().success());
            podman(&["rm", &container]);
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let (target, digest_file) =
            (registry.image(&format!("group/two:{architecture}")), file.path().to_str().unwrap());
        podman(&[
            "push",
            "--quiet",
            "--format",
            "oci",
            "--tls-verify=false",
            "--digestfile",
            digest_file,
            &source,
            &target,
        ]);
        let id = podman(&["image", "inspect", "--format", "{{.Id}}", &source]);
        podman(&["rmi", &source]);
        (architecture.to_owned(), std::fs::read_to_string(file.path()).unwrap(), id)
    });
    let entries = images.each_ref().map(|(architecture, digest, _)| (architecture.as_str(), digest.as_str()));
    support::pushed::push_index(registry, "group/two", "1", &entries);
    images.map(|(_, _, id)| id)
}

#[test]
fn a_job_that_asks_for_a_platform_leaves_the_tag_to_the_others() {
    let Some(registry) = Registry::open() else { return };
    let host = pulling(&registry);
    let ids = push_for_two_platforms(&host, &registry);
    let name = registry.image("group/two:1");
    let foreign = serde_json::json!({"name": name, "executor_opts": {"docker": {"platform": "linux/s390x"}}});
    let foreign = || Job::new(&name).with("image", foreign.clone());
    let runner = Runner::new(&host);
    for _ in 0..2 {
        runner.play(&foreign()).expect_log("is for s390x, which this host can't run");
        runner.play(&Job::new(&name)).expect(State::Success).expect_log("Pulled image");
        runner.play(&Job::new(&name)).expect(State::Success).expect_log("present on this host");
    }
    // At the same time: each has what it pulled, whoever moved the tag last.
    for _ in 0..3 {
        host.podman(&["rmi", "--force", &name]);
        let mut attempts = [runner.attempt(&foreign()), runner.attempt(&Job::new(&name))];
        for attempt in &mut attempts {
            attempt.configure().expect_code(0);
        }
        let [foreign, own] = attempts.each_ref().map(|attempt| attempt.prepare());
        own.wait_for(seconds(60)).expect_code(0);
        foreign.wait_for(seconds(60)).expect_code(1).expect_text("is for s390x");
        attempts.into_iter().for_each(support::Attempt::finish);
    }
    host.podman(&["rmi", "--force", &ids[0], &ids[1]]);
}
