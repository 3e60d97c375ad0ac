//! In which order, how many at once, and what becomes of a unit that can't be brought back.

use std::time::Duration;

use crate::support::boxed::in_a_box;
use crate::support::installed::{PATIENCE, text};
use crate::support::until;
use crate::support::updater::{Does, Updater, outcome};
use crate::{CHECK, LABEL};

#[test]
fn units_go_together_but_after_those_that_systemd_starts_first_and_stuck_ones_wait_for_help() {
    in_a_box("order::order_in_the_box");
}

/// How long what was restarted has to stay up: longer than a restart takes.
const SETTLE: Duration = Duration::from_secs(8);

#[test]
#[ignore = "runs in a box"]
fn order_in_the_box() {
    let Some(host) = Updater::new(false) else { return };
    order(&host);
}

/// Units that go together, and one that can't be brought back.
pub fn order(host: &Updater) {
    several_at_once(host);
    stuck(host);
}

fn several_at_once(host: &Updater) {
    // By name the other way round.
    let image = |name: &str| host.registry.image(&format!("{name}:latest"));
    for (name, lines) in [("zdb", ""), ("app", "[Unit]\nAfter=zdb.service"), ("beside", "")] {
        host.push(&image(name), Does::Well, 0);
        host.service_with(name, &image(name), &format!("{LABEL} {CHECK}"), lines);
        host.push(&image(name), Does::Well, 0);
    }
    host.configure(&format!("settle = \"{}s\"\nmax_parallel = 3\ndelay = \"1s\"", SETTLE.as_secs()));
    let (code, report) = host.json(&["run", "--delayed"]);
    assert_eq!(code, 0, "{report}");
    assert!(
        ["zdb", "app", "beside"].iter().all(|name| outcome(&report, &format!("{name}.service")) == "updated"),
        "{report}"
    );
    let started = |name: &str| {
        let at = host.property(&format!("{name}.service"), "ActiveEnterTimestampMonotonic");
        Duration::from_micros(at.parse().unwrap())
    };
    let (first, after, beside) = (started("zdb"), started("app"), started("beside"));
    assert!(after >= first + SETTLE, "app was restarted {:?} after zdb, which was not judged yet", after - first);
    assert!(beside < first + SETTLE, "beside has waited for zdb: {:?}", beside - first);
    host.stop(&["app.service", "zdb.service", "beside.service"]);
}

fn stuck(host: &Updater) {
    host.configure("");
    let image = host.registry.image("web:latest");
    let good = host.push(&image, Does::Well, 0);
    // It may start twice: once now, once for the update. Then something else of the host is broken.
    let starts = host.runtime().join("starts").display().to_string();
    let counts =
        format!("/bin/sh -c 'n=$$(cat {starts} 2>/dev/null || echo 0); echo $$((n + 1)) >{starts}; test $$n -lt 2'");
    host.service_with(
        "web",
        &image,
        &format!("{LABEL} {CHECK}"),
        &format!("[Service]\nRestart=no\nExecStartPre={counts}"),
    );
    host.push(&image, Does::Crash, 0);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (1, "rollback-failed"), "{report}");
    let unit = report["units"].as_array().unwrap().iter().find(|unit| unit["unit"] == "web.service").unwrap();
    let (reason, advice) = (unit["reason"].as_str().unwrap(), unit["advice"].as_str().unwrap());
    assert!(reason.contains("going back failed"), "{reason}");
    let status = format!("systemctl {}status web.service", if host.user.is_some() { "--user " } else { "" });
    for told in [&*status, &format!("podman tag {good} {image}"), "windlass update release web.service"] {
        assert!(advice.contains(told), "{told} is not in: {advice}");
    }
    assert!(text(&host.windlass(&["status"])).contains("windlass update release web.service"));
    // It is left alone until somebody has mended it and says so.
    host.push(&image, Does::Well, 0);
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (1, "rollback-failed"), "{report}");
    std::fs::write(&starts, "-5").unwrap();
    host.podman(&["tag", &good, &image]);
    host.start("web.service");
    until("its container runs", PATIENCE, || host.try_container("web").is_some());
    let (_, released) = host.json(&["release", "web.service"]);
    assert!(released.to_string().contains("the wait for help"), "{released}");
    let (code, report) = host.run();
    assert_eq!((code, outcome(&report, "web.service")), (0, "updated"), "{report}");
    host.stop(&["web.service"]);
}
