//! The validated settings: what the rest of the program sees of the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

mod chain;
mod job;
mod lanes;
mod page;
mod records;

pub use chain::{
    AuditSettings, ChainProject, ChainSettings, FeedSettings, Kickoff, NotifySettings, QuietHours, WatchSettings,
    WebhookSettings,
};

pub use job::{
    BuildDriver, BuildSettings, BuildStorage, ConfiguredService, ExecMode, HelperMode, HelperSettings, ImageSettings,
    Isolation, JobSettings, Network, NetworkSettings, PolicyRule, PullPolicy, Resources, ServiceSettings,
};

pub use lanes::{HoldSettings, LaneScope, LaneSettings, PurgeSettings, Share};
pub use page::{PageListen, PageSettings};

pub use records::{HistorySettings, MetricsSettings};

/// Everything the daemon was told, checked and complete.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Runtime directory: leases, init sockets, job credentials. Lost at a reboot, kept over restarts.
    pub run_dir: PathBuf,
    /// State directory: what survives a reboot.
    pub state_dir: PathBuf,
    /// The shims' socket.
    pub socket: SocketSettings,
    /// How podman is called.
    pub podman: PodmanSettings,
    /// GitLab's API.
    pub gitlab: GitlabSettings,
    /// The image chain.
    pub chain: ChainSettings,
    /// Where GitLab reports pipelines.
    pub webhook: WebhookSettings,
    /// What tells hosts of what was built.
    pub feed: FeedSettings,
    /// The page to look at.
    pub page: PageSettings,
    /// What jobs keep for each other.
    pub lanes: LaneSettings,
    /// What of it goes when.
    pub purge: PurgeSettings,
    /// What may be kept of failed jobs for somebody to look at.
    pub hold: HoldSettings,
    /// How long is remembered what has been.
    pub history: HistorySettings,
    /// Where figures and health are to be had.
    pub metrics: MetricsSettings,
    /// By name; `default` is always there and comes from the top level.
    pub profiles: BTreeMap<String, Profile>,
}

impl Settings {
    /// Whether this daemon is to run jobs: `slots = 0` makes it one for the chain alone.
    #[must_use]
    pub fn runs_jobs(&self) -> bool {
        self.profiles.values().any(|profile| profile.slots > 0)
    }
}

/// The socket that the shims and the `windlass` command call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SocketSettings {
    /// Where it is, unless systemd hands one over.
    pub path: PathBuf,
    /// Who may call: user names of this host; the daemon's own user always may.
    pub allowed_users: Vec<String>,
    /// Group that owns the socket (mode 0660); without one everybody reaches it (0666) and `allowed_users` alone decides.
    pub group: Option<String>,
    /// How many callers at once; more wait in the socket's queue.
    pub max_connections: usize,
    /// How long a shim waits for a daemon that is away, for example restarting.
    pub daemon_wait: Duration,
}

/// GitLab's API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct GitlabSettings {
    /// Where it is; none: nothing is asked of it.
    pub url: Option<String>,
    /// Certificates (PEM) trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy on the way to it; none: no proxy, whatever the environment says.
    pub proxy: Option<String>,
    /// The file with the token for its API; none: the credential `gitlab-token`.
    pub token_file: Option<PathBuf>,
    /// Whether GitLab is asked about each job before it gets a slot.
    pub verify_jobs: bool,
}

/// How podman is called and set up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PodmanSettings {
    /// The program, by name or path.
    pub command: PathBuf,
    /// Path of the static `windlass-init`.
    pub init: PathBuf,
    /// Variables for podman beside HOME, PATH, XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS; nothing else of the
    /// daemon's own environment reaches it.
    pub environment: BTreeMap<String, String>,
    /// How long one podman call may take, pulls excepted.
    pub timeout: Duration,
    /// How long one pull may take.
    pub pull_timeout: Duration,
    /// The user namespace of the jobs.
    pub user_namespace: UserNamespace,
}

/// Which user namespace a job's containers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "mode")]
pub enum UserNamespace {
    /// Rootless: a map of its own without the service's user (podman's `nomap`). Rootful: one range per project key.
    Separate {
        /// First host id of the first range (rootful).
        first: u32,
        /// Ids per range (rootful).
        size: u32,
        /// How many ranges there are (rootful).
        ranges: u32,
    },
    /// podman's default: rootful none at all, rootless one in which the container's root is the service's own user.
    Host,
}

/// A set of slots and the defaults of the jobs that run in them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// How many jobs at once.
    pub slots: u32,
    /// How long a job waits for a free slot.
    pub slot_wait: Duration,
    /// What its jobs get.
    pub job: JobSettings,
}
