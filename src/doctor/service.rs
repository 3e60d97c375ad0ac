//! The daemon, its units, and what its user needs to have podman work without a login.

use std::os::unix::fs::MetadataExt;

use super::run;
use super::{Finding, Host};
use crate::protocol::daemon::Status;

/// What was found of the user's manager (rootless only).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Manager {
    lingers: bool,
    /// Whether /run/user/UID is there and its own.
    has_directory: bool,
    /// Whether the manager's bus is in it.
    has_bus: bool,
}

/// Looks at them.
pub async fn check(host: &Host) -> Vec<Finding> {
    let mut findings = daemon(&host.status, env!("CARGO_PKG_VERSION"));
    let (name, uid) = (&host.user.name, host.user.uid.as_raw());
    findings.push(Finding::ok("service-user", format!("the service's user is {name} ({uid})")));
    if !host.systemd {
        findings.push(Finding::skipped("units", "systemd does not run here: units and lingering do not matter", None));
        return findings;
    }
    let properties = ["-p", "LoadState", "-p", "UnitFileState", "-p", "NeedDaemonReload"];
    for unit in ["windlass.socket", "windlass.service"] {
        let text = run::output("systemctl", &[&["show", unit][..], &properties].concat()).await;
        findings.push(unit_state(unit, text.as_deref()));
    }
    if !host.is_rootful() && host.settings.runs_jobs() {
        let directory = host.files.path(&format!("/run/user/{uid}"));
        let manager = Manager {
            lingers: host.files.has(&format!("/var/lib/systemd/linger/{name}")),
            has_directory: std::fs::metadata(&directory).is_ok_and(|about| about.uid() == uid),
            has_bus: directory.join("bus").exists(),
        };
        findings.extend(lingering(name, uid, manager));
    }
    findings
}

fn daemon(status: &Result<Box<Status>, String>, own: &str) -> Vec<Finding> {
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            return vec![Finding::error(
                "daemon",
                error.clone(),
                "jobs wait for it up to [socket] daemon_wait and fail then",
                "systemctl status windlass.service; journalctl -u windlass -n 50; systemctl restart windlass.service",
            )];
        }
    };
    let about = &status.daemon;
    let slots = status.slots.iter().filter(|slot| !slot.goes).count();
    let mut findings =
        vec![Finding::ok("daemon", format!("windlassd {} answers, with {slots} slot(s)", about.version))];
    if about.version != own {
        findings.push(Finding::warning(
            "daemon-release",
            format!("windlassd is of release {}, this command of {own}", about.version),
            "the daemon still runs as it was before an upgrade, or they are from two installations",
            "systemctl restart windlass.service (running jobs go on)",
        ));
    }
    if about.drained_since.is_some() {
        findings.push(Finding::warning(
            "drained",
            "the host is drained",
            "no new jobs are taken; those that come wait up to slot_wait and fail then",
            "windlass undrain",
        ));
    }
    findings.extend(about.warnings.iter().map(|warning| {
        let remedy =
            "do what it says, or take the key out of the configuration; `windlass status` shows whether it is gone";
        Finding::warning("daemon-warnings", warning.clone(), "the daemon says this of itself", remedy)
    }));
    findings
}

fn unit_state(unit: &str, shown: Result<&str, &String>) -> Finding {
    let text = match shown {
        Ok(text) => text,
        Err(error) => return Finding::skipped("units", format!("{unit}: {error}"), None),
    };
    let properties = run::properties(text);
    let is = |key: &str, value: &str| properties.get(key).is_some_and(|there| there == value);
    if !is("LoadState", "loaded") {
        return Finding::warning(
            "units",
            format!("{unit} is not installed"),
            "nothing starts the daemon after a boot",
            "scripts/install.sh, or install the package",
        );
    }
    if is("NeedDaemonReload", "yes") {
        return Finding::warning(
            "units",
            format!("{unit} has changed on disk"),
            "systemd still goes by the old file",
            "systemctl daemon-reload",
        );
    }
    if is("UnitFileState", "disabled") {
        return Finding::warning(
            "units",
            format!("{unit} is not enabled"),
            "after the next boot nothing starts it, and jobs fail",
            format!("systemctl enable --now {unit}"),
        );
    }
    Finding::ok("units", format!("{unit} is installed and enabled"))
}

fn lingering(name: &str, uid: u32, manager: Manager) -> Vec<Finding> {
    let start = format!("systemctl start user@{uid}.service");
    let mut findings = vec![if manager.lingers {
        Finding::ok("linger", format!("user {name} lingers"))
    } else {
        Finding::error(
            "linger",
            format!("user {name} does not linger"),
            "without its manager podman makes no cgroups for containers: jobs end with the service, and limits don't hold",
            format!("loginctl enable-linger {name}"),
        )
    }];
    findings.push(match (manager.has_directory, manager.has_bus) {
        (true, true) => Finding::ok("runtime-directory", format!("/run/user/{uid} is there, with the manager's bus")),
        (true, false) => Finding::error(
            "runtime-directory",
            format!("/run/user/{uid} has no bus"),
            "podman can't reach the user's manager, which makes the cgroups of containers",
            format!("install dbus-user-session (Debian) or dbus-daemon (Fedora); {start}"),
        ),
        (false, _) => Finding::error(
            "runtime-directory",
            format!("/run/user/{uid} is not there, or is not user {name}'s"),
            "rootless podman keeps its state there; elsewhere it would be lost, and running jobs with it",
            start,
        ),
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;
    use crate::protocol::daemon::DaemonStatus;

    #[test]
    fn a_daemon_that_is_away_is_an_error_and_what_it_says_a_warning() {
        let away = daemon(&Err("there is no socket".to_owned()), "1");
        assert_eq!(level(&away, "daemon"), Level::Error);
        let about = DaemonStatus {
            version: "2".into(),
            pid: 1,
            started_at: String::new(),
            warnings: vec!["low".into()],
            drained_since: Some("2026-01-01T00:00:00Z".into()),
        };
        let status = Ok(Box::new(Status { daemon: about, slots: vec![], leases: vec![] }));
        let findings = daemon(&status, "1");
        for check in ["daemon-release", "drained", "daemon-warnings"] {
            assert_eq!(level(&findings, check), Level::Warning);
        }
        assert_eq!(daemon(&status, "2").len(), findings.len() - 1);
        expect_remedies(&[away, findings].concat());
    }

    #[test]
    fn units_are_installed_enabled_and_known_to_systemd() {
        let of = |text: &str| unit_state("windlass.service", Ok(text));
        assert_eq!(of("LoadState=loaded\nUnitFileState=enabled\nNeedDaemonReload=no\n").level, Level::Ok);
        assert!(of("LoadState=loaded\nUnitFileState=disabled\n").remedy.is_some_and(|words| words.contains("enable")));
        assert!(of("LoadState=not-found\n").what.contains("not installed"));
        assert!(of("LoadState=loaded\nNeedDaemonReload=yes\n").remedy.is_some_and(|words| words.contains("reload")));
        assert_eq!(unit_state("x", Err(&"no bus".to_owned())).level, Level::Skipped);
    }

    #[test]
    fn a_user_without_a_manager_is_an_error() {
        let good = Manager { lingers: true, has_directory: true, has_bus: true };
        assert!(lingering("w", 7, good).iter().all(|finding| finding.level == Level::Ok));
        let all = [
            lingering("w", 7, Manager { lingers: false, ..good }),
            lingering("w", 7, Manager { has_directory: false, ..good }),
            lingering("w", 7, Manager { has_bus: false, ..good }),
        ];
        assert_eq!(level(&all[0], "linger"), Level::Error);
        assert_eq!(
            (level(&all[1], "runtime-directory"), level(&all[2], "runtime-directory")),
            (Level::Error, Level::Error)
        );
        expect_remedies(&all.concat());
    }
}
