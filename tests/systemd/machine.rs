//! The service in a virtual machine (scripts/vm.sh) whose kernel has the controllers of cgroups: limits hold, and neither restarts nor
//! reboots are noticed there.

use std::path::Path;

use serde_json::Value;

use crate::SETTINGS;
use crate::reboot::{End, boots, reboots};
use crate::restarts::{Load, nobody_notices};
use crate::support::boxed::in_a_machine_that_reboots;
use crate::support::installed::{Installed, PATIENCE};
use crate::support::{Job, Runner, client, until};

/// Jobs at a time and restarts while they run: fewer than in a box, which is many times faster. `WINDLASS_MACHINE_RESTARTS` makes it eight
/// jobs, and so many restarts.
const JOBS: u32 = 2;
const RESTARTS: u32 = 2;
/// Both of a reboot's ways in one of the machines, and the harder one in the other: each boot takes minutes.
const ENDS: &[End] = &[End::Shutdown, End::PowerCut];
const ROOTFUL_ENDS: &[End] = &[End::PowerCut];

#[test]
fn a_rootless_service_whose_limits_hold_is_restarted_and_rebooted() {
    in_a_machine_that_reboots("machine::rootless_in_the_machine", boots(ENDS));
}

#[test]
fn a_rootful_service_whose_limits_hold_is_restarted_and_rebooted() {
    in_a_machine_that_reboots("machine::rootful_in_the_machine", boots(ROOTFUL_ENDS));
}

#[test]
#[ignore = "runs in a virtual machine"]
fn rootless_in_the_machine() {
    in_the_machine(false);
}

#[test]
#[ignore = "runs in a virtual machine"]
fn rootful_in_the_machine() {
    in_the_machine(true);
}

fn in_the_machine(rootful: bool) {
    let limited = "[job]\nmemory = \"128 MiB\"\nmemory_swap = \"192 MiB\"\ncpus = 1.5\ncpu_weight = 200\npids = 200\n";
    let settings = SETTINGS.replace("[job]\n", limited);
    assert_ne!(settings, SETTINGS);
    // As the container's own cgroup has them.
    let limits = (
        "(cd /sys/fs/cgroup && cat memory.max memory.swap.max pids.max cpu.max cpu.weight)",
        "134217728\n67108864\n200\n150000 100000\n200\n",
    );
    let wanted = std::env::var("WINDLASS_MACHINE_RESTARTS").map(|number| number.parse().expect("a number"));
    let (jobs, restarts) = wanted.map_or((JOBS, RESTARTS), |restarts| (8, restarts));
    let ends = if rootful { ROOTFUL_ENDS } else { ENDS };
    let load = Load { jobs, restarts, further: &[limits], service: None };
    reboots(rootful, &settings, ends, |windlass, image| {
        the_page_has_what_a_job_uses_and_may(windlass, image);
        nobody_notices(windlass, image, &load);
    });
}

/// A job's memory and CPUs, now and at most, against its limits, as `/api/v1/now` has them.
fn the_page_has_what_a_job_uses_and_may(windlass: &Installed, image: &str) {
    let runner = Runner::on(windlass);
    let mut attempt = runner.attempt(&Job::new(image));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(PATIENCE).expect_code(0);
    // Busy until it is told.
    let call = attempt.run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do :; done\n");
    call.wait_for_output("started");
    let mut last = Value::Null;
    let job = || {
        let now = client::get_at(Path::new("/run/windlass/page.sock"), "/api/v1/now").unwrap().json();
        let slots = now["slots"].as_array().cloned().unwrap_or_default();
        slots.into_iter().map(|slot| slot["job"].clone()).find(|job| job["id"] == attempt.job.id).unwrap_or_default()
    };
    until("it is known what the job uses", PATIENCE, || {
        last = job();
        last["cpus_peak"].as_f64().is_some_and(|cpus| cpus > 0.1)
    });
    let number = |key: &str| last[key].as_f64().unwrap_or_else(|| panic!("no {key}: {last:#}"));
    assert_eq!((number("memory_limit"), number("cpus_limit")), (134_217_728.0, 1.5), "{last:#}");
    assert!(number("memory") > 0.0 && number("memory") <= number("memory_peak"), "{last:#}");
    assert!(number("memory_peak") <= number("memory_limit"), "{last:#}");
    // Of so few processes, what is between two looks is never far more than the limit.
    assert!(number("cpus") <= number("cpus_peak") && number("cpus_peak") < 3.0, "{last:#}");
    assert!(windlass.in_job(&attempt.lease(), &["touch", "/builds/go"]).status.success());
    call.wait_for(PATIENCE).expect_code(0);
    attempt.finish();
}
