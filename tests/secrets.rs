//! Where a job's secrets must not be seen, looked for while it runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::path::Path;

use support::wait::{seconds, until};
use support::{Host, Image, Job, Runner};

/// Files below `dir` that hold `text`.
fn files_with(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text)) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// Command lines on this host that hold `text`.
fn command_lines_with(text: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).filter(|line| line.contains(text)).collect()
}

#[test]
fn no_secret_is_seen_while_a_job_with_services_runs() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let server = ["/bin/sh", "-c", "echo \"started with ${#HIDDEN}\"; exec nc -l -p 7000"];
    let service = host.image(&Image::busybox().entrypoint(&server).expose(7000));
    // Not in the source as a whole: the compiled test is a program that runs here.
    let secret = |name: &str| format!("wl-{}-{name}", ["s3c", "r3t"].concat());
    let (variable, login, own) = (secret("variable"), secret("login"), secret("service"));
    let auth = serde_json::json!({"auths": {"registry.example.invalid": {"auth": login}}}).to_string();
    let job = Job::new(&image)
        .variable("CI_DEBUG_SERVICES", "true")
        .secret("KEY", &variable)
        .secret("DOCKER_AUTH_CONFIG", &auth)
        .with(
            "services",
            serde_json::json!([{"name": service, "alias": "db", "variables": [{"key": "HIDDEN", "value": own}]}]),
        );
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.configure().expect_code(0);
    let prepared = attempt.prepare().wait();
    prepared.expect_code(0).expect_text("Service db is ready");
    let lease = attempt.lease();
    let call = attempt.run_lines(
        "build_script",
        "echo \"$KEY\" | wc -c; touch /tmp/there; while test -e /tmp/there; do sleep 0.1; done\n",
    );
    call.wait_for_output(&format!("{}\n", variable.len() + 1));
    for text in [&variable, &login, &own, &job.token()] {
        assert_eq!(command_lines_with(text), Vec::<String>::new(), "{text}");
        assert!(!host.log().contains(text.as_str()), "{text} is in the daemon's log");
        assert_eq!(files_with(&host.run_dir(), text), Vec::<String>::new());
        assert_eq!(files_with(&host.dir().join("state"), text), Vec::<String>::new());
        let containers = host.containers(&format!("io.windlass.lease={}", &lease[..12]));
        assert_eq!(containers.len(), 2);
        for container in &containers {
            let inspected = host.podman(&["inspect", container]);
            assert!(inspected.status.success());
            assert!(!String::from_utf8_lossy(&inspected.stdout).contains(text.as_str()), "{text} is in podman inspect");
        }
    }
    let container = host.podman(&[
        "ps",
        "--quiet",
        "--filter",
        "label=io.windlass.role=job",
        "--filter",
        &format!("label=io.windlass.lease={}", &lease[..12]),
    ]);
    let container = String::from_utf8_lossy(&container.stdout).trim().to_owned();
    assert!(host.podman(&["exec", &container, "rm", "/tmp/there"]).status.success());
    let stage = call.wait();
    stage.expect_code(0);
    for text in [&variable, &login, &own, &job.token()] {
        for part in [&prepared, &stage] {
            assert!(!part.text().contains(text.as_str()), "{text} is in the job log: {}", part.text());
        }
    }
    attempt.finish();
    host.wait_until_gone(&lease);
    until("nothing of it is left", seconds(5), || files_with(&host.run_dir(), &variable).is_empty());
}
