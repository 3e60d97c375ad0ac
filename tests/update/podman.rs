//! A podman that does not answer, and one that alone can find out what a tag is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::boxed::in_a_box;
use crate::support::updater::{Does, Updater, outcome};
use crate::{CHECK, LABEL};

/// Between windlass and podman: while a number is in `/run/trouble` and an update is being judged, so many questions about containers fail,
/// or hang where there is `/run/hangs`. Where there is `/run/kill`, whoever has it pull is killed when that is done.
const BETWEEN: &str = r#"#!/bin/sh
left=$(cat /run/trouble 2>/dev/null || echo 0)
if [ "$left" -gt 0 ] && grep -qs '"step": "judging"' /var/lib/windlass-update/units/*.json; then
  case "$1 $2" in
    "inspect --type" | "container exists")
      echo $((left - 1)) >/run/trouble
      [ -e /run/hangs ] && exec sleep 600
      echo "Error: database is locked" >&2
      exit 125
      ;;
  esac
fi
if [ "$1" = pull ] && [ -e /run/kill ]; then
  rm /run/kill
  /usr/bin/podman "$@" && kill -9 $PPID
  exit 1
fi
exec /usr/bin/podman "$@"
"#;

#[test]
fn podman_in_trouble_condemns_no_image_and_what_it_pulls_to_find_out_leaves_nothing_behind() {
    in_a_box("podman::podman_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn podman_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    fs::write("/usr/local/bin/podman", BETWEEN).unwrap();
    fs::set_permissions("/usr/local/bin/podman", fs::Permissions::from_mode(0o755)).unwrap();
    trouble(&host);
    mirror(&host);
}

fn report_of<'a>(report: &'a Value, unit: &str) -> &'a Value {
    report["units"].as_array().unwrap().iter().find(|found| found["unit"] == unit).unwrap()
}

fn trouble(host: &Updater) {
    let web = host.registry.image("web:latest");
    host.push(&web, Does::Well, 0);
    host.service("web", &web, &format!("{LABEL} {CHECK}"));
    // For a moment: nobody notices.
    let new = host.push(&web, Does::Well, 0);
    fs::write("/run/trouble", "5").unwrap();
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
    assert_eq!(fs::read_to_string("/run/trouble").unwrap().trim(), "0", "it was in trouble");
    assert_eq!(host.container("web").1, new);
    // For longer: the image stays, is in no quarantine, and the next run judges it.
    host.configure("timeout = \"10s\"");
    let newer = host.push(&web, Does::Well, 0);
    fs::write("/run/hangs", "").unwrap();
    fs::write("/run/trouble", "1000").unwrap();
    let (code, report) = host.run();
    fs::remove_file("/run/trouble").unwrap();
    assert_eq!((code, outcome(&report, "web.service")), (1, "failed"), "{report}");
    let reason = report_of(&report, "web.service")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("nobody can tell whether it runs") && reason.contains("no end within 10s"), "{reason}");
    assert_eq!((host.container("web").1, host.image(&web)), (newer.clone(), Some(newer.clone())));
    let record = host.record("web.service");
    assert_eq!((&record["quarantine"], &record["journey"]["step"]), (&json!([]), &json!("judging")), "{record}");
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
    assert_eq!(host.container("web").1, newer);
    host.configure("");
    host.stop(&["web.service"]);
}

/// Nobody listens where the image is from; podman has a mirror.
fn mirror(host: &Updater) {
    let app = "127.0.0.1:1/app:latest";
    let conf = format!(
        "[[registry]]\nlocation = \"127.0.0.1:1\"\n[[registry.mirror]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n",
        host.registry.port
    );
    fs::write("/etc/containers/registries.conf.d/mirror.conf", conf).unwrap();
    let push = |does: Does| host.push(&host.registry.image("app:latest"), does, 0);
    let old = push(Does::Well);
    host.service("app", app, LABEL);
    let comes = |expected: (i32, &str)| {
        let (code, report) = host.run();
        assert_eq!((code, outcome(&report, "app.service")), expected, "{report}");
        report_of(&report, "app.service")["reason"].as_str().unwrap_or_default().to_owned()
    };
    comes((0, "current"));
    let before = host.container("app");

    // Where nothing would be done anyway, nothing is pulled to find out.
    let new = push(Does::Well);
    host.json(&["hold", "app"]);
    let reason = comes((0, "held"));
    assert!(reason.contains("only a pull could tell"), "{reason}");
    host.json(&["release", "app"]);
    let hour = jiff::Zoned::now().hour();
    host.configure(&format!(
        "windows = [\"{:02}:00-{:02}:00\"]\ndownload_only = false\n",
        (hour + 2) % 24,
        (hour + 3) % 24
    ));
    comes((0, "waiting"));
    assert_eq!((host.image(&new), host.image(app)), (None, Some(old.clone())));
    host.configure("");

    // Killed when the tag has moved and nobody has judged what it is: the next run gives it back, whatever else it does.
    fs::write("/run/kill", "").unwrap();
    assert_eq!(host.windlass(&["run"]).status.code(), None, "killed");
    assert!(!Path::new("/run/kill").exists());
    assert_eq!(host.image(app), Some(new.clone()), "the tag has moved");
    host.json(&["hold", "app"]);
    comes((0, "held"));
    assert_eq!((host.image(app), host.container("app")), (Some(old), before));
    host.json(&["release", "app"]);
    comes((0, "updated"));
    assert_eq!((host.container("app").1, host.image(app)), (new.clone(), Some(new.clone())));
    assert_eq!(host.record("app.service")["pulled"], json!([]));

    // What is not updated to does not stay.
    let bad = push(Does::Crash);
    comes((1, "rolled-back"));
    assert_eq!(host.image(&bad), None);
    let before = host.container("app");
    comes((0, "quarantined"));
    assert_eq!((host.image(&bad), host.image(app), host.container("app")), (None, Some(new), before));
    let next = push(Does::Well);
    comes((0, "updated"));
    assert_eq!(host.container("app").1, next);
    host.stop(&["app.service"]);
}
