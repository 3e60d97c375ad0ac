//! The configuration as it is read: every key optional, every value with its place in the file.
//!
//! The same types write the effective settings, so what is printed has the keys that are read, by construction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::keys::{
    ChainKeys, FeedKeys, GitlabKeys, HistoryKeys, HoldKeys, JobKeys, LaneKeys, MetricsKeys, PageKeys, PolicyKeys,
    PurgeKeys, WebhookKeys,
};
use super::values::{TimeSpan, Whole};
use super::words::{NamespaceMode, Word};

/// A key's value, where the file has one.
pub(super) type Field<T> = Option<Spanned<T>>;

/// The whole file.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fragment {
    pub run_dir: Field<String>,
    pub state_dir: Field<String>,
    pub slots: Field<Whole>,
    pub slot_wait: Field<TimeSpan>,
    pub socket: SocketFragment,
    pub podman: PodmanFragment,
    pub gitlab: GitlabKeys,
    pub chain: ChainKeys,
    pub webhook: WebhookKeys,
    pub feed: FeedKeys,
    pub page: PageKeys,
    pub lanes: LaneKeys,
    pub purge: PurgeKeys,
    pub hold: HoldKeys,
    pub history: HistoryKeys,
    pub metrics: MetricsKeys,
    pub job: JobKeys,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy: Vec<PolicyKeys>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub profile: BTreeMap<Spanned<String>, ProfileFragment>,
}

/// `[socket]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SocketFragment {
    pub path: Field<String>,
    pub allowed_users: Option<Vec<Spanned<String>>>,
    pub group: Field<String>,
    pub max_connections: Field<Whole>,
    pub daemon_wait: Field<TimeSpan>,
}

/// `[podman]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PodmanFragment {
    pub command: Field<String>,
    pub init: Field<String>,
    pub timeout: Field<TimeSpan>,
    pub pull_timeout: Field<TimeSpan>,
    pub user_namespace: Field<Word<NamespaceMode>>,
    pub user_namespace_first: Field<Whole>,
    pub user_namespace_size: Field<Whole>,
    pub user_namespace_ranges: Field<Whole>,
    /// A table of its own when written, so it comes last.
    pub environment: BTreeMap<Spanned<String>, Spanned<String>>,
}

/// `[profile.NAME]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ProfileFragment {
    pub slots: Field<Whole>,
    pub slot_wait: Field<TimeSpan>,
    pub job: JobKeys,
}
