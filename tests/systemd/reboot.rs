//! A host that is booted again, orderly and after it has lost its power: leases are gone, lanes are kept, nothing is left over, jobs run.
//!
//! Between two boots of a box all files stay but those of /run and /tmp, and the boot's id is another, as on a host.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::boxed::{boot, in_a_box_that_reboots, lose_power};
use crate::support::installed::{Installed, PATIENCE, text};
use crate::support::{Image, Job, Runner, State, until};
use crate::{SETTINGS, UNTIL_TOLD, containers, nothing_is_left};

/// Where a boot leaves what the next has to know.
const LEFT: &str = "/var/tmp/windlass-reboot";
/// Which lanes it has left of the project whose jobs had ended.
const LANES: &str = "/var/tmp/windlass-lanes";

#[test]
fn a_rootless_service_begins_anew_after_a_reboot_and_after_a_power_cut() {
    in_a_box_that_reboots("reboot::rootless_in_the_box", boots(ENDS));
}

#[test]
fn a_rootful_service_begins_anew_after_a_reboot_and_after_a_power_cut() {
    in_a_box_that_reboots("reboot::rootful_in_the_box", boots(ENDS));
}

#[test]
#[ignore = "runs in a box"]
fn rootless_in_the_box() {
    reboots(false, SETTINGS, ENDS, |_, _| ());
}

#[test]
#[ignore = "runs in a box"]
fn rootful_in_the_box() {
    reboots(true, SETTINGS, ENDS, |_, _| ());
}

/// How a boot ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Shutdown,
    PowerCut,
}

/// How the boots of a box end, but for the last.
const ENDS: &[End] = &[End::Shutdown, End::PowerCut];

/// How many boots these ends are for.
pub fn boots(ends: &[End]) -> u32 {
    u32::try_from(ends.len()).unwrap() + 1
}

/// One boot more than there are ends. What is `before` is done with the service of the first, and an image.
pub fn reboots(rootful: bool, settings: &str, ends: &[End], before: impl FnOnce(&Installed, &str)) {
    let windlass = match boot() {
        1 => {
            let windlass = Installed::new(rootful, settings);
            let image = windlass.image(&Image::busybox());
            before(&windlass, &image);
            fs::write(LEFT, image).unwrap();
            windlass
        }
        number => {
            let windlass = Installed::found(rootful, &[]);
            it_is_back(&windlass);
            all_is_as_it_was_left(&windlass, ends[number as usize - 2]);
            windlass
        }
    };
    let image = fs::read_to_string(LEFT).unwrap();
    let runner = Runner::on(&windlass);
    a_job_keeps_something(&runner, &image);
    let kept = lanes(&windlass, "group/project");
    assert!(kept.starts_with(&["builds-0".to_owned()]) && kept.ends_with(&["cache".to_owned()]), "{kept:?}");
    fs::write(LANES, kept.join("\n")).unwrap();
    let Some(end) = ends.get(boot() as usize - 1) else {
        return nothing_is_left(&windlass);
    };
    // In the middle of a job; and of a hold, which no boot outlasts.
    let held = Job::new(&image).project(9, "group/held").script(&["exit 1"]);
    windlass.windlass(&["hold", "group/held", "--for", "1h"]);
    runner.play_to_be_held(&held).expect(State::script_failure(1));
    let mut attempt = runner.attempt(&Job::new(&image).project(8, "group/running"));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(PATIENCE).expect_code(0);
    let call = attempt.run_lines("build_script", &format!("echo x >/cache/running; {UNTIL_TOLD}"));
    call.wait_for_output("started");
    assert_eq!(lanes(&windlass, "group/running"), ["builds-0", "cache"]);
    let drained = windlass.windlass(&["drain"]);
    assert!(drained.status.success(), "{}", text(&drained));
    // What comes now needs neither the shims nor their caller.
    std::mem::forget((call, attempt));
    if *end == End::PowerCut {
        lose_power();
    }
}

/// The service came up with the host, without anybody's doing.
fn it_is_back(windlass: &Installed) {
    until("it serves", PATIENCE, || windlass.property("ActiveState") == "active");
    until("it is drained, as it was", PATIENCE, || windlass.property("StatusText").starts_with("drained"));
    let undrained = windlass.windlass(&["undrain"]);
    assert!(undrained.status.success(), "{}", text(&undrained));
}

fn all_is_as_it_was_left(windlass: &Installed, end: End) {
    // podman keeps what the host has ended; it goes with the first sweep.
    until("no container is left", PATIENCE, || containers(windlass).is_empty());
    nothing_is_left(windlass);
    let status = windlass.status();
    assert_eq!(status["daemon"]["warnings"].to_string().matches("free on").count(), 0, "{status}");
    let holds = windlass.json(&["hold", "--list"]);
    assert_eq!(holds, Value::Array(Vec::new()), "a hold ends with the boot");
    let networks = windlass.podman(&["network", "ls", "--quiet", "--filter", "label=io.windlass.daemon"]);
    assert!(networks.status.success() && networks.stdout.is_empty(), "{}", text(&networks));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let overlays = mounts.lines().filter(|line| line.contains("containers/storage/overlay/")).count();
    assert_eq!(overlays, 0, "no container's file system is mounted:\n{mounts}");
    let of_running = lanes(windlass, "group/running");
    assert!(of_running.contains(&"cache".to_owned()), "{of_running:?}");
    if end == End::PowerCut {
        // The clone that was in use when the power went may be half written. In an orderly shutdown gitlab-runner ends first, and there
        // may be time to take its job down.
        assert_eq!(of_running, ["cache"]);
    }
    assert_eq!(lanes(windlass, "group/project").join("\n"), fs::read_to_string(LANES).unwrap());
    assert!(!Path::new("/run/windlass/holds.json").exists(), "in boot {}", boot());
}

/// The names of a project's lanes.
fn lanes(windlass: &Installed, project: &str) -> Vec<String> {
    let lanes = windlass.json(&["cache", "list"]);
    let lanes = lanes.as_array().cloned().unwrap_or_default();
    let of_project = lanes.iter().filter(|lane| lane["project_path"] == project);
    let mut names: Vec<String> = of_project.filter_map(|lane| Some(lane["lane"].as_str()?.to_owned())).collect();
    names.sort();
    names
}

/// A job that finds what one of each earlier boot has kept, in build directory and cache, and adds its own.
fn a_job_keeps_something(runner: &Runner<'_>, image: &str) {
    let lines: Vec<String> = (1..boot()).map(|number| format!("boot {number}")).collect();
    let shown = "for place in /builds /cache; do [ ! -e $place/kept ] || cat $place/kept; done";
    let keep = format!("for place in /builds /cache; do echo 'boot {}' >>$place/kept; done", boot());
    let outcome = runner.play(&Job::new(image).script(&[shown, &keep]));
    outcome.expect(State::Success);
    let printed = String::from_utf8_lossy(&outcome.call("build_script").stdout).into_owned();
    let found: Vec<&str> = printed.lines().filter(|line| line.starts_with("boot ")).collect();
    assert_eq!(found, [&lines[..], &lines[..]].concat(), "what was kept:\n{printed}");
}
