//! The merged input: every key has a value, and the place that it comes from. Not yet checked.

use std::ops::Range;

use super::keys::{
    ChainKeys, FeedKeys, GitlabKeys, HistoryKeys, HoldKeys, JobKeys, LaneKeys, MetricsKeys, PageKeys, PolicyKeys,
    PurgeKeys, WebhookKeys,
};
use super::settings::{ExecMode, Network, PullPolicy};
use super::texts::OneOrMore;
use super::values::{Number, Size, TimeSpan, Whole};
use super::words::{NamespaceMode, Word};

/// Where a value comes from: its dotted key, and its place in the file unless it is the default.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub key: String,
    pub span: Option<Range<usize>>,
}

/// A value and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub value: T,
    pub origin: Origin,
}

/// Everything, complete.
#[derive(Debug)]
pub(super) struct Input {
    pub run_dir: Given<String>,
    pub state_dir: Given<String>,
    pub socket: SocketInput,
    pub podman: PodmanInput,
    /// `[gitlab]`
    pub gitlab: GitlabKeys,
    /// `[chain]`
    pub chain: ChainKeys,
    /// `[webhook]`
    pub webhook: WebhookKeys,
    /// `[feed]`
    pub feed: FeedKeys,
    /// `[page]`
    pub page: PageKeys,
    /// `[lanes]`
    pub lanes: LaneKeys,
    /// `[purge]`
    pub purge: PurgeKeys,
    /// `[hold]`
    pub hold: HoldKeys,
    /// `[history]`
    pub history: HistoryKeys,
    /// `[metrics]`
    pub metrics: MetricsKeys,
    /// The top level's slots and job; the profile `default`.
    pub default: ProfileInput,
    /// `[[policy]]`
    pub policy: Vec<PolicyKeys>,
    pub profiles: Vec<ProfileInput>,
}

#[derive(Debug)]
pub(super) struct SocketInput {
    /// None: in the runtime directory.
    pub path: Option<Given<String>>,
    pub allowed_users: Vec<Given<String>>,
    pub group: Option<Given<String>>,
    pub max_connections: Given<Whole>,
    pub daemon_wait: Given<TimeSpan>,
}

#[derive(Debug)]
pub(super) struct PodmanInput {
    pub command: Given<String>,
    pub init: Given<String>,
    /// Each variable's name, from its own place, and its value.
    pub environment: Vec<(Given<String>, Given<String>)>,
    pub timeout: Given<TimeSpan>,
    pub pull_timeout: Given<TimeSpan>,
    pub user_namespace: Given<Word<NamespaceMode>>,
    pub user_namespace_first: Given<Whole>,
    pub user_namespace_size: Given<Whole>,
    pub user_namespace_ranges: Given<Whole>,
}

#[derive(Debug)]
pub(super) struct ProfileInput {
    pub name: Given<String>,
    pub slots: Given<Whole>,
    pub slot_wait: Given<TimeSpan>,
    pub job: JobInput,
}

#[derive(Debug, Clone)]
pub(super) struct JobInput {
    pub exec: Given<Word<ExecMode>>,
    pub grace: Given<TimeSpan>,
    pub margin: Given<TimeSpan>,
    pub timeout_margin: Given<TimeSpan>,
    pub default_image: Option<Given<String>>,
    pub pull_policy: Given<OneOrMore<Word<PullPolicy>>>,
    pub memory: Option<Given<Size>>,
    pub cpus: Option<Given<Number>>,
    pub pids: Option<Given<Whole>>,
    pub network: Given<Word<Network>>,
    /// The header that its keys are under.
    pub header: Origin,
    /// All other keys.
    pub keys: Box<JobKeys>,
}
