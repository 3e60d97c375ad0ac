//! A daemon that does not start with its configuration while a job runs: calls wait, neither systemd nor the daemon runs hot, and one
//! command goes on once the file is mended.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::boxed::in_a_box;
use crate::support::installed::{Installed, PATIENCE, run, source, text};
use crate::support::{Image, Job, Runner, until};
use crate::{SETTINGS, UNTIL_TOLD, nothing_is_left};

const WRONG: &str = "/etc/windlass/conf.d/70-wrong.toml";

#[test]
fn calls_wait_for_a_configuration_to_be_mended_and_no_job_fails() {
    in_a_box("refused::in_the_box");
}

/// When starts have ended with the exit code of a wrong configuration, by the host's monotonic clock.
fn refused_starts(windlass: &Installed) -> Vec<Duration> {
    let shown = windlass.journal(&["--output=json", "--output-fields=MESSAGE"]);
    let entries = shown.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ended = entries.filter(|entry| {
        entry["MESSAGE"]
            .as_str()
            .is_some_and(|message| message.contains("Main process exited") && message.contains("status=78"))
    });
    ended
        .map(|entry| Duration::from_micros(entry["__MONOTONIC_TIMESTAMP"].as_str().unwrap().parse().unwrap()))
        .collect()
}

#[test]
#[ignore = "runs in a box"]
fn in_the_box() {
    let windlass = Installed::new(false, SETTINGS);
    let image = windlass.image(&Image::busybox());
    let runner = Runner::on(&windlass);
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(PATIENCE).expect_code(0);
    attempt.run("get_sources").wait().expect_code(0);
    let stage = attempt.run_lines("build_script", UNTIL_TOLD);
    stage.wait_for_output("started");

    fs::write(WRONG, "no_such_key = 1\n").unwrap();
    let output = Command::new("systemctl").args(["restart", "windlass.service"]).output().unwrap();
    assert!(!output.status.success(), "{}", text(&output));
    let told = windlass.in_job(&attempt.lease(), &["touch", "/builds/go"]);
    assert!(told.status.success(), "{}", text(&told));
    stage.wait().expect_code(0).expect_text("started\nwhole");
    let next = attempt.run("after_script");
    until("the call has started the daemon again and again", PATIENCE, || refused_starts(&windlass).len() >= 4);
    assert_eq!(windlass.systemctl(&["is-active", "windlass.socket"]), "active");
    assert!(next.is_running());
    let starts = refused_starts(&windlass);
    let pauses: Vec<Duration> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause >= Duration::from_secs(4)), "{pauses:?}");

    fs::remove_file(WRONG).unwrap();
    let command = "sudo windlass check && sudo systemctl restart windlass";
    for page in ["docs/service.md", "docs/troubleshooting.md"] {
        assert!(fs::read_to_string(source(page)).unwrap().contains(command), "{page}");
    }
    run(Command::new("bash").args(["-euo", "pipefail", "-c", &command.replace("sudo ", "")]));
    next.wait_for(PATIENCE).expect_code(0);
    attempt.finish();
    nothing_is_left(&windlass);
}
