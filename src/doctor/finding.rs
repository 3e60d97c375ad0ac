//! What doctor has found: one line for each check, with what it means and what mends it.

use clap::ValueEnum;
use serde::Serialize;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Could not be looked at, or does not matter here.
    Skipped,
    /// Jobs run, but something is lost or will break.
    Warning,
    /// Jobs, or the image chain, don't work.
    Error,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The files of the configuration
    Config,
    /// The daemon, its units and its user
    Service,
    /// podman: version, storage, runtime
    Podman,
    /// Subordinate user and group ids
    Ids,
    /// cgroup version, controllers, limits
    Cgroups,
    /// SELinux: mode and labels
    Selinux,
    /// Directories, free space and inodes
    Disk,
    /// The socket, and who may use it
    Socket,
    /// gitlab-runner: its config.toml and its unit
    Runner,
    /// The image of the predefined stages
    Helper,
    /// GitLab and the registry, from inside a container
    Network,
    /// An image built in a job
    Build,
    /// GitLab's API: the token, its scopes and roles
    Gitlab,
    /// The webhooks of the image chain
    Webhooks,
    /// The host's clock
    Clock,
}

impl Subject {
    /// Whether it matters where jobs run, and nowhere else.
    #[must_use]
    pub fn is_of_jobs(self) -> bool {
        match self {
            Self::Podman | Self::Ids | Self::Cgroups | Self::Selinux => true,
            Self::Socket | Self::Runner | Self::Helper | Self::Network | Self::Build => true,
            Self::Config | Self::Service | Self::Disk | Self::Gitlab | Self::Webhooks | Self::Clock => false,
        }
    }

    /// Its heading.
    #[must_use]
    pub fn heading(self) -> &'static str {
        match self {
            Self::Config => "Configuration",
            Self::Service => "Service",
            Self::Podman => "podman",
            Self::Ids => "Subordinate ids",
            Self::Cgroups => "cgroups and limits",
            Self::Selinux => "SELinux",
            Self::Disk => "Directories and disks",
            Self::Socket => "Socket",
            Self::Runner => "gitlab-runner",
            Self::Helper => "Helper image",
            Self::Network => "Network, from inside a container",
            Self::Build => "Building images in a job",
            Self::Gitlab => "GitLab",
            Self::Webhooks => "Webhooks",
            Self::Clock => "Clock",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check it is from: a name that stays the same, for programs.
    pub check: &'static str,
    /// How good or bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What that means; none for what is as it should be.
    pub meaning: Option<String>,
    /// The command that mends it, or what to do.
    pub remedy: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, what: what.into(), meaning: None, remedy: None }
    }

    /// Something that was not looked at, and what to do so that it is.
    pub fn skipped(check: &'static str, what: impl Into<String>, remedy: Option<&str>) -> Self {
        Self { level: Level::Skipped, remedy: remedy.map(str::to_owned), ..Self::ok(check, what) }
    }

    /// Something that costs something, or will.
    pub fn warning(
        check: &'static str,
        what: impl Into<String>,
        meaning: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (meaning, remedy) = (Some(meaning.into()), Some(remedy.into()));
        Self { level: Level::Warning, meaning, remedy, ..Self::ok(check, what) }
    }

    /// Something that does not work.
    pub fn error(
        check: &'static str,
        what: impl Into<String>,
        meaning: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Error, ..Self::warning(check, what, meaning, remedy) }
    }
}

/// A finding and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is about.
    pub subject: Subject,
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The level of a check; panics where there is no such finding.
    #[track_caller]
    pub fn level(findings: &[Finding], check: &str) -> Level {
        let found = findings.iter().find(|finding| finding.check == check);
        found.unwrap_or_else(|| panic!("no {check} in {findings:#?}")).level
    }

    /// Fails the test unless each finding that is not ok says what it means and what mends it.
    #[track_caller]
    pub fn expect_remedies(findings: &[Finding]) {
        for finding in findings {
            let complete = finding.meaning.is_some() && finding.remedy.is_some();
            assert!(complete || finding.level <= Level::Skipped, "{finding:#?}");
        }
    }

    #[test]
    fn levels_are_ordered_and_json_is_flat() {
        assert!(Level::Ok < Level::Skipped && Level::Skipped < Level::Warning && Level::Warning < Level::Error);
        let row = Row { subject: Subject::Ids, finding: Finding::ok("subuids", "x") };
        let json = serde_json::to_string(&row).expect("JSON");
        assert_eq!(json, r#"{"subject":"ids","check":"subuids","level":"ok","what":"x","meaning":null,"remedy":null}"#);
    }
}
