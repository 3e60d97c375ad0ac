//! `windlass update` on a host of its own (scripts/box.sh): real systemd, real podman, a real registry; as root and as a user.
//!
//! The tests run this program again in the box, with one of those that are ignored here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::boxed::in_a_box;
use support::installed::{PATIENCE, run, text};
use support::proxy::{Proxy, Trouble};
use support::until;
use support::updater::{Does, Updater, outcome};

const LABEL: &str = "--label io.containers.autoupdate=registry";
const CHECK: &str = "--health-cmd 'test -e /healthy' --health-interval 1s --health-retries 3 --health-timeout 2s";

#[test]
fn root_goes_over_to_updates_that_are_judged_and_undone() {
    in_a_box("updates_of_root_in_the_box");
}

#[test]
fn a_user_goes_over_to_updates_that_are_judged_and_undone() {
    in_a_box("updates_of_a_user_in_the_box");
}

#[test]
fn a_pod_is_updated_and_undone_as_one() {
    in_a_box("pods_in_the_box");
}

#[test]
fn an_update_of_root_that_is_killed_at_any_step_is_finished_or_undone_by_the_next_run() {
    in_a_box("killed_runs_of_root_in_the_box");
}

#[test]
fn an_update_of_a_user_that_is_killed_at_any_step_is_finished_or_undone_by_the_next_run() {
    in_a_box("killed_runs_of_a_user_in_the_box");
}

#[test]
fn a_registry_or_a_disk_in_trouble_touches_nothing_that_runs() {
    in_a_box("trouble_in_the_box");
}

#[test]
fn it_works_by_its_settings_and_beside_nobody() {
    in_a_box("settings_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn updates_of_root_in_the_box() {
    updates(false);
}

#[test]
#[ignore = "runs in a box"]
fn updates_of_a_user_in_the_box() {
    updates(true);
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

/// Two services that follow a tag each.
fn two_services(host: &Updater) -> [String; 2] {
    let images = [host.registry.image("web:latest"), host.registry.image("other:latest")];
    for (name, image) in ["web", "other"].iter().zip(&images) {
        host.push(image, Does::Well, 0);
        host.service(name, image, &format!("{LABEL} {CHECK}"));
    }
    images
}

fn updates(rootless: bool) {
    let Some(host) = Updater::new(rootless) else { return };
    let [web, other] = two_services(&host);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service"), outcome(&report, "other.service")), (0, "current", "current"));

    // A new image: the plan says so and does nothing; the run restarts its unit and no other.
    let (before, beside) = (host.container("web"), host.container("other"));
    let new = host.push(&web, Does::Well, 0);
    let (_, plan) = host.json(&["plan"]);
    assert_eq!((outcome(&plan, "web.service"), outcome(&plan, "other.service")), ("pending", "current"), "{plan}");
    assert_eq!(host.container("web"), before);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
    assert_eq!(host.container("web").1, new);
    assert_eq!(host.container("other"), beside);
    let kept = format!("localhost/windlass-update/web:{}", &before.1[..12]);
    assert_eq!(host.image(&kept).as_ref(), Some(&before.1), "the image before is kept");

    // Bad ones are undone, and left alone at the next run; the next good one goes in, and older images go.
    host.configure("settle = \"7s\"");
    let mut good = new;
    for does in [Does::Crash, Does::Ail, Does::DieLater] {
        let bad = host.push(&web, does, 0);
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (1, "rolled-back"), "{does:?}: {report}");
        let back = host.container("web");
        assert_eq!(back.1, good, "{does:?}");
        assert_eq!(host.image(&web).as_ref(), Some(&good), "the tag is back");
        assert_eq!(host.image(&bad), None, "what failed is gone");
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (0, "quarantined"), "{does:?}: {report}");
        assert_eq!(host.container("web"), back, "{does:?} is not tried again");
        let before = good;
        good = host.push(&web, Does::Well, 0);
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
        assert_eq!(host.container("web").1, good);
        assert!(host.image(&before).is_some(), "one image before is kept");
    }
    assert_eq!(host.image(&kept), None, "and no more than one");
    assert_eq!(host.container("other"), beside);
    assert_eq!(host.image(&other).as_ref(), Some(&beside.1));

    // One that was quarantined is tried again when it is released.
    let bad = host.push(&web, Does::Crash, 0);
    assert_eq!(outcome(&host.run().1, "web.service"), "rolled-back");
    let (_, status) = host.json(&["status"]);
    let unit = status["units"].as_array().unwrap().iter().find(|unit| unit["unit"] == "web.service").unwrap();
    assert!(!unit["quarantine"].as_array().unwrap().is_empty(), "{status} {bad}");
    host.json(&["release", "web"]);
    assert_eq!(outcome(&host.run().1, "web.service"), "rolled-back");

    // Held: nothing, until it is released.
    host.push(&web, Does::Well, 0);
    host.json(&["hold", "web.service"]);
    let before = host.container("web");
    assert_eq!(outcome(&host.run().1, "web.service"), "held");
    assert_eq!(host.container("web"), before);
    host.json(&["release", "web.service"]);
    assert_eq!(outcome(&host.run().1, "web.service"), "updated");

    let (_, history) = host.json(&["history", "web.service", "--count", "100"]);
    let words: Vec<&str> = history.as_array().unwrap().iter().filter_map(|entry| entry["outcome"].as_str()).collect();
    let round = ["rolled-back", "quarantined", "updated"];
    let mut expected = vec!["updated"];
    (0..3).for_each(|_| expected.extend(round));
    expected.extend(["rolled-back", "rolled-back", "held", "updated"]);
    assert_eq!(words, expected);
    for shown in [&["status"][..], &["plan"], &["history"]] {
        let shown = text(&host.windlass(shown));
        assert!(shown.contains("web.service"), "{shown}");
    }
    host.stop(&["web.service", "other.service"]);
}

#[test]
#[ignore = "runs in a box"]
fn pods_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    let images = [host.registry.image("a:1"), host.registry.image("b:1")];
    let first: Vec<String> = images.iter().map(|image| host.push(image, Does::Well, 0)).collect();
    host.pod("p", &[("a", &images[0]), ("b", &images[1])]);
    let runs = || ["a", "b"].map(|name| host.container(name).1);
    assert_eq!(runs().as_slice(), first);
    let (code, report) = host.run();
    assert_eq!((code, report["units"].as_array().unwrap().len()), (0, 1), "a pod is one unit: {report}");
    assert_eq!(outcome(&report, "pod-p.service"), "current", "{report}");

    // A new image of one container: both are made anew, with what they should run.
    let a = host.push(&images[0], Does::Well, 0);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (0, "updated"), "{report}");
    assert_eq!(runs(), [a.clone(), first[1].clone()]);

    // One good and one bad: both go back, and neither is tried again.
    host.configure("settle = \"7s\"");
    host.push(&images[0], Does::DieLater, 0);
    let b = host.push(&images[1], Does::Well, 0);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (1, "rolled-back"), "{report}");
    assert_eq!(runs(), [a, first[1].clone()]);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (0, "quarantined"), "{report}");

    // The bad one moves on; with the other released, both go in.
    let a = host.push(&images[0], Does::Well, 0);
    host.json(&["release", "pod-p"]);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "pod-p.service")), (0, "updated"), "{report}");
    assert_eq!(runs(), [a, b]);
    host.stop(&["pod-p.service"]);
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
                assert_eq!(after["quarantine"].as_array().unwrap().is_empty(), false);
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

#[test]
#[ignore = "runs in a box"]
fn trouble_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    let proxy = Proxy::start(&host.registry, &[], &[]);
    host.trust(&proxy.host());
    let (pushed, web) = (host.registry.image("web:latest"), proxy.image("web:latest"));
    host.push(&pushed, Does::Well, 0);
    host.service("web", &web, LABEL);
    let before = host.container("web");
    assert_eq!(outcome(&host.run().1, "web.service"), "current");
    let new = host.push(&pushed, Does::Well, 3 << 20);
    let fails = |what: &str, words: &str| {
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "web.service")), (1, "failed"), "{what}: {report}");
        let reason = report["units"][0]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains(words), "{what}: {reason}");
        assert_eq!(host.container("web"), before, "{what}");
        assert_eq!(host.image(&web).as_ref(), Some(&before.1), "{what}");
        assert!(host.record("web.service")["journey"].is_null(), "{what}");
    };
    proxy.meet(&vec![Trouble::Status(401); 20], &[]);
    fails("401", "web:latest");
    proxy.meet(&[Trouble::Later(3600)], &[]);
    fails("429", "enough requests");
    // Each pull tries again: half a layer, as often as it likes.
    proxy.meet(&[], &vec![Trouble::Half; 100]);
    fails("half a layer", "could not be pulled");
    proxy.meet(&[], &[]);

    // Disks that are full: where podman keeps images, and where records are.
    let full = |directory: &str| {
        let path = Path::new(directory).join("filler");
        run(Command::new("sh").args(["-c", "dd if=/dev/zero of=\"$0\" bs=1M 2>/dev/null; true"]).arg(&path));
        path
    };
    run(Command::new("mount").args(["-o", "remount,size=200m", "/var/lib/containers"]));
    let filler = full("/var/lib/containers");
    fails("a full disk", "could not be pulled");
    fs::remove_file(filler).unwrap();
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "none", "/var/lib/windlass-update"]));
    let filler = full("/var/lib/windlass-update");
    let output = host.windlass(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("nothing was changed") || text(&output).contains("No space"), "{}", text(&output));
    assert_eq!(host.container("web"), before);
    fs::remove_file(filler).unwrap();

    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
    assert_eq!(host.container("web").1, new);
    let before = host.container("web");
    // Nobody listens.
    drop(proxy);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (1, "failed"), "{report}");
    assert_eq!(host.container("web"), before);
    host.stop(&["web.service"]);
}

#[test]
#[ignore = "runs in a box"]
fn settings_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    let web = host.registry.image("web:latest");
    let old = host.push(&web, Does::Well, 0);
    host.service("web", &web, "");
    let (_, report) = host.run();
    assert_eq!(outcome(&report, "web.service"), "", "it carries no label: {report}");
    let include = format!("include = [\"{}/**\"]\n", host.registry.image("web").rsplit_once('/').unwrap().0);

    // Outside the windows images come, and no tag moves.
    let hour = jiff::Zoned::now().hour();
    let closed = format!("windows = [\"{:02}:00-{:02}:00\"]\n", (hour + 2) % 24, (hour + 3) % 24);
    host.configure(&format!("{include}{closed}"));
    let new = host.push(&web, Does::Well, 0);
    let before = host.container("web");
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "downloaded"), "{report}");
    assert_eq!((host.container("web"), host.image(&web)), (before.clone(), Some(old.clone())));
    assert!(host.image(&new).is_some(), "it is here");
    host.configure(&format!("{include}{closed}download_only = false\n"));
    assert_eq!(outcome(&host.run().1, "web.service"), "waiting");
    assert_eq!(host.container("web"), before);

    // The timer's service, with figures and a command.
    let told = Path::new("/run/told");
    fs::write("/usr/local/bin/tell", format!("#!/bin/sh\ncat >{}\n", told.display())).unwrap();
    fs::set_permissions("/usr/local/bin/tell", fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all("/run/figures").unwrap();
    host.configure(&format!("{include}textfile_directory = \"/run/figures\"\ncommand = [\"/usr/local/bin/tell\"]\n"));
    let said = run(Command::new("systemd-analyze").args(["verify", "--man=no", "windlass-update.timer"]));
    assert!(!said.contains("windlass"), "{said}");
    host.start("windlass-update.service");
    assert_eq!(host.container("web").1, new);
    let told: Value = serde_json::from_slice(&fs::read(told).unwrap()).unwrap();
    assert_eq!(outcome(&told, "web.service"), "updated");
    let figures = fs::read_to_string("/run/figures/windlass-update.prom").unwrap();
    assert!(
        figures.contains("windlass_update_unit_state{user=\"root\",unit=\"web.service\",state=\"updated\"} 1"),
        "{figures}"
    );
    let updated = ["UNIT=web.service", "OUTCOME=updated", "--output=cat"];
    until("the journal has it", Duration::from_secs(30), || {
        let shown = Command::new("journalctl").arg("--no-pager").args(updated).output().unwrap();
        text(&shown).contains("web.service: updated")
    });

    // An image that is built here, and a container that is only started again.
    host.podman(&["tag", &new, "localhost/own:1"]);
    host.service("own", "localhost/own:1", "--label io.containers.autoupdate=local");
    host.podman(&["tag", &old, "localhost/own:1"]);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "own.service")), (0, "updated"), "{report}");
    assert_eq!(host.container("own").1, old);
    let fixed = host.registry.image("fixed:1");
    let first = host.push(&fixed, Does::Well, 0);
    host.podman(&[
        "create",
        "--name",
        "fixed",
        "--network",
        "none",
        "--label",
        "io.containers.autoupdate=registry",
        "--label",
        "PODMAN_SYSTEMD_UNIT=fixed.service",
        &fixed,
    ]);
    host.write_unit("fixed.service", &host.podman(&["generate", "systemd", "--name", "fixed"]));
    host.systemctl(&["daemon-reload"]);
    host.systemctl(&["start", "container-fixed.service"]);
    host.write_unit("fixed.service", &host.podman(&["generate", "systemd", "--name", "fixed"]));
    host.systemctl(&["stop", "container-fixed.service"]);
    host.start("fixed.service");
    host.push(&fixed, Does::Well, 0);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "fixed.service")), (1, "rolled-back"), "{report}");
    assert!(report.to_string().contains("instead of making a new one"), "{report}");
    assert_eq!(host.container("fixed").1, first);
    assert_eq!(outcome(&host.run().1, "fixed.service"), "quarantined");

    // Not beside podman's own timer, and not with a configuration that says what nobody can do.
    run(Command::new("systemctl").args(["enable", "--quiet", "--now", "podman-auto-update.timer"]));
    let refused = host.windlass(&["run"]);
    let said = text(&refused);
    assert!(said.contains("systemctl disable --now podman-auto-update.timer"), "{said}");
    assert_eq!(refused.status.code(), Some(1));
    run(Command::new("systemctl").args(["disable", "--quiet", "--now", "podman-auto-update.timer"]));
    host.configure("windows = [\"2-5\"]\n");
    assert_eq!(host.windlass(&["run"]).status.code(), Some(78));
    assert_eq!(host.windlass(&["check"]).status.code(), Some(78));
    host.stop(&["web.service", "own.service", "fixed.service"]);
}
