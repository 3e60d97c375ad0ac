//! What is remembered of jobs, and what those who watch the daemon are told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::openmetrics::{Figures, get};
use support::registry::{Registry, free_port};
use support::wait::{seconds, value};
use support::{Host, Image, Job, Runner, State, until};

/// The jobs on record that fit, the newest first.
fn jobs(host: &Host, arguments: &[&str]) -> Vec<Value> {
    host.json(&[&["jobs"], arguments].concat()).as_array().unwrap().clone()
}

/// The record of a job, as soon as it is there.
fn record(host: &Host, job: u64) -> Value {
    value("the job is on record", seconds(20), || jobs(host, &[]).into_iter().find(|row| row["job_id"] == job))
}

/// The results of a job's stages, by their names.
fn results(row: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let stages = row["stages"].as_array().unwrap().iter();
    stages.map(|stage| (text(&stage["name"]), text(&stage["result"]))).collect()
}

#[test]
fn a_job_is_on_record_with_its_outcome_its_user_and_what_each_part_took() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let green = Job::new(&image).script(&["sleep 0.3"]).variable("GITLAB_USER_LOGIN", "ada");
    runner.play(&green).expect(State::Success);
    let red = Job::new(&image).script(&["exit 42"]).after_script(&["true"]).project(8, "group/other");
    runner.play(&red).expect(State::script_failure(42));
    let row = record(&host, green.id);
    let expected = json!({"outcome": "success", "exit_code": null, "reason": null, "project_path": "group/project", "project_id": 7,
        "instance": "gitlab.example.com", "name": "test", "ref": "main", "pipeline": 1, "user": "ada", "user_id": 1, "profile": "default",
        "slot": 0, "attempts": 1, "protected": false});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&row[key], value, "{key} of {row:#}");
    }
    let names = ["prepare_script", "get_sources", "build_script", "cleanup_file_variables"];
    assert_eq!(results(&row), names.map(|name| (name.to_owned(), "exited".to_owned())));
    assert_eq!(row["stages"][2]["exit_code"], 0, "{row:#}");
    let script = row["stages"][2]["ms"].as_u64().unwrap();
    assert!((300..20_000).contains(&script), "{row:#}");
    let (prepare, all) = (row["prepare_ms"].as_u64().unwrap(), row["duration_ms"].as_u64().unwrap());
    assert!(prepare > 0 && all >= prepare + script, "{row:#}");
    assert!(row["ended"].as_i64() > row["came"].as_i64(), "{row:#}");
    let row = record(&host, red.id);
    assert_eq!((&row["outcome"], &row["exit_code"]), (&json!("failed"), &json!(42)), "{row:#}");
    assert!(row["reason"].as_str().unwrap().contains("build_script"), "{row:#}");
    let found = |arguments: &[&str]| {
        jobs(&host, arguments).iter().map(|row| row["job_id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found(&[]), [red.id, green.id], "the newest first");
    assert_eq!(found(&["--project", "group/other"]), [red.id]);
    assert_eq!(found(&["--user", "ada"]), [green.id]);
    assert_eq!(found(&["--outcome", "failed"]), [red.id]);
    assert_eq!(found(&["--limit", "1"]), [red.id]);
    assert_eq!(found(&["--since", "1h"]).len(), 2);
    let shown = host.windlass(&["jobs", "--socket", host.socket().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(text.contains("failed (42)") && text.contains("group/other"), "{text}");
}

#[test]
fn jobs_that_were_canceled_timed_out_or_lost_their_runner_are_told_apart() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let canceled = Job::new(&image).script(&["echo started", "sleep 1000"]).cancel_when("started");
    runner.play(&canceled);
    assert_eq!(record(&host, canceled.id)["outcome"], "canceled");
    let late = Job::new(&image).script(&["sleep 1000"]).timeout(seconds(6));
    runner.play(&late);
    let row = record(&host, late.id);
    assert_eq!(row["outcome"], "timeout", "{row:#}");
    let other = Runner::new(&host);
    let mut attempt = other.attempt(&Job::new(&image));
    attempt.make_ready();
    let id = attempt.job.id;
    other.kill();
    assert_eq!(record(&host, id)["outcome"], "runner-gone");
}

#[test]
fn a_job_whose_image_cannot_be_pulled_is_on_record_once_with_the_reason() {
    let nobody = free_port();
    let host = Host::configured("[job]\npull_policy = 'always'\npull_attempts = 1");
    let runner = Runner::new(&host);
    let unreachable = Job::new(&format!("127.0.0.1:{nobody}/group/image:1"));
    runner.play(&unreachable).expect(State::system_failure());
    let row = value("the last attempt is on record", seconds(20), || {
        Some(record(&host, unreachable.id)).filter(|row| row["attempts"] == 3)
    });
    assert_eq!(row["outcome"], "system-failure", "{row:#}");
    assert!(row["reason"].as_str().unwrap().contains(&nobody.to_string()), "{row:#}");
    host.configure("[job]\npull_policy = 'never'");
    host.crash_daemon();
    let missing = Job::new("localhost/there-is-no-such-image:1");
    runner.play(&missing);
    let row = record(&host, missing.id);
    assert_eq!((&row["outcome"], &row["attempts"]), (&json!("failed"), &json!(1)), "{row:#}");
    assert_eq!(jobs(&host, &[]).len(), 2);
}

#[test]
fn a_job_is_found_by_the_digest_of_the_image_that_it_ran_in() {
    let Some(registry) = Registry::open() else { return };
    let conf = registry.registries_conf().display().to_string();
    let host = Host::configured(&format!(
        "[job]\npull_policy = 'if-not-present'\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    let source = host.image(&Image::busybox().env(&format!("MARK=d{}", registry.port)));
    let image = registry.image("group/image:1");
    let push = ["push", "--quiet", "--tls-verify=false", &source, &image];
    assert!(host.storage.command().args(push).output().unwrap().status.success());
    host.podman(&["rmi", "--force", &source]);
    let runner = Runner::new(&host);
    let job = Job::new(&image);
    runner.play(&job).expect(State::Success);
    let other = Job::new(&host.image(&Image::busybox()));
    runner.play(&other).expect(State::Success);
    let row = record(&host, job.id);
    record(&host, other.id);
    let inspected = host.podman(&["image", "inspect", "--format", "{{.Digest}}", &image]);
    let digest = String::from_utf8_lossy(&inspected.stdout).trim().to_owned();
    assert_eq!((&row["images"][0]["role"], &row["images"][0]["name"]), (&json!("job"), &json!(image)), "{row:#}");
    assert_eq!(row["images"][0]["digest"], json!(digest), "{row:#}");
    let digits = digest.strip_prefix("sha256:").unwrap();
    for wanted in [digest.as_str(), &digest[..19], digits, &digits[..12]] {
        let found = jobs(&host, &["--image", wanted]);
        assert_eq!(found.len(), 1, "{wanted}");
        assert_eq!(found[0]["job_id"], job.id);
    }
    assert!(jobs(&host, &["--image", &digits[1..13]]).is_empty());
    let read = Figures::of(&host);
    assert_eq!(read.get("windlass_pulls_total{result=\"success\"}"), 1.0);
    assert!(read.get("windlass_pulled_bytes_total") > 0.0);
    host.podman(&["rmi", &image]);
}

#[test]
fn a_job_is_found_by_the_digests_of_its_services_and_its_helper() {
    let Some(registry) = Registry::open() else { return };
    let conf = registry.registries_conf().display().to_string();
    let host = Host::configured("");
    let push = |image: Image, name: &str| {
        // Each another image, also of what another test made.
        let source = host.image(&image.env(&format!("MARK={name}-{}", registry.port)));
        let image = registry.image(&format!("group/{name}:1"));
        let push = ["push", "--quiet", "--tls-verify=false", &source, &image];
        assert!(host.storage.command().args(push).output().unwrap().status.success());
        host.podman(&["rmi", "--force", &source]);
        image
    };
    let server = Image::busybox().expose(7000).entrypoint(&["/bin/sh", "-c", "exec nc -l -p 7000"]);
    let (service, helper) = (push(server, "service"), push(Image::git(), "helper"));
    host.configure(&format!(
        "[job]\npull_policy = 'if-not-present'\n[job.helper]\nmode = 'image'\nimage = '{helper}'\n\
         [podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    host.crash_daemon();
    let runner = Runner::new(&host);
    let image = host.image(&Image::busybox());
    let job = Job::new(&image).with("services", json!([{"name": service, "alias": "db"}]));
    runner.play(&job).expect(State::Success);
    let other = Job::new(&image);
    runner.play(&other).expect(State::Success);
    record(&host, other.id);
    let row = record(&host, job.id);
    let found = |digest: &str| {
        jobs(&host, &["--image", digest]).iter().map(|row| row["job_id"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    for (role, name, expected) in [("service", &service, vec![job.id]), ("helper", &helper, vec![other.id, job.id])] {
        let inspected = host.podman(&["image", "inspect", "--format", "{{.Digest}}", name]);
        let digest = String::from_utf8_lossy(&inspected.stdout).trim().to_owned();
        let images = row["images"].as_array().unwrap();
        let used = images.iter().find(|image| image["role"] == role).unwrap_or_else(|| panic!("no {role}: {row:#}"));
        assert_eq!((&used["name"], &used["digest"]), (&json!(name), &json!(digest)), "{row:#}");
        assert_eq!(found(&digest), expected, "{role}");
    }
    host.podman(&["rmi", &service, &helper]);
}

#[test]
fn what_a_purge_takes_and_what_podman_does_not_do_is_counted() {
    let nobody = free_port();
    let host = Host::configured("[job]\npull_policy = 'if-not-present'\npull_attempts = 1");
    let runner = Runner::new(&host);
    runner.play(&Job::new(&host.image(&Image::busybox()))).expect(State::Success);
    let (figure, bytes) =
        ("windlass_purged_total{kind=\"lane\",rule=\"asked for\"}", "windlass_purged_bytes_total{kind=\"lane\"}");
    let before = Figures::of(&host);
    assert_eq!((before.get(figure), before.get(bytes)), (0.0, 0.0));
    assert!(before.get("windlass_lanes") > 0.0);
    let gone = host.json(&["cache", "purge", "--all"]);
    let gone = gone.as_array().unwrap();
    let sum = |rows: &[Value]| rows.iter().filter_map(|row| row["bytes"].as_u64()).sum::<u64>();
    let after = Figures::of(&host);
    assert!(!gone.is_empty());
    let count = |number: u64| f64::from(u32::try_from(number).unwrap());
    assert_eq!((after.get(figure), after.get(bytes)), (count(gone.len() as u64), count(sum(gone))), "{gone:#?}");
    assert_eq!(after.get("windlass_lanes"), 0.0);
    let failed = "windlass_podman_calls_total{operation=\"pull\",result=\"failed\"}";
    assert_eq!(after.get(failed), 0.0);
    runner.play(&Job::new(&format!("127.0.0.1:{nobody}/group/image:1"))).expect(State::system_failure());
    let last = Figures::of(&host);
    let pulls = "windlass_podman_call_seconds_count{operation=\"pull\"}";
    assert!(last.get(failed) > 0.0 && last.get(failed) == last.get(pulls), "{:#?}", last.values);
    assert_eq!(last.get("windlass_pulls_total{result=\"success\"}"), 0.0);
}

#[test]
fn a_job_whose_daemon_was_killed_in_mid_stage_is_on_record_once_and_right() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    // The stage ends under the next daemon.
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.make_ready();
    let call =
        attempt.run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\nexit 7\n");
    call.wait_for_output("started");
    host.crash_daemon();
    let container = host.container(&attempt.lease()).unwrap();
    let go = |container: &str| assert!(host.podman(&["exec", container, "touch", "/builds/go"]).status.success());
    until("the stage is taken up", seconds(20), || host.log().matches("build_script begins").count() > 1);
    go(&container);
    call.wait().expect_code(1);
    attempt.run_lines("cleanup_file_variables", "true\n").wait().expect_code(0);
    let first = attempt.job.id;
    attempt.finish();
    // The stage ends while no daemon is there.
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.make_ready();
    let call =
        attempt.run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\nexit 9\n");
    call.wait_for_output("started");
    let container = host.container(&attempt.lease()).unwrap();
    host.end_daemon(Signal::SIGKILL);
    go(&container);
    call.wait().expect_code(1);
    host.start_daemon();
    attempt.run_lines("cleanup_file_variables", "true\n").wait().expect_code(0);
    let second = attempt.job.id;
    attempt.cleanup().wait().expect_code(0);
    // And once more while the job is taken down.
    host.crash_daemon();
    attempt.finish();
    for (job, code) in [(first, 7), (second, 9)] {
        let row = record(&host, job);
        assert_eq!(
            (&row["outcome"], &row["exit_code"], &row["attempts"]),
            (&json!("failed"), &json!(code), &json!(1)),
            "{row:#}"
        );
        assert_eq!(results(&row).iter().filter(|(name, _)| name == "build_script").count(), 1, "{row:#}");
    }
    assert_eq!(jobs(&host, &[]).len(), 2);
}

#[test]
fn no_more_jobs_are_remembered_than_configured() {
    let host = Host::configured("[history]\nmax_jobs = 3");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let played: Vec<Job> = (0..5).map(|_| Job::new(&image)).collect();
    for job in &played {
        runner.play(job).expect(State::Success);
        record(&host, job.id);
    }
    let kept: Vec<u64> = jobs(&host, &[]).iter().map(|row| row["job_id"].as_u64().unwrap()).collect();
    assert_eq!(kept, [played[4].id, played[3].id, played[2].id]);
    let mode = std::fs::metadata(host.state_dir().join("history.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it says who does what");
}

#[test]
fn a_history_that_cannot_be_written_fails_no_job() {
    let host = Host::start();
    host.end_daemon(Signal::SIGTERM);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(host.state_dir().join(format!("history.db{suffix}")));
    }
    // Not even root makes a database of this.
    std::fs::create_dir(host.state_dir().join("history.db")).unwrap();
    host.start_daemon();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    for _ in 0..3 {
        runner.play(&Job::new(&image)).expect(State::Success);
    }
    until("what is lost is counted", seconds(20), || Figures::of(&host).get("windlass_history_dropped_total") >= 3.0);
    assert_eq!(host.log().matches("what has been is not recorded").count(), 1, "it is said once");
    let asked = host.windlass(&["jobs", "--socket", host.socket().to_str().unwrap()]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&asked.stderr).contains("history.db"), "{asked:?}");
}

#[test]
fn figures_count_what_happens_and_have_no_label_of_a_jobs_choice() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let play = |project: u64| {
        let job = Job::new(&image).project(project, &format!("group{project}/project{project}"));
        let mut attempt = runner.attempt(&job);
        attempt.configure().expect_code(0);
        attempt.prepare().wait().expect_code(0);
        attempt.run_lines(&format!("step_{project}"), "true\n").wait().expect_code(0);
        attempt.finish();
    };
    play(1);
    let before = Figures::of(&host);
    for project in 2..=10 {
        play(project);
    }
    let after = Figures::of(&host);
    // podman is asked for more than jobs need, now and then.
    let is_new = |name: &&String| !before.values.contains_key(*name) && !name.starts_with("windlass_podman_");
    let names: Vec<&String> = after.values.keys().filter(is_new).collect();
    assert!(names.is_empty(), "new since the first job: {names:?}");
    let of_jobs = |name: &&String| name.contains("group") || name.contains("step_");
    assert_eq!(after.values.keys().find(of_jobs), None);
    let ended = |read: &Figures| read.get("windlass_jobs_total{profile=\"default\",outcome=\"canceled\"}");
    assert_eq!((ended(&before), ended(&after)), (1.0, 10.0));
    let steps = "windlass_stage_seconds_count{stage=\"step\",result=\"success\"}";
    assert_eq!(after.get(steps), 10.0);
    assert_eq!(after.get("windlass_prepare_seconds_count{profile=\"default\",result=\"success\"}"), 10.0);
    assert_eq!(after.get("windlass_slots{profile=\"default\",state=\"free\"}"), 4.0);
    let runs = "windlass_podman_calls_total{operation=\"run\",result=\"success\"}";
    assert!(after.get(runs) >= 10.0, "{:?}", after.values);
    assert!(after.get("windlass_filesystem_free_bytes{of=\"state\"}") > 0.0);
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"] {
        assert!(after.get(name) > 0.0, "{name}");
    }
    assert_eq!(after.types["windlass_jobs"], "counter");
    after.expect_documented();
}

#[test]
fn a_port_that_somebody_else_has_costs_the_figures_there_and_nothing_else() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let host = Host::configured(&format!("[metrics]\nlisten = '127.0.0.1:{port}'"));
    let warnings = host.status()["daemon"]["warnings"].to_string();
    assert!(
        warnings.contains("figures and health are at no port") && warnings.contains(&port.to_string()),
        "{warnings}"
    );
    assert_eq!(get(&host, "/healthz"), (200, "ok\n".to_owned()));
}

#[test]
fn it_is_alive_while_it_takes_callers_and_ready_while_it_takes_jobs() {
    let port = free_port();
    let host = Host::configured(&format!("[metrics]\nlisten = '127.0.0.1:{port}'"));
    assert_eq!(get(&host, "/healthz"), (200, "ok\n".to_owned()));
    until("it is ready", seconds(10), || get(&host, "/readyz") == (200, "ready\n".to_owned()));
    let mode = std::fs::metadata(host.run_dir().join("admin.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for root and the daemon's own user");
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    assert_eq!(get(&host, "/elsewhere").0, 404);
    let socket = host.socket().display().to_string();
    assert!(host.windlass(&["drain", "--socket", &socket]).status.success());
    let (status, words) = get(&host, "/readyz");
    assert_eq!(status, 503);
    assert!(words.contains("drain"), "{words}");
    assert_eq!(get(&host, "/healthz").0, 200);
    assert_eq!((Figures::of(&host).get("windlass_ready"), Figures::of(&host).get("windlass_drained")), (0.0, 1.0));
    assert!(host.windlass(&["undrain", "--socket", &socket]).status.success());
    assert_eq!(get(&host, "/readyz").0, 200);
}
