//! A run that is killed with -9 leaves a record with which the next one finishes or undoes its update.

use std::process::Stdio;
use std::time::Instant;

use crate::support::boxed::in_a_box;
use crate::support::installed::PATIENCE;
use crate::support::updater::{Does, Updater, outcome};
use crate::{CHECK, LABEL};

#[test]
fn an_update_of_root_that_is_killed_at_any_step_is_finished_or_undone_by_the_next_run() {
    in_a_box("killed::killed_runs_of_root_in_the_box");
}

#[test]
fn an_update_of_a_user_that_is_killed_at_any_step_is_finished_or_undone_by_the_next_run() {
    in_a_box("killed::killed_runs_of_a_user_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn killed_runs_of_root_in_the_box() {
    killed_runs(false);
}

#[test]
#[ignore = "runs in a box"]
fn killed_runs_of_a_user_in_the_box() {
    killed_runs(true);
}

/// The step of a unit's update that is on record.
fn step(host: &Updater, unit: &str) -> Option<String> {
    host.record(unit)["journey"]["step"].as_str().map(str::to_owned)
}

/// Kills a run with -9 when its record shows the step; whether it was there to be killed.
fn kill_at(host: &Updater, wanted: &str) -> bool {
    let mut child =
        host.command("windlass").args(["update", "run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let since = Instant::now();
    while step(host, "web.service").as_deref() != Some(wanted) {
        assert!(since.elapsed() < PATIENCE, "no {wanted}");
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    step(host, "web.service").as_deref() == Some(wanted)
}

/// The shortest step is between two writes: it may take some attempts to hit it.
const ATTEMPTS: u32 = 40;

fn killed_runs(rootless: bool) {
    let Some(host) = Updater::new(rootless) else { return };
    let web = host.registry.image("web:latest");
    let mut good = host.push(&web, Does::Well, 0);
    host.service("web", &web, &format!("{LABEL} {CHECK}"));
    for wanted in ["checked", "pulled", "restarting", "judging", "rolling-back"] {
        let is_bad = wanted == "rolling-back";
        let mut hit = false;
        for _ in 0..ATTEMPTS {
            let new = host.push(&web, if is_bad { Does::Crash } else { Does::Well }, 0);
            hit = kill_at(&host, wanted);
            // The next run finishes it, or undoes it.
            let (code, report) = host.run();
            let came = outcome(&report, "web.service").to_owned();
            let after = host.record("web.service");
            assert!(after["journey"].is_null(), "{wanted}: {after}");
            if is_bad {
                assert!(["rolled-back", "quarantined"].contains(&came.as_str()), "{wanted}: {report}");
                assert!(!after["quarantine"].as_array().unwrap().is_empty(), "{after}");
            } else {
                assert_eq!(code, 0, "{wanted}: {report}");
                assert!(["updated", "current"].contains(&came.as_str()), "{wanted}: {report}");
                good = new;
            }
            assert_eq!(host.container("web").1, good, "{wanted}");
            assert_eq!(host.image(&web).as_ref(), Some(&good), "{wanted}");
            if hit {
                eprintln!("killed at {wanted}: {came}");
                break;
            }
        }
        assert!(hit, "no run was caught at {wanted}");
    }
    host.stop(&["web.service"]);
}
