//! A box where systemd is process 1, as on most machines that these tests run on: in a box.

use std::process::Command;

use crate::support::boxed::in_a_box;
use crate::support::installed::{Installed, source, text};
use crate::support::{Image, Job, Runner, State};
use crate::{SETTINGS, nothing_is_left};

#[test]
fn a_box_can_be_made_where_systemd_is_process_1() {
    in_a_box("nested::in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn in_the_box() {
    let program = std::env::current_exe().unwrap();
    let mut inner = Command::new(source("scripts/box.sh"));
    inner.arg("--share").arg(program.ancestors().nth(3).unwrap()).arg("--share").arg(env!("CARGO_MANIFEST_DIR"));
    inner.arg("--").arg(&program).args(["nested::in_the_inner_box", "--exact", "--ignored", "--nocapture"]);
    let output = inner.output().unwrap();
    assert!(output.status.success() && text(&output).contains("1 passed"), "in the inner box:\n{}", text(&output));
    // The outer system has nothing of it.
    let left = text(&Command::new("find").args(["/sys/fs/cgroup", "-name", "windlass-box*"]).output().unwrap());
    assert!(left.lines().all(|line| !line.contains("windlass-box")), "{left}");
    let failed = Command::new("systemctl").args(["--failed", "--no-legend", "--plain"]).output().unwrap();
    assert!(failed.status.success() && !text(&failed).contains("windlass"), "{}", text(&failed));
}

#[test]
#[ignore = "runs in a box"]
fn in_the_inner_box() {
    let windlass = Installed::new(false, SETTINGS);
    let image = windlass.image(&Image::busybox());
    let runner = Runner::on(&windlass);
    runner.play(&Job::new(&image).script(&["echo hello"])).expect(State::Success).expect_log("hello");
    windlass.restart();
    runner.play(&Job::new(&image).profile("connected").script(&["echo again"])).expect(State::Success);
    nothing_is_left(&windlass);
}
