//! What the page shows, as plain data: the same for its HTML and for `/api/v1`. Made by pure functions of what the parts of the daemon say.

pub mod disk;
pub mod doctor;
pub mod now;
pub mod past;
pub mod timeline;

use serde::Serialize;

use crate::protocol::chain::{ChainStatus, EventLine, Finding, StartLine};

/// The chain, with its last rebuild.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    /// Every project and its state.
    #[serde(flatten)]
    pub status: ChainStatus,
    /// The last rebuild; none: the chain has started nothing yet.
    pub rebuild: Option<timeline::Rebuild>,
}

/// The last events and starts of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ProjectPast {
    /// Events, the newest first.
    pub events: Vec<EventLine>,
    /// Starts, the newest first.
    pub starts: Vec<StartLine>,
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
    let time = humantime::parse_rfc3339(date).ok()?;
    i64::try_from(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs()).ok()
}
