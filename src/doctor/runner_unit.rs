//! gitlab-runner's unit: whom it runs as, how it is stopped, and what its package does to podman.

use std::path::Path;
use std::time::Duration;

use super::run;
use super::{Finding, Host};

/// The signal on which gitlab-runner lets its jobs end.
const SIGQUIT: &str = "3";
/// A stop that waits less loses jobs; GitLab's own default for a job is an hour.
const STOP_WITHIN: Duration = Duration::from_secs(3600);
/// What gitlab-runner's packages run after an upgrade.
const PRUNES: [&str; 2] = ["/usr/share/gitlab-runner/clear-docker-cache", "/usr/bin/gitlab-runner"];

/// gitlab-runner's unit, where there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// The user that it runs as.
    pub user: String,
    /// Further groups of that process.
    pub groups: Vec<String>,
    /// The user that jobs of the shell executor run as, where the command names one.
    pub shell_user: Option<String>,
    /// The groups of its process, which it has had since its start; none: it does not run.
    pub process_groups: Option<Vec<u32>>,
    /// The signal that stops it, as a number.
    pub kill_signal: String,
    /// How long a stop may take; none: for ever.
    pub stop: Option<Duration>,
}

/// The unit of gitlab-runner; none where systemd has none.
pub async fn look() -> Option<Unit> {
    let wanted = ["LoadState", "MainPID", "User", "SupplementaryGroups", "KillSignal", "TimeoutStopUSec", "ExecStart"];
    let options = wanted.iter().flat_map(|name| ["-p", name]);
    let arguments: Vec<&str> = ["show", "gitlab-runner.service"].into_iter().chain(options).collect();
    let text = run::output("systemctl", &arguments).await.ok()?;
    let mut unit = parse(&text)?;
    let pid = run::properties(&text).remove("MainPID").filter(|pid| pid != "0");
    unit.process_groups = pid.and_then(|pid| groups(&run::read(Path::new(&format!("/proc/{pid}/status"))).ok()?));
    Some(unit)
}

/// All groups of a process, of `/proc/PID/status` (proc_pid_status(5)).
fn groups(status: &str) -> Option<Vec<u32>> {
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    let numbers = |text: &str| text.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u32>>();
    // Of its four group ids the second is in effect.
    let own = numbers(of("Gid:")?).get(1).copied();
    Some(numbers(of("Groups:")?).into_iter().chain(own).collect())
}

fn parse(text: &str) -> Option<Unit> {
    let properties = run::properties(text);
    let of = |key: &str| properties.get(key).cloned().unwrap_or_default();
    if of("LoadState") != "loaded" {
        return None;
    }
    let user = Some(of("User")).filter(|user| !user.is_empty()).unwrap_or_else(|| "root".to_owned());
    let line = of("ExecStart");
    let line = line.split("argv[]=").nth(1).and_then(|rest| rest.split(" ;").next()).unwrap_or_default();
    let words: Vec<String> = line.split_whitespace().map(|word| word.trim_matches('"').to_owned()).collect();
    let shell_user =
        super::runner_config::option(&words, "--user").or_else(|| super::runner_config::option(&words, "-u"));
    Some(Unit {
        user,
        groups: of("SupplementaryGroups").split_whitespace().map(str::to_owned).collect(),
        shell_user: shell_user.map(str::to_owned),
        process_groups: None,
        kill_signal: of("KillSignal"),
        stop: match of("TimeoutStopUSec").as_str() {
            "infinity" => None,
            words => Some(humantime::parse_duration(words).unwrap_or_default()),
        },
    })
}

/// Judges how it is stopped.
pub fn judge(unit: &Unit) -> Vec<Finding> {
    // Behind whatever else is there, such as the override.conf of `systemctl edit`.
    let remedy = "install -d /etc/systemd/system/gitlab-runner.service.d; \
                  printf '[Service]\\nKillSignal=SIGQUIT\\nTimeoutStopSec=4h\\n' \
                  >/etc/systemd/system/gitlab-runner.service.d/zz-stop.conf; systemctl daemon-reload";
    let mut findings = Vec::new();
    if !matches!(unit.kill_signal.as_str(), SIGQUIT | "SIGQUIT") {
        findings.push(Finding::warning(
            "runner-stop",
            "gitlab-runner is stopped by another signal than SIGQUIT",
            "each stop, restart and upgrade of gitlab-runner fails the jobs that run",
            remedy,
        ));
    } else if let Some(stop) = unit.stop.filter(|stop| *stop < STOP_WITHIN) {
        findings.push(Finding::warning(
            "runner-stop",
            format!("gitlab-runner gets {} to let its jobs end", humantime::format_duration(stop)),
            "what runs longer fails with each stop, restart and upgrade of gitlab-runner",
            remedy,
        ));
    } else {
        findings.push(Finding::ok("runner-stop", "gitlab-runner lets its jobs end when it is stopped"));
    }
    findings
}

/// What gitlab-runner's package does to root's podman.
pub fn package(host: &Host) -> Option<Finding> {
    prunes(host.is_rootful(), |path| host.files.has(path))
}

fn prunes(is_rootful: bool, has: impl Fn(&str) -> bool) -> Option<Finding> {
    (is_rootful && PRUNES.into_iter().all(has)).then(|| {
        Finding::warning(
            "runner-package",
            "gitlab-runner's package prunes root's podman when it is upgraded (clear-docker-cache)",
            "stopped containers and volumes of other programs that carry gitlab-runner's labels go; nothing of Windlass has these",
            "export NO_DOCKER_PRUNE=1 for upgrades of gitlab-runner, if anything else here uses root's podman",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::expect_remedies;
    use super::*;

    const SHOWN: &str = "LoadState=loaded\nUser=\nSupplementaryGroups=windlass-callers\nKillSignal=3\nTimeoutStopUSec=4h\n\
        ExecStart={ path=/usr/bin/gitlab-runner ; argv[]=/usr/bin/gitlab-runner run --config /c --user gitlab-runner ; ignore_errors=no ; }\n";

    #[test]
    fn the_unit_is_read() {
        let unit = parse(SHOWN).expect("a unit");
        assert_eq!((unit.user.as_str(), unit.shell_user.as_deref()), ("root", Some("gitlab-runner")));
        assert_eq!(
            (unit.groups, unit.stop),
            (vec!["windlass-callers".to_owned()], Some(Duration::from_secs(4 * 3600)))
        );
        assert_eq!(parse("LoadState=not-found\n"), None);
        assert_eq!(parse(&SHOWN.replace("=4h", "=infinity")).expect("a unit").stop, None);
        let short = parse(&SHOWN.replace("=4h", "=1min 30s")).expect("a unit");
        assert_eq!(short.stop, Some(Duration::from_secs(90)));
    }

    #[test]
    fn the_groups_of_a_process_are_those_in_effect() {
        let status = "Name:\tx\nUid:\t1\t1\t1\t1\nGid:\t5\t6\t5\t5\nGroups:\t7 8 \n";
        assert_eq!(groups(status), Some(vec![7, 8, 6]));
        assert_eq!(groups(""), None);
    }

    #[test]
    fn a_package_that_prunes_the_podman_of_jobs_is_a_warning() {
        let found = prunes(true, |_| true).expect("a finding");
        assert_eq!((found.check, found.level), ("runner-package", Level::Warning));
        assert!(found.remedy.as_deref().is_some_and(|words| words.contains("NO_DOCKER_PRUNE=1")), "{found:?}");
        expect_remedies(&[found]);
        assert_eq!(prunes(false, |_| true), None, "a rootless podman is not root's");
        for only in PRUNES {
            assert_eq!(prunes(true, |path| path == only), None, "{only} alone prunes nothing");
        }
    }

    #[test]
    fn a_stop_that_loses_jobs_is_a_warning() {
        let of = |text: &str| judge(&parse(text).expect("a unit"))[0].clone();
        assert_eq!(of(SHOWN).level, Level::Ok);
        let all = [of(&SHOWN.replace("=4h", "=1min 30s")), of(&SHOWN.replace("KillSignal=3", "KillSignal=15"))];
        assert!(all.iter().all(|finding| finding.level == Level::Warning));
        expect_remedies(&all);
    }
}
