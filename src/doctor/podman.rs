//! podman: its version, its storage, its runtime.

use super::{Finding, Host};
use crate::podman::Info;

/// The oldest release that the daemon starts with, and the oldest that it was tried with.
const NEEDED: (u32, u32) = (4, 0);
const TRIED: (u32, u32) = (4, 3);

/// Looks at it.
pub async fn check(host: &Host) -> Vec<Finding> {
    let podman = match &host.podman {
        Ok(podman) => podman,
        Err(reason) => return vec![Finding::skipped("podman", reason.clone(), Some("sudo windlass doctor"))],
    };
    match podman.info().await {
        Ok(info) => judge(&info, host.systemd),
        Err(error) => vec![Finding::error(
            "podman",
            error.to_string(),
            format!("podman does not answer user {}, so windlassd does not start and no job runs", host.user.name),
            unanswered(&error.message, &host.user.name, host.user.uid.as_raw()),
        )],
    }
}

/// What to do about a podman that does not answer.
fn unanswered(message: &str, user: &str, uid: u32) -> String {
    if message.contains("cannot start") {
        return "apt-get install podman, or dnf install podman; [podman] command says where it is".to_owned();
    }
    if message.contains(&format!("mkdir /run/user/{uid}:")) {
        return format!("systemctl start user@{uid}.service");
    }
    if message.contains("invalid internal status") || message.contains("system migrate") {
        return format!("when no job runs any more: sudo systemd-run --pipe --uid={user} podman system migrate");
    }
    format!("see what it says: sudo systemd-run --pipe --uid={user} podman info")
}

fn judge(info: &Info, systemd: bool) -> Vec<Finding> {
    let mut findings = vec![version(&info.version), storage(info)];
    if systemd && info.cgroup_manager != "systemd" {
        findings.push(Finding::warning(
            "cgroup-manager",
            format!("podman makes the cgroups of containers itself ({})", info.cgroup_manager),
            "containers are in the service's own cgroup: a stop of the service can end running jobs",
            if info.rootless {
                "loginctl enable-linger for the service's user, and cgroup_manager = \"systemd\" in [engine] of containers.conf"
            } else {
                "cgroup_manager = \"systemd\" in [engine] of /etc/containers/containers.conf"
            },
        ));
    }
    if info.rootless && info.carriers.is_empty() {
        findings.push(Finding::error(
            "rootless-network",
            "there is neither slirp4netns nor pasta",
            "containers of a rootless podman have no network without one of them",
            "apt-get install slirp4netns, or dnf install passt",
        ));
    }
    if info.network_backend == "cni" {
        findings.push(Finding::warning(
            "network-backend",
            "podman makes networks with CNI",
            "podman 5 has it no more, and jobs with services were never tried with it",
            "install netavark; when no job runs: podman system reset makes podman choose it, and removes all images",
        ));
    } else if !info.network_backend.is_empty() {
        findings.push(Finding::ok("network-backend", format!("networks by {}", info.network_backend)));
    }
    if info.runtime.is_empty() {
        findings.push(Finding::error(
            "runtime",
            "podman finds no OCI runtime",
            "no container can be started",
            "apt-get install crun, or dnf install crun (runc where cgroups are of version 1)",
        ));
    } else {
        findings.push(Finding::ok("runtime", format!("containers by {}", info.runtime)));
    }
    findings
}

fn version(text: &str) -> Finding {
    let mut numbers = text.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let Some(found) = numbers.next().map(|major| (major, numbers.next().unwrap_or(0))) else {
        return Finding::warning(
            "podman",
            format!("podman calls its version {text:?}"),
            "nobody knows whether Windlass works with it",
            "install a release of podman",
        );
    };
    if found < NEEDED {
        return Finding::error(
            "podman",
            format!("podman {text} is too old"),
            format!("windlassd needs {}.{} or later and does not start", NEEDED.0, NEEDED.1),
            "upgrade podman, or the distribution (Debian 12, RHEL 9 and later have a new one)",
        );
    }
    if found < TRIED {
        return Finding::warning(
            "podman",
            format!("podman {text} is older than any that Windlass was tried with"),
            "user namespaces without the service's user (nomap) and networks may not be as they are needed",
            format!("upgrade to {}.{} or later", TRIED.0, TRIED.1),
        );
    }
    Finding::ok("podman", format!("podman {text}"))
}

fn storage(info: &Info) -> Finding {
    let root = info.graph_root.display();
    match (info.driver.as_str(), &info.mount_program) {
        ("overlay", None) | ("btrfs" | "zfs", _) => {
            Finding::ok("storage-driver", format!("storage driver {} in {root}", info.driver))
        }
        ("overlay", Some(program)) => Finding::warning(
            "storage-driver",
            format!("storage driver overlay in {root}, mounted by {program}"),
            "each file that a job touches goes through a process; the kernel's own overlay is several times faster",
            "on Linux 5.13 and later: take mount_program out of storage.conf, and when no job runs: podman system reset",
        ),
        (driver, _) => Finding::warning(
            "storage-driver",
            format!("storage driver {driver} in {root}"),
            "each container copies its whole image: jobs start slowly and the disk fills",
            "driver = \"overlay\" in [storage] of storage.conf, and when no job runs: podman system reset",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;

    fn info() -> Info {
        Info {
            version: "4.9.3".into(),
            driver: "overlay".into(),
            graph_root: "/g".into(),
            cgroup_manager: "systemd".into(),
            cgroup_version: "v2".into(),
            runtime: "crun".into(),
            network_backend: "netavark".into(),
            rootless: true,
            carriers: vec!["/usr/bin/pasta".into()],
            ..Info::default()
        }
    }

    #[test]
    fn a_podman_as_it_should_be_is_ok() {
        assert!(judge(&info(), true).iter().all(|finding| finding.level == Level::Ok));
        let without = Info { cgroup_manager: "cgroupfs".into(), ..info() };
        assert!(judge(&without, false).iter().all(|finding| finding.level == Level::Ok), "no systemd to make them");
    }

    #[test]
    fn what_is_slow_old_or_missing_is_named() {
        let cases = [
            (Info { version: "3.4.4".into(), ..info() }, "podman", Level::Error),
            (Info { version: "4.0.2".into(), ..info() }, "podman", Level::Warning),
            (Info { version: "5.0.0-dev".into(), ..info() }, "podman", Level::Ok),
            (Info { version: "what".into(), ..info() }, "podman", Level::Warning),
            (Info { driver: "vfs".into(), ..info() }, "storage-driver", Level::Warning),
            (
                Info { mount_program: Some("/usr/bin/fuse-overlayfs".into()), ..info() },
                "storage-driver",
                Level::Warning,
            ),
            (Info { cgroup_manager: "cgroupfs".into(), ..info() }, "cgroup-manager", Level::Warning),
            (Info { carriers: vec![], ..info() }, "rootless-network", Level::Error),
            (Info { network_backend: "cni".into(), ..info() }, "network-backend", Level::Warning),
            (Info { runtime: String::new(), ..info() }, "runtime", Level::Error),
        ];
        for (info, check, wanted) in cases {
            let findings = judge(&info, true);
            assert_eq!(level(&findings, check), wanted, "{findings:#?}");
            expect_remedies(&findings);
        }
        assert!(unanswered("invalid internal status, try resetting", "w", 7).contains("system migrate"));
        let without = "creating tmpdir: mkdir /run/user/7: permission denied";
        assert_eq!(unanswered(without, "w", 7), "systemctl start user@7.service");
        assert!(unanswered(without, "w", 77).contains("podman info"), "another user's");
    }
}
