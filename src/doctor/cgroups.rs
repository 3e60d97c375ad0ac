//! cgroups: their version, the controllers that the service's podman may use, and limits that can't be kept.

use super::{Finding, Host};
use crate::podman::Limits;

/// Without these no limit of the usual ones holds.
const USUAL: [&str; 3] = ["cpu", "memory", "pids"];
/// What `cpuset` and `io_weight` need beside them.
const FURTHER: [&str; 2] = ["cpuset", "io"];

/// How the kernel's cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    /// Controllers in version 1, processes in version 2 as well.
    Hybrid,
    Two,
    None,
}

/// Looks at them.
pub async fn check(host: &Host) -> Vec<Finding> {
    let has = |path: &str| host.files.has(path);
    let version = match (has("/sys/fs/cgroup/cgroup.controllers"), has("/sys/fs/cgroup/unified")) {
        (true, _) => Version::Two,
        (false, true) => Version::Hybrid,
        (false, false) if has("/sys/fs/cgroup/memory") || has("/sys/fs/cgroup/cpu") => Version::One,
        (false, false) => Version::None,
    };
    let uid = host.user.uid;
    let mut findings = vec![judge_version(version, host.is_rootful())];
    if version == Version::Two {
        let of_user = format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/cgroup.controllers");
        let file = if host.is_rootful() { "/sys/fs/cgroup/cgroup.controllers" } else { &of_user };
        let found = host.files.read(file).ok();
        let kernel = host.files.read("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        findings.extend(controllers(found.as_deref(), &kernel, uid.as_raw(), &host.user.name));
    }
    let mut limits = Limits::of_user(uid);
    if let Ok(podman) = &host.podman {
        limits = match podman.storage().await {
            Ok(storage) => limits.with_storage_of(storage, host.is_rootful()),
            Err(error) => limits.without_storage(&error.message),
        };
    }
    findings.extend(unenforced(limits.warnings(&host.settings)));
    findings
}

fn judge_version(version: Version, rootful: bool) -> Finding {
    let name = match version {
        Version::Two => return Finding::ok("cgroup-version", "cgroups are of version 2"),
        Version::One => "cgroups are of version 1",
        Version::Hybrid => "cgroups are a hybrid of versions 1 and 2",
        Version::None => {
            return Finding::warning(
                "cgroup-version",
                "no cgroups are mounted below /sys/fs/cgroup",
                "no limit of a job can be enforced",
                "let systemd mount them, or run doctor on the host and not in a container",
            );
        }
    };
    let remedy =
        "boot with systemd.unified_cgroup_hierarchy=1 (grubby --update-kernel=ALL --args=…, or GRUB_CMDLINE_LINUX)";
    if rootful {
        let meaning =
            "limits hold, but systemd and podman are giving version 1 up: later releases of both don't run with it";
        return Finding::warning("cgroup-version", name, meaning, remedy);
    }
    Finding::warning(
        "cgroup-version",
        name,
        "a rootless podman can enforce no limit of a job: all are left out",
        remedy,
    )
}

/// `found`: those of the user's manager; `kernel`: those of the whole host.
fn controllers(found: Option<&str>, kernel: &str, uid: u32, name: &str) -> Vec<Finding> {
    let Some(text) = found else {
        return vec![Finding::error(
            "controllers",
            format!("user {name} has no manager: there is no cgroup user@{uid}.service"),
            "no limit of a job can be enforced, and containers are in the service's own cgroup",
            format!("loginctl enable-linger {name}; systemctl start user@{uid}.service"),
        )];
    };
    let there: Vec<&str> = text.split_whitespace().collect();
    let missing = |wanted: &[&'static str]| -> Vec<&'static str> {
        wanted.iter().copied().filter(|controller| !there.contains(controller)).collect()
    };
    let (usual, further) = (missing(&USUAL), missing(&FURTHER));
    let delegate = format!(
        "systemctl edit user@{uid}.service, with [Service] Delegate=cpu cpuset io memory pids; then systemctl daemon-reload and a reboot"
    );
    if !usual.is_empty() {
        // What the kernel keeps from everybody can't be delegated.
        let offered: Vec<&str> = kernel.split_whitespace().collect();
        let withheld: Vec<&str> = usual.iter().copied().filter(|controller| !offered.contains(controller)).collect();
        let remedy = match withheld.is_empty() {
            true => delegate,
            false => format!(
                "the kernel offers no {} in version 2: take cgroup_disable= off its command line (/proc/cmdline), put \
                 systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all on it, and reboot; in a container or virtual machine ask whoever runs it",
                withheld.join(", ")
            ),
        };
        return vec![Finding::warning(
            "controllers",
            format!("podman of user {name} may not use the cgroup controller(s) {}", usual.join(", ")),
            "limits that need them are left out, and a job can take all of the host",
            remedy,
        )];
    }
    let but = match further.is_empty() {
        true => String::new(),
        // `cpuset` and `io_weight` that are set are reported with the limits.
        false => format!(" (not {}, which cpuset and io_weight would need)", further.join(", ")),
    };
    vec![Finding::ok("controllers", format!("podman may use {}{but}", there.join(", ")))]
}

fn unenforced(warnings: Vec<String>) -> Vec<Finding> {
    if warnings.is_empty() {
        return vec![Finding::ok("limits", "all limits of the configuration can be enforced")];
    }
    let finding = |warning: String| {
        let remedy = "mend what it names, or take it out of the configuration";
        let means = "jobs run without a limit that can't be enforced, and the job log says so; without what is not there they don't start";
        Finding::warning("limits", warning, means, remedy)
    };
    warnings.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;

    #[test]
    fn version_1_is_said_with_what_it_costs() {
        assert_eq!(judge_version(Version::Two, false).level, Level::Ok);
        let all: Vec<Finding> = [Version::One, Version::Hybrid, Version::None]
            .into_iter()
            .flat_map(|version| [judge_version(version, true), judge_version(version, false)])
            .collect();
        assert!(all.iter().all(|finding| finding.level == Level::Warning));
        expect_remedies(&all);
    }

    #[test]
    fn controllers_that_are_not_delegated_are_named() {
        let of = |text: Option<&str>| controllers(text, "cpuset cpu io memory pids\n", 990, "w");
        assert_eq!(level(&of(Some("cpuset cpu io memory pids")), "controllers"), Level::Ok);
        let usual = of(Some("cpu memory pids\n"));
        assert!(usual[0].level == Level::Ok && usual[0].what.contains("not cpuset, io"), "{usual:?}");
        let few = of(Some("memory pids"));
        assert!(
            few[0].what.contains("cpu") && few[0].remedy.as_deref().is_some_and(|words| words.contains("Delegate"))
        );
        let none = of(None);
        assert_eq!(level(&none, "controllers"), Level::Error);
        let withheld = controllers(Some("\n"), "cpu io\n", 990, "w");
        let words = withheld[0].remedy.as_deref().unwrap_or_default();
        assert!(words.contains("offers no memory, pids in version 2") && !words.contains("Delegate"), "{words}");
        expect_remedies(&[few, none, withheld, unenforced(vec!["the limit `cpus` …".into()])].concat());
    }
}
