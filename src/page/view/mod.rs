//! What the page shows, as plain data: the same for its HTML and for `/api/v1`. Made by pure functions of what the parts of the daemon say.

pub mod disk;
pub mod doctor;
pub mod followed;
pub mod now;
mod outlook;
pub mod past;
pub mod timeline;

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::protocol::chain::{ChainStatus, EventLine, Finding, StartLine};
use crate::store::BuiltFor;

/// The chain, with its last rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Every project and its state.
    #[serde(flatten)]
    pub status: ChainStatus,
    /// The last rebuild; none: the chain has started nothing yet.
    pub rebuild: Option<timeline::Rebuild>,
    /// By project, why its last success was built, in words.
    pub built_because: BTreeMap<i64, String>,
    /// Why what the chain has started can't be read, in whole or in part; none: it was.
    pub unread: Option<String>,
}

/// Why a success was built, in words; none: nobody knows any more.
#[must_use]
pub fn built_because(built: &BuiltFor) -> Option<String> {
    let by_others = |source: &String| format!("not started by the chain: {source}");
    built.reason.clone().or_else(|| built.source.as_ref().map(by_others))
}

/// The last events and starts of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProjectPast {
    /// Events, the newest first.
    pub events: Vec<EventLine>,
    /// Starts, the newest first.
    pub starts: Vec<StartLine>,
    /// Why they can't be read; none: they were.
    pub unread: Option<String>,
}

/// What the chain's audit finds without asking anybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Images from elsewhere, and what somebody should know of projects.
    pub findings: Vec<Finding>,
}

/// A link that a browser may follow; none where a project's address is something else than a place on the web.
#[must_use]
pub fn link(url: &str) -> Option<&str> {
    (url.starts_with("https://") || url.starts_with("http://")).then_some(url)
}

/// The page of a pipeline.
#[must_use]
pub fn pipeline_link(web_url: &str, pipeline: i64) -> Option<String> {
    link(web_url).map(|url| format!("{}/-/pipelines/{pipeline}", url.trim_end_matches('/')))
}

/// Seconds since 1970 of an RFC 3339 time.
#[must_use]
pub fn seconds(date: &str) -> Option<i64> {
    milliseconds(date).map(|time| time / 1000)
}

/// Milliseconds since 1970 of an RFC 3339 time.
#[must_use]
pub fn milliseconds(date: &str) -> Option<i64> {
    let time = humantime::parse_rfc3339(date).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Milliseconds since 1970 as RFC 3339.
#[must_use]
pub fn date(milliseconds: i64) -> String {
    let since = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
