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
fn the_administrators_user_is_for_jobs_that_name_none() {
    let host = Host::configured("[job]\nuser = '1234:4321'");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let job = || Job::new(&image).script(&["id -u; id -g"]);
    runner.play(&job()).expect(State::Success).expect_log("\n1234\n4321\n");
    let own = serde_json::json!({"name": image, "executor_opts": {"docker": {"user": "0"}}});
    runner.play(&job().with("image", own)).expect(State::Success).expect_log("\n0\n0\n");
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
    let outcome = runner.play(&Job::new(&name).with("image", asked));
    outcome.expect_log("is for s390x, which this host can't run");
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    // One that is there for another platform than the one asked for is as good as none.
    let asked = serde_json::json!({"name": name, "executor_opts": {"docker": {"platform": "linux/amd64"}}});
    let outcome = runner.play(&Job::new(&name).with("image", asked));
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    host.podman(&["rmi", &name]);
}
