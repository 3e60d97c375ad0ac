//! Registry logins of a job, and images that it may or may not have.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use support::registry::Registry;
use support::{Host, Image, Job, Runner, State};

/// `tester:secret`, the account of the registry.
const LOGIN: &str = "dGVzdGVyOnNlY3JldA==";

/// A host that pulls from this registry, which has a private image; the host does not have it any more.
fn with_private_image(registry: &Registry, more: &str) -> (Host, String) {
    let conf = registry.registries_conf().display().to_string();
    let host = Host::configured(&format!(
        "[job]\npull_policy = 'if-not-present'\n{more}\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    let (source, target) = (host.image(&Image::busybox()), registry.image("group/private:1"));
    let push = ["push", "--quiet", "--tls-verify=false", "--creds", "tester:secret", &source, &target];
    let push = host.storage.command().args(push).output().unwrap();
    assert!(push.status.success(), "{}", String::from_utf8_lossy(&push.stderr));
    (host, target)
}

fn auth_config(registry: &Registry) -> String {
    json!({"auths": {registry.image("").trim_end_matches('/'): {"auth": LOGIN}}}).to_string()
}

#[test]
fn a_private_image_is_pulled_with_the_jobs_login_and_kept_from_jobs_without_one() {
    let Some(registry) = Registry::with_passwords() else { return };
    let (host, image) = with_private_image(&registry, "");
    let runner = Runner::new(&host);
    let with = |job: Job| job.secret("DOCKER_AUTH_CONFIG", &auth_config(&registry));
    runner.play(&with(Job::new(&image))).expect(State::Success).expect_log("Pulled image");
    // The host has it now.
    let outcome = runner.play(&Job::new(&image).project(8, "other/project"));
    outcome.expect_log("does not let this job pull").expect_log("whether this project may use it");
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    // Proven: the registry is not asked again.
    let before = registry.requests();
    runner.play(&with(Job::new(&image))).expect(State::Success).expect_log("present on this host");
    assert_eq!(registry.requests(), before);
    // Another project proves it for itself.
    let other = with(Job::new(&image).project(9, "third/project"));
    runner.play(&other).expect(State::Success).expect_log("present on this host");
    assert!(registry.requests() > before);
    host.podman(&["rmi", &image]);
}

#[test]
fn that_a_project_may_have_an_image_is_believed_until_the_time_for_that_is_over() {
    let Some(mut registry) = Registry::with_passwords() else { return };
    let (host, image) = with_private_image(&registry, "access_ttl = '1h'");
    let runner = Runner::new(&host);
    let login = auth_config(&registry);
    let job = || Job::new(&image).secret("DOCKER_AUTH_CONFIG", &login);
    let asks_of = |registry: &Registry| {
        let before = registry.manifest_requests();
        runner.play(&job()).expect(State::Success).expect_log("present on this host");
        registry.manifest_requests() - before
    };
    runner.play(&job()).expect(State::Success).expect_log("Pulled image");
    // What was proven so long ago.
    let proven = |ago: u64| {
        host.end_daemon(nix::sys::signal::Signal::SIGTERM);
        let file = host.state_dir().join("image-access.json");
        let mut known: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let proofs = known["proofs"].as_object_mut().unwrap();
        assert_eq!(proofs.len(), 1, "{proofs:?}");
        proofs.values_mut().for_each(|when| *when = (support::lanes::now() - ago).into());
        std::fs::write(&file, known.to_string()).unwrap();
        host.start_daemon();
    };
    assert_eq!(asks_of(&registry), 0);
    proven(50 * 60);
    assert_eq!(asks_of(&registry), 0, "the hour is not over");
    proven(61 * 60);
    // A registry that is away keeps nobody out whom it has let in.
    registry.end();
    runner.play(&job()).expect(State::Success).expect_log("this project was let in before");
    let stranger = job().project(8, "other/project");
    runner.play(&stranger).expect(State::system_failure()).expect_log("whether this project may use it");
    registry.start_again();
    assert!(asks_of(&registry) > 0, "the registry has to be asked again");
    assert_eq!(asks_of(&registry), 0, "that counts for the next hour");
    // One whose account was closed is out when that hour is over.
    registry.close_account();
    assert_eq!(asks_of(&registry), 0);
    proven(61 * 60);
    runner.play(&job()).expect_refused("does not let this job pull");
    // And stays out when the registry goes away afterwards.
    registry.end();
    runner.play(&job()).expect(State::system_failure()).expect_log("whether this project may use it");
    host.podman(&["rmi", &image]);
}

#[test]
fn gitlabs_own_login_counts_and_its_file_is_gone_after_prepare_and_nowhere_to_be_seen() {
    let Some(registry) = Registry::with_passwords() else { return };
    let (host, image) = with_private_image(&registry, "");
    let url = registry.image("").trim_end_matches('/').to_owned();
    let login = json!([{"type": "registry", "url": url, "username": "tester", "password": "secret"}]);
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&image).with("credentials", login));
    attempt.configure().expect_code(0);
    attempt.prepare().wait().expect_code(0).expect_text("Pulled image");
    let lease = attempt.lease();
    let files: Vec<String> = std::fs::read_dir(host.run_dir().join("leases").join(&lease))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!files.iter().any(|name| name.contains("auth")), "{files:?}");
    assert!(!host.log().contains(LOGIN) && !host.log().contains("tester"));
    attempt.finish();
    host.podman(&["rmi", &image]);
}

#[test]
fn of_several_logins_the_one_with_the_longest_path_is_used() {
    let Some(registry) = Registry::with_passwords() else { return };
    let (host, image) = with_private_image(&registry, "");
    let runner = Runner::new(&host);
    let (right, wrong) = (LOGIN, "eDp5");
    let job = |whole: &str, group: &str| {
        let auths = json!({registry.image("").trim_end_matches('/'): {"auth": whole}, registry.image("group"): {"auth": group}});
        Job::new(&image).secret("DOCKER_AUTH_CONFIG", &json!({ "auths": auths }).to_string())
    };
    runner.play(&job(right, wrong)).expect_refused("does not let this job pull");
    runner.play(&job(wrong, right)).expect(State::Success).expect_log("Pulled image");
    host.podman(&["rmi", &image]);
}

#[test]
fn the_login_file_of_a_job_whose_runner_dies_while_it_pulls_is_gone_with_it() {
    let Some(registry) = Registry::with_passwords() else { return };
    let (host, image) = with_private_image(&registry, "");
    let runner = Runner::new(&host);
    // A login that no other test has.
    let (user, password) = (format!("user-{}", registry.port), format!("password-{}", registry.port));
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let login = json!({"auths": {registry.image("").trim_end_matches('/'): {"auth": auth}}}).to_string();
    let mut attempt = runner.attempt(&Job::new(&image).secret("DOCKER_AUTH_CONFIG", &login));
    attempt.configure().expect_code(0);
    let lease = attempt.lease();
    let stopped = registry.stopped();
    let prepare = attempt.prepare();
    let file = host.run_dir().join("leases").join(&lease).join("auth.json");
    support::wait::until("the login file is there", support::wait::seconds(20), || file.exists());
    {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    }
    let pulls = || support::processes::with_argument(&file.display().to_string());
    support::wait::until("podman pulls with it", support::wait::seconds(20), || !pulls().is_empty());
    for process in support::processes::all() {
        let shown = [&user, &password, &auth].into_iter().find(|secret| process.command.contains(*secret));
        assert_eq!(shown, None, "everybody on the host can read {}", process.command);
    }
    runner.kill();
    support::wait::until("the login file is gone", support::wait::seconds(10), || !file.exists());
    drop(stopped);
    drop(prepare);
    host.wait_until_gone(&lease);
}

#[test]
fn the_hosts_own_logins_come_after_the_jobs_and_before_gitlabs() {
    let Some(registry) = Registry::with_passwords() else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), auth_config(&registry)).unwrap();
    let (host, image) = with_private_image(&registry, &format!("auth_file = '{}'", file.path().display()));
    let runner = Runner::new(&host);
    let url = registry.image("").trim_end_matches('/').to_owned();
    // They come before what GitLab gives to the job.
    let given = json!([{"type": "registry", "url": url, "username": "x", "password": "y"}]);
    runner.play(&Job::new(&image).with("credentials", given)).expect(State::Success).expect_log("Pulled image");
    host.podman(&["rmi", &image]);
    let wrong = json!({"auths": {url: {"auth": "eDp5"}}}).to_string();
    let outcome = runner.play(&Job::new(&image).secret("DOCKER_AUTH_CONFIG", &wrong));
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
}

#[test]
fn pull_policies_are_tried_in_order_and_the_jobs_own_have_to_be_allowed() {
    let host = Host::configured("[job]\npull_attempts = 1\npull_policy = ['always', 'never']");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new(&image));
    outcome.expect(State::Success).expect_log("present on this host");
    let wanting = |policy: &str| Job::new(&image).with("image", json!({"name": image, "pull_policy": [policy]}));
    runner.play(&wanting("never")).expect(State::Success);
    let outcome = runner.play(&wanting("if-not-present"));
    outcome.expect_log("pull_policy if-not-present is not allowed");
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
}

#[test]
fn the_hosts_own_credential_helpers_are_asked_and_a_jobs_are_not() {
    use std::os::unix::fs::PermissionsExt;
    let Some(registry) = Registry::with_passwords() else { return };
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-windlass-test");
    let answer =
        "#!/bin/sh\ncat >/dev/null\ntouch \"$0.asked\"\necho '{\"Username\": \"tester\", \"Secret\": \"secret\"}'\n";
    std::fs::write(&helper, answer).unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let name = registry.image("").trim_end_matches('/').to_owned();
    let helpers = json!({"credHelpers": {name: "windlass-test"}}).to_string();
    let store = json!({"credsStore": "windlass-test"}).to_string();
    let file = dir.path().join("auth.json");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let (host, image) = with_private_image(&registry, "");
    let conf = registry.registries_conf().display().to_string();
    let configure = |auth_file: &str| {
        host.configure(&format!(
            "[job]\npull_policy = 'if-not-present'\n{auth_file}\n[podman.environment]\nPATH = '{path}'\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
        ));
        host.crash_daemon();
    };
    let asked = dir.path().join("docker-credential-windlass-test.asked");
    configure("");
    let runner = Runner::new(&host);
    let outcome = runner.play(&Job::new(&image).secret("DOCKER_AUTH_CONFIG", &helpers));
    assert!(matches!(outcome.state, State::Failed { reason: "script_failure", .. }), "{:?}", outcome.state);
    assert!(!asked.exists(), "a job may not start programs of the host");
    std::fs::write(&file, "{}").unwrap();
    configure(&format!("auth_file = '{}'", file.display()));
    for logins in [helpers, store] {
        std::fs::write(&file, &logins).unwrap();
        runner.play(&Job::new(&image)).expect(State::Success).expect_log("Pulled image");
        assert!(std::fs::remove_file(&asked).is_ok(), "nobody was asked with {logins}");
        host.podman(&["rmi", &image]);
    }
}

#[test]
fn of_two_jobs_with_one_pull_each_counts_by_its_own_logins() {
    let Some(registry) = Registry::with_passwords() else { return };
    let (host, image) = with_private_image(&registry, "");
    let runner = Runner::new(&host);
    for login_comes_first in [true, false] {
        let mut with = runner.attempt(&Job::new(&image).secret("DOCKER_AUTH_CONFIG", &auth_config(&registry)));
        let mut without = runner.attempt(&Job::new(&image).project(8, "other/project"));
        let stopped = registry.stopped();
        let begin = |attempt: &mut support::Attempt<'_>| {
            attempt.configure().expect_code(0);
            attempt.lease()
        };
        let [first, second] = if login_comes_first { [&mut with, &mut without] } else { [&mut without, &mut with] };
        let pulling = begin(first);
        let first = first.prepare();
        let file = host.run_dir().join("leases").join(&pulling).join("auth.json").display().to_string();
        support::until("the first pulls", support::wait::seconds(20), || {
            !support::processes::with_argument(&file).is_empty()
        });
        let joining = begin(second);
        let second = second.prepare();
        second.wait_for_output("Pulling image");
        let other = host.run_dir().join("leases").join(&joining).join("auth.json").display().to_string();
        assert!(support::processes::with_argument(&other).is_empty(), "it has a pull of its own");
        drop(stopped);
        let (first, second) = (first.wait(), second.wait());
        let (served, refused) = if login_comes_first { (first, second) } else { (second, first) };
        served.expect_code(0).expect_text("Pulled image");
        refused.expect_code(1).expect_text("does not let this job pull");
        // It was refused what is there, or else what is not there yet.
        assert_eq!(refused.text().contains("The image is on this host"), login_comes_first, "{}", refused.text());
        with.finish();
        without.finish();
        host.podman(&["rmi", &image]);
    }
}
