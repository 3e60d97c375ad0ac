//! Settings: patterns, windows, figures, a command; other kinds of containers; and who it does not work beside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::boxed::in_a_box;
use crate::support::installed::{run, text};
use crate::support::until;
use crate::support::updater::{Does, Updater, outcome};

#[test]
fn it_works_by_its_settings_and_beside_nobody() {
    in_a_box("settings::settings_in_the_box");
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
    let said = run(Command::new("systemd-analyze").args([
        "verify",
        "--man=no",
        "windlass-update.timer",
        "windlass-update-watch.service",
    ]));
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
