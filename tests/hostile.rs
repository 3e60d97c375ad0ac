//! Input that nobody means well with: refused with its reason, while others are served and memory stays bounded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::json;
use support::frames::{self, JOB_RESPONSE, MESSAGE, VERSION};
use support::host::SharedHost;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, State, processes, until};

static HOST: SharedHost = SharedHost::new("");

/// What a daemon of a development build may need, whatever is thrown at it: eight job responses at once, of 7 MiB each and some twice while they
/// grow, and itself; in KiB. All twenty at once would be more.
const MEMORY_MAX: u64 = 136 * 1024;

fn assert_well(host: &Host) {
    let memory = processes::resident_kib(host.daemon_pid());
    assert!(memory < MEMORY_MAX, "the daemon needs {memory} KiB");
    host.status();
}

#[test]
fn variables_of_the_pipeline_change_nothing_but_the_script() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()));
    let mut attempt = runner.attempt(&job);
    let values: [Vec<u8>; 4] = [
        b"../../../../etc".to_vec(),
        b"a\nb\r\n\x1b[31m\"'$(id)`id`".to_vec(),
        (1..=255).collect(),
        vec![b'x'; 100 * 1024],
    ];
    for (number, name) in [
        "CI_JOB_ID",
        "CI_PROJECT_ID",
        "CI_PROJECT_PATH",
        "CI_JOB_IMAGE",
        "CI_BUILDS_DIR",
        "CI_PROJECT_DIR",
        "WINDLASS_LEASE",
        "PATH",
        "TMPDIR",
    ]
    .iter()
    .enumerate()
    {
        for shift in [0, 1] {
            let name = if shift == 0 { format!("CUSTOM_ENV_{name}") } else { format!("CUSTOM_ENV_{name}_{number}") };
            attempt.extra.push((name.into(), OsString::from_vec(values[(number + shift) % values.len()].clone())));
        }
    }
    // Names that no shell would take.
    attempt.extra.push((OsString::from_vec(b"CUSTOM_ENV_\xff\n../x".to_vec()), "value".into()));
    attempt.make_ready();
    let lease = host.lease(&attempt.lease()).unwrap();
    assert_eq!((lease["job_id"].as_u64(), lease["project_id"].as_u64()), (Some(job.id), Some(job.project)));
    assert_eq!(lease["project_path"], job.project_path);
    attempt.run_lines("build_script", "echo ran\n").wait().expect_code(0).expect_text("ran");
    attempt.finish();
    assert_well(&host);
}

#[test]
fn job_responses_that_are_none_are_refused_with_their_reason() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let job = Job::new("localhost/unused");
    let mut lacking = job.response();
    lacking["job_info"].as_object_mut().unwrap().remove("project_id");
    let mut without_id = job.response();
    without_id.as_object_mut().unwrap().remove("id");
    let mut strange = job.response();
    strange["id"] = json!("../../etc");
    let responses: [(&[u8], &str); 7] = [
        (b"", "job response"),
        (b"this is not JSON", "job response"),
        (b"[1, 2, 3]", "job response"),
        (&[0xff; 1000], "job response"),
        (&lacking.to_string().into_bytes(), "project id"),
        (&without_id.to_string().into_bytes(), "id"),
        (&strange.to_string().into_bytes(), "job response"),
    ];
    for (response, reason) in responses {
        let attempt = runner.attempt_with_response(&job, response);
        let finished = attempt.config().wait();
        finished.expect_code(2).expect_text(reason);
        assert!(finished.stdout.is_empty(), "{}", finished.text());
        attempt.cleanup().wait();
    }
    // A hundred megabytes, half of them a valid beginning.
    let mut long = job.response().to_string().into_bytes();
    long.resize(100 << 20, b' ');
    let attempt = runner.attempt_with_response(&job, &long);
    attempt.config().wait().expect_code(2).expect_text("long");
    attempt.cleanup().wait();
    assert_well(&host);
}

#[test]
fn names_in_a_job_response_get_nowhere() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let mut job = Job::new(&host.image(&Image::busybox()));
    let mut response = job.response();
    response["job_info"]["project_full_path"] = json!("../../../etc/\u{1b}[31m\nfake: line");
    response["job_info"]["name"] = json!("--privileged");
    response["git_info"]["repo_url"] = json!("https://gitlab.example.com/../../x.git");
    job.script = vec!["true".into()];
    let mut attempt = runner.attempt_with_response(&job, response.to_string().as_bytes());
    attempt.make_ready();
    let status = host.windlass(&["status", "--socket", host.socket().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.status.success() && !text.contains('\u{1b}') && !text.contains("\nfake"), "{text}");
    attempt.finish();
    drop(runner);
    // podman would take some of these for a directory or an archive of the host's.
    let host = Host::configured("[job]\npull_policy = \"if-not-present\"");
    let runner = Runner::new(&host);
    for image in ["--privileged", "-v/:/host", "a b", "../../etc", "dir:/etc", "docker-archive:/etc/passwd", "oci:/etc"]
    {
        let mut job = job.clone();
        (job.id, job.image) = (job.id + 1, Some(image.into()));
        let outcome = runner.play(&job);
        assert_ne!(outcome.state, State::Success);
        assert_eq!(outcome.names(), ["config", "prepare", "cleanup"], "{image}: {}", outcome.log());
    }
}

#[test]
fn broken_frames_are_refused_with_their_reason_and_others_are_served() {
    let host = HOST.get();
    let socket = host.socket();
    let refused = |what: &str, answer: String, reason: &str| {
        assert!(answer.contains("failed") && answer.contains(reason), "{what}: {answer:?}")
    };
    refused("oversized", frames::say(&socket, &frames::head(VERSION, MESSAGE, u32::MAX)), "4294967295 bytes");
    refused("another version", frames::say(&socket, &frames::head(9, MESSAGE, 2)), "version 9");
    refused("another kind", frames::say(&socket, &frames::head(VERSION, 200, 2)), "kind 200");
    refused("a stranger", frames::say(&socket, b"GET / HTTP/1.1\r\n\r\n"), "no Windlass frame");
    refused("no JSON", frames::say(&socket, &frames::frame(MESSAGE, b"{nonsense")), "message");
    refused(
        "an unknown request",
        frames::say(&socket, &frames::frame(MESSAGE, br#"{"request":"be-evil"}"#)),
        "be-evil",
    );
    refused(
        "an oversized job response",
        frames::say(&socket, &[frames::config(), frames::head(VERSION, JOB_RESPONSE, 100 << 20)].concat()),
        "bytes",
    );
    // Nobody is left to be told.
    frames::say_and_stop(&socket, &frames::status()[..5]);
    frames::say_and_stop(&socket, &frames::status()[..20]);
    frames::say_and_stop(&socket, &frames::config());
    let deep = frames::frame(MESSAGE, "[".repeat(60_000).as_bytes());
    refused("nested", frames::say(&socket, &deep), "message");
    assert_well(&host);
}

#[test]
fn a_request_that_comes_a_byte_at_a_time_is_served() {
    let host = HOST.get();
    let mut stream = frames::connect(&host.socket());
    for byte in frames::status() {
        stream.write_all(&[byte]).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(frames::read_to_end(&mut stream).contains("slots"));
}

#[test]
fn another_user_is_refused_by_name() {
    let host = HOST.get();
    if !host.account.is_root() {
        eprintln!("SKIPPED: only root can call as somebody else");
        return;
    }
    // The target directory may be closed to others; programs and socket are where they can reach them.
    let dir = tempfile::Builder::new()
        .prefix("wl-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let programs = host.programs.copied(dir.path());
    let path = dir.path().join("windlass.sock").display().to_string();
    let elsewhere = Host::configured(&format!("[socket]\npath = \"{path}\""));
    let output = Command::new(&programs.windlass)
        .args(["status", "--json", "--socket", &path])
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("may not use"), "{said}");
    drop(elsewhere);
}

#[test]
fn two_hundred_connections_that_say_nothing_keep_nobody_from_working() {
    let host = Host::start();
    let mut silent: Vec<_> = (0..200).map(|_| frames::connect(&host.socket())).collect();
    let image = host.image(&Image::busybox());
    Runner::new(&host).play(&Job::new(&image).script(&["echo ran"])).expect(State::Success).expect_log("ran");
    assert_well(&host);
    // They are cut off in the end.
    for stream in &mut silent {
        stream.set_read_timeout(Some(seconds(20))).unwrap();
        frames::read_to_end(stream);
    }
    assert_well(&host);
}

#[test]
fn many_large_job_responses_at_once_stay_within_bounds() {
    let host = Host::start();
    let body = vec![b' '; 7 << 20];
    let threads: Vec<_> = (0..20)
        .map(|_| {
            let (socket, body) = (host.socket(), body.clone());
            std::thread::spawn(move || {
                frames::say(&socket, &[frames::config(), frames::frame(JOB_RESPONSE, &body)].concat())
            })
        })
        .collect();
    let mut peak = 0;
    until("all of them are answered", seconds(60), || {
        peak = peak.max(processes::resident_kib(host.daemon_pid()));
        threads.iter().all(std::thread::JoinHandle::is_finished)
    });
    for thread in threads {
        assert!(thread.join().unwrap().contains("failed"));
    }
    assert!(peak < MEMORY_MAX, "the daemon needed {peak} KiB");
    assert_well(&host);
}
