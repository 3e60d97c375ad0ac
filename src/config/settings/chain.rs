//! The image chain: which projects are in it, when what is rebuilt, and where GitLab reports pipelines.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::registry::Platform;

/// The image chain. Without groups and projects there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainSettings {
    /// Groups whose projects are in it, with all their subgroups; by path.
    pub groups: Vec<String>,
    /// Single projects that are in it; by path.
    pub projects: Vec<String>,
    /// Patterns of paths: only what fits one of them is in it. Empty: everything is.
    pub include: Vec<String>,
    /// Patterns of paths that are not in it.
    pub exclude: Vec<String>,
    /// Patterns of further Containerfiles in the projects' repositories.
    pub files: Vec<String>,
    /// Values that builds get (`--build-arg`).
    pub args: BTreeMap<String, String>,
    /// How often everything is looked at.
    pub interval: Duration,
    /// How old a success has to be before something is rebuilt for it.
    pub settle: Duration,
    /// How many pipelines that the chain has started may run at once.
    pub max_running: u32,
    /// When nothing is started.
    pub quiet_hours: Option<QuietHours>,
    /// When the projects at the chain's roots are built.
    pub kickoff: Vec<Kickoff>,
    /// The job whose success is the pipeline's; none: the whole pipeline.
    pub done_when: Option<String>,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// How long events and triggers are remembered.
    pub history: Duration,
    /// What is told of projects that stay failed or blocked.
    pub notify: NotifySettings,
    /// How images that no project builds are watched.
    pub watch: WatchSettings,
    /// What is too old.
    pub audit: AuditSettings,
    /// What is different for single projects; by path, in lower case.
    pub overrides: BTreeMap<String, ChainProject>,
}

impl ChainSettings {
    /// Whether there is a chain.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.groups.is_empty() || !self.projects.is_empty()
    }
}

/// What is different for one project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ChainProject {
    /// Its path, as the administrator wrote it.
    pub path: String,
    /// The branch whose pipelines count; none: the default branch.
    pub reference: Option<String>,
    /// The job whose success is the pipeline's.
    pub done_when: Option<String>,
}

/// Who is told of projects that stay failed or blocked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotifySettings {
    /// A program and its arguments; it gets JSON on its standard input. Empty: nobody is told.
    pub command: Vec<String>,
    /// How long a project has to be failed or blocked before.
    pub after: Duration,
}

/// How images that no project builds are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchSettings {
    /// Whether registries are asked anything.
    pub enabled: bool,
    /// How often each image is looked up.
    pub every: Duration,
    /// Whether one that has moved is a reason to build; else that is only recorded.
    pub rebuild: bool,
    /// Patterns of images' full names: only what fits one of them is watched. Empty: everything is.
    pub include: Vec<String>,
    /// Patterns of images that are not watched.
    pub exclude: Vec<String>,
    /// podman's auth file with logins for registries.
    pub auth_file: Option<PathBuf>,
    /// The platform whose image counts.
    pub platform: Platform,
    /// Requests at once to one registry.
    pub concurrency: u32,
}

/// What is too old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditSettings {
    /// How old an image may get without moving, or being rebuilt.
    pub max_age: Duration,
}

/// A part of each day, in local time; it may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QuietHours {
    /// Minutes after midnight at which it begins.
    pub from: u16,
    /// Minutes after midnight at which it is over.
    pub to: u16,
}

impl QuietHours {
    /// Whether a minute of the day is in it.
    #[must_use]
    pub fn has(self, minute: u16) -> bool {
        if self.from <= self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// A time of the day or of the week, in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kickoff {
    /// Days after Monday; none: each day.
    pub weekday: Option<u8>,
    /// Minutes after midnight.
    pub minute: u16,
}

/// The endpoint for GitLab's webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookSettings {
    /// Where the daemon listens; none: nowhere.
    pub listen: Option<SocketAddr>,
    /// How GitLab reaches it: the URL that is set in the projects' webhooks; none: no webhooks are set up.
    pub url: Option<String>,
    /// Whether GitLab checks the certificate of that URL.
    pub verify_tls: bool,
    /// The file with the token that GitLab sends; none: the credential `webhook-secret`, or one of the daemon's own making.
    pub secret_file: Option<PathBuf>,
    /// The file with the key that GitLab (19.0) signs with; none: the credential `webhook-signing-secret`, or no signatures.
    pub signing_secret_file: Option<PathBuf>,
}

/// What tells the hosts that run the chain's images of what was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FeedSettings {
    /// Where the daemon listens; none: nobody is told.
    pub listen: Option<SocketAddr>,
    /// The file with the token that hosts show; none: the credential `feed-token`.
    pub token_file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_may_go_over_midnight() {
        let night = QuietHours { from: 22 * 60, to: 6 * 60 };
        assert!([22 * 60, 23 * 60 + 59, 0, 5 * 60 + 59].iter().all(|minute| night.has(*minute)));
        assert!([6 * 60, 12 * 60, 21 * 60 + 59].iter().all(|minute| !night.has(*minute)));
        let noon = QuietHours { from: 12 * 60, to: 13 * 60 };
        assert!(noon.has(12 * 60) && !noon.has(13 * 60) && !noon.has(0));
    }
}
