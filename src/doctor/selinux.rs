//! SELinux: its mode, and the labels by which it lets a container take stages and write what jobs keep.

use std::path::{Path, PathBuf};

use super::run;
use super::{Finding, Host};
use crate::config::ExecMode;
use crate::sys::selinux::{Containers, ENFORCE};

/// What podman's own program is labelled, and the daemon's has to be: a socket made by it may be taken into a container.
const PROGRAM: &str = "container_runtime_exec_t";
/// What the daemon's process is then.
const PROCESS: &str = "container_runtime_t";
/// What is in the daemon's state for containers, and why it has to be.
const DIRECTORIES: [(&str, &str, Containers, &str); 4] = [
    ("selinux-lanes", "lanes", Containers::Write, "jobs can't write what they clone, cache or build"),
    ("selinux-work", "work", Containers::Write, "jobs of which nothing is kept can't write what they clone or build"),
    (
        "selinux-bin",
        "bin",
        Containers::Read,
        "helper containers can't run gitlab-runner's program: no clone, cache or artifact",
    ),
    (
        "selinux-mounted",
        "mounted",
        Containers::Read,
        "jobs can't read the certificates of [job] ca_file, nor build images",
    ),
];

/// What was found on a host that has SELinux.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    enforcing: bool,
    /// Whether podman labels its containers.
    podman: bool,
    /// Whether jobs run without labels (`label=disable`).
    disabled_for_jobs: bool,
    /// Whether no job's init is spoken with by a socket (`exec = "podman"`).
    by_podman: bool,
    /// The types of files, with their paths; none: it could not be read.
    program: Option<(PathBuf, String)>,
    /// Those of [`DIRECTORIES`]; none: it is not there.
    directories: [Option<(PathBuf, String)>; DIRECTORIES.len()],
    /// The type of the daemon's process.
    process: Option<String>,
}

/// Looks at it.
pub async fn check(host: &Host) -> Vec<Finding> {
    let Ok(mode) = host.files.read(ENFORCE) else {
        return vec![Finding::ok("selinux", "SELinux is not on")];
    };
    let info = match &host.podman {
        Ok(podman) => podman.info().await.ok(),
        Err(_) => None,
    };
    let options = host.settings.profiles.values().flat_map(|profile| &profile.job.isolation.security_opt);
    let daemon = host.status.as_ref().ok().map(|status| status.daemon.pid);
    let process = daemon.and_then(|pid| host.files.read(&format!("/proc/{pid}/attr/current")).ok());
    let mut directories = [const { None }; DIRECTORIES.len()];
    for (found, (_, name, ..)) in directories.iter_mut().zip(DIRECTORIES) {
        *found = type_of_file(&host.settings.state_dir.join(name)).await;
    }
    let facts = Facts {
        enforcing: mode.trim() == "1",
        podman: info.is_none_or(|info| info.selinux),
        disabled_for_jobs: options.into_iter().any(|option| option.replace(':', "=") == "label=disable"),
        by_podman: host.settings.profiles.values().all(|profile| profile.job.exec == ExecMode::Podman),
        program: type_of_file(Path::new("/usr/bin/windlassd")).await,
        directories,
        process: process.and_then(|label| type_of(&label)),
    };
    judge(&facts)
}

async fn type_of_file(path: &Path) -> Option<(PathBuf, String)> {
    let label = run::output("stat", &["--format=%C", "--", path.to_str()?]).await.ok()?;
    Some((path.to_owned(), type_of(&label)?))
}

/// The type in a label, `user:role:type:level`.
fn type_of(label: &str) -> Option<String> {
    label.trim_matches(['\0', '\n', ' ']).split(':').nth(2).map(str::to_owned)
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let mode = if facts.enforcing { "enforcing" } else { "permissive" };
    let mut findings = vec![Finding::ok("selinux", format!("SELinux is {mode}"))];
    if !facts.podman {
        findings.push(Finding::warning(
            "selinux-podman",
            "podman labels no containers, though the host has SELinux",
            "nothing but user namespaces keeps a job from the files of the host",
            "dnf install container-selinux, and take label = false out of containers.conf",
        ));
    }
    if facts.disabled_for_jobs {
        findings.push(Finding::warning(
            "selinux-jobs",
            "[job] security_opt has label=disable",
            "jobs run without SELinux's separation",
            "take it out of security_opt: label what jobs need instead, with chcon or semanage fcontext",
        ));
    }
    // Where nothing is enforced it works all the same, and would not after the next change of the mode.
    let wrong = if facts.enforcing { Finding::error } else { Finding::warning };
    let refused = "a container may not accept on a socket of the daemon's: no stage of a job runs";
    let mut expect = |check, found: Option<String>, wanted: &str, subject: String, meaning: &str, remedy: String| {
        findings.push(match found {
            Some(there) if there == wanted => Finding::ok(check, format!("{subject} is {wanted}")),
            Some(there) if meaning == refused && facts.by_podman => {
                Finding::ok(check, format!("{subject} is {there}, which [job] exec = \"podman\" can do with"))
            }
            Some(there) => wrong(check, format!("{subject} is {there}, not {wanted}"), meaning.to_owned(), remedy),
            None => Finding::skipped(check, format!("the label of {subject} can't be read"), None),
        });
    };
    if let Some((path, label)) = &facts.program {
        let path = path.display();
        let remedy = format!(
            "semanage fcontext -a -t {PROGRAM} {path}; restorecon -v {path}; then systemctl restart windlass; or [job] exec = \"podman\""
        );
        expect("selinux-program", Some(label.clone()), PROGRAM, path.to_string(), refused, remedy);
    }
    if facts.process.is_some() {
        let remedy =
            "label its program (see above), then systemctl restart windlass; or [job] exec = \"podman\"".to_owned();
        expect("selinux-process", facts.process.clone(), PROCESS, "windlassd's process".to_owned(), refused, remedy);
    }
    for (found, (check, _, containers, meaning)) in facts.directories.iter().zip(DIRECTORIES) {
        let Some((path, label)) = found else { continue };
        let (path, wanted) = (path.display(), containers.label());
        let remedy = format!("semanage fcontext -a -t {wanted} '{path}(/.*)?'; restorecon -R {path}");
        expect(check, Some(label.clone()), wanted, path.to_string(), meaning, remedy);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;

    fn labelled(program: &str, lanes: &str) -> Facts {
        Facts {
            enforcing: true,
            podman: true,
            program: Some(("/usr/bin/windlassd".into(), program.into())),
            directories: [
                Some(("/var/lib/windlass/lanes".into(), lanes.into())),
                None,
                Some(("/var/lib/windlass/bin".into(), "container_ro_file_t".into())),
                None,
            ],
            process: Some(if program == PROGRAM { PROCESS } else { "unconfined_service_t" }.into()),
            ..Facts::default()
        }
    }

    #[test]
    fn labels_as_they_should_be_are_ok() {
        assert!(judge(&labelled(PROGRAM, "container_file_t")).iter().all(|finding| finding.level == Level::Ok));
        assert_eq!(type_of("system_u:object_r:bin_t:s0\n").as_deref(), Some("bin_t"));
        assert_eq!(type_of("unconfined\0"), None);
    }

    #[test]
    fn wrong_labels_are_errors_where_they_are_enforced() {
        let wrong = judge(&labelled("bin_t", "var_lib_t"));
        for check in ["selinux-program", "selinux-process", "selinux-lanes"] {
            assert_eq!(level(&wrong, check), Level::Error);
        }
        let permissive = judge(&Facts { enforcing: false, ..labelled("bin_t", "var_lib_t") });
        assert_eq!(level(&permissive, "selinux-program"), Level::Warning);
        let by_podman = judge(&Facts { by_podman: true, ..labelled("bin_t", "var_lib_t") });
        assert_eq!(level(&by_podman, "selinux-process"), Level::Ok);
        assert_eq!(level(&by_podman, "selinux-lanes"), Level::Error);
        let open = judge(&Facts { podman: false, disabled_for_jobs: true, ..labelled(PROGRAM, "container_file_t") });
        assert_eq!((level(&open, "selinux-podman"), level(&open, "selinux-jobs")), (Level::Warning, Level::Warning));
        expect_remedies(&[wrong, permissive, open].concat());
    }
}
