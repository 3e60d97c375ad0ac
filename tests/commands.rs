//! The administrator's commands: `windlass try`, `check` and `status`, and the daemon's refusal of a wrong configuration.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::host::SharedHost;
use support::{Host, Image, Job, Runner, until};

static HOST: SharedHost = SharedHost::new("");

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// `windlass try` with these arguments in an image.
fn attempt(host: &Host, image: &str, arguments: &[&str]) -> Output {
    let (socket, libexec) = (host.socket().display().to_string(), host.programs.libexec.display().to_string());
    let all = [&["try", "--socket", &socket, "--libexec", &libexec, "--image", image], arguments].concat();
    host.windlass(&all)
}

#[test]
fn try_shows_the_job_log_and_each_stage_and_ends_with_the_jobs_exit_code() {
    let host = HOST.get();
    let image = host.image(&Image::busybox());
    let output =
        attempt(&host, &image, &["--variable", "GREETING=hello there", "--", "sh", "-c", "echo \"$GREETING\""]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for part in ["hello there", "prepare", "build_script", "cleanup"] {
        assert!(text(&output).contains(part), "{part:?} is missing:\n{}", text(&output));
    }
    for code in [1, 2, 42, 125] {
        let output = attempt(&host, &image, &["--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    }
    until("nothing is leased", support::wait::seconds(20), || host.status()["leases"].as_array().unwrap().is_empty());
}

#[test]
fn try_clones_a_repository_of_this_host() {
    let host = HOST.get();
    let repository = host.dir().join("repository");
    std::fs::create_dir(&repository).unwrap();
    std::fs::write(repository.join("README"), "what the repository says\n").unwrap();
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&repository).env("HOME", host.dir()).args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@example.com",
        ]);
        assert!(git.args(arguments).status().unwrap().success());
    };
    git(&["init", "--quiet"]);
    git(&["add", "README"]);
    git(&["commit", "--quiet", "--message=first"]);
    let output =
        attempt(&host, &host.image(&Image::git()), &["--repo", repository.to_str().unwrap(), "--", "cat", "README"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("what the repository says"), "{}", text(&output));
}

#[test]
fn try_as_json_prints_json_alone_on_stdout() {
    let host = HOST.get();
    let output = attempt(&host, &host.image(&Image::busybox()), &["--json", "--", "echo", "in the log"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let _: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in the log"));
}

#[test]
fn status_shows_what_runs_for_people_and_for_programs() {
    let host = HOST.get();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox())).project(4711, "some/where");
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nsleep 1000\n");
    call.wait_for_output("started");
    let lease = host.lease(&attempt.lease()).expect("the lease is shown");
    assert_eq!((&lease["stage"], &lease["project_path"]), (&"build_script".into(), &"some/where".into()));
    let shown = text(&host.windlass(&["status", "--socket", host.socket().to_str().unwrap()]));
    for part in ["build_script", "some/where", &job.id.to_string()] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
    assert!(!shown.contains(&attempt.lease()), "whoever knows a lease's id may use it");
    call.terminate();
    call.wait();
    attempt.finish();
}

#[test]
fn the_shipped_configuration_is_valid() {
    let host = HOST.get();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/windlass.toml");
    let output = host.windlass(&["check", shipped.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_wrong_configuration_is_refused_with_78_and_every_error_in_its_place() {
    let host = HOST.get();
    let file = host.dir().join("wrong.toml");
    std::fs::write(&file, "slots = \"many\"\nslot = 3\n[job]\ngrace = \"soon\"\npull_policy = \"sometimes\"\n")
        .unwrap();
    host.account.own(&file).unwrap();
    let path = file.to_str().unwrap();
    let checked = host.windlass(&["check", path]);
    let refused =
        host.account.command(&host.programs.windlassd).args(["--config", path]).stdin(Stdio::null()).output().unwrap();
    for output in [checked, refused] {
        assert_eq!(output.status.code(), Some(78), "{}", text(&output));
        for part in
            ["wrong.toml:1", "slots", "wrong.toml:2", "slot", "wrong.toml:4", "grace", "wrong.toml:5", "if-not-present"]
        {
            assert!(text(&output).contains(part), "{part:?} is missing:\n{}", text(&output));
        }
    }
}

#[test]
fn check_shows_what_several_files_give_together() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("windlass.toml");
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    std::fs::write(&main, "slots = 3\n").unwrap();
    std::fs::write(dir.path().join("conf.d/10-slots.toml"), "slots = 5\n").unwrap();
    let check = || Command::new(env!("CARGO_BIN_EXE_windlass")).arg("check").arg(&main).output().unwrap();
    let valid = check();
    assert_eq!(valid.status.code(), Some(0), "{}", text(&valid));
    for part in ["windlass.toml is valid together with 10-slots.toml of conf.d", "\nslots = 5\n"] {
        assert!(text(&valid).contains(part), "{part:?} is missing:\n{}", text(&valid));
    }
    std::fs::write(dir.path().join("conf.d/20-grace.toml"), "[job]\ngrace = 'soon'\n").unwrap();
    let wrong = check();
    assert_eq!(wrong.status.code(), Some(78), "{}", text(&wrong));
    assert!(text(&wrong).contains("conf.d/20-grace.toml:2:9: job.grace:"), "{}", text(&wrong));
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let host = HOST.get();
    let config = host.config().display().to_string();
    let second = host
        .account
        .command(&host.programs.windlassd)
        .args(["--config", &config])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!second.status.success() && text(&second).contains("another windlassd"), "{}", text(&second));
    host.status();
}

#[test]
fn chain_scan_says_what_each_file_builds_on() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("Containerfile"), dir.path().join("Dockerfile"));
    std::fs::write(&one, "ARG CI_REGISTRY\nFROM ${CI_REGISTRY}/base:1 AS b\nFROM ruby\nCOPY --from=b /x /x\n").unwrap();
    std::fs::write(&two, "FROM $NONE\n").unwrap();
    let windlass = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_windlass")).args(["chain", "scan"]).args(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let (code, out, _) = windlass(&["--json", "--arg", "CI_REGISTRY=registry.example.com/g", one, two]);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, lines.len()), (Some(0), 2));
    assert_eq!(lines[0]["file"], one);
    assert_eq!(
        lines[0]["images"],
        serde_json::json!(["docker.io/library/ruby:latest", "registry.example.com/g/base:1"])
    );
    assert_eq!(lines[0]["refs"][2]["kind"], "stage");
    assert_eq!(
        (&lines[1]["refs"][0]["kind"], &lines[1]["refs"][0]["unset"][0]),
        (&"unresolved".into(), &"NONE".into())
    );
    // One that is not there does not keep the others from it.
    let (code, out, error) = windlass(&["/nonexistent/Containerfile", two]);
    assert_eq!(code, Some(1));
    assert!(out.contains("not known here: NONE has no value; --arg gives it one"), "{out}");
    assert!(error.contains("/nonexistent/Containerfile"), "{error}");
}
