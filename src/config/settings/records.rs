//! What is remembered of jobs, and where figures and health are to be had.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

/// How long is remembered what has been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HistorySettings {
    /// How long jobs, pulls, purges and free space are.
    pub keep: Duration,
    /// How many jobs are; as many pulls and purges.
    pub max_jobs: u32,
}

/// Where figures and health are to be had, beside the socket `admin.sock` in the runtime directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetricsSettings {
    /// A port; none: no port.
    pub listen: Option<SocketAddr>,
    /// Whether that may be one that other hosts reach.
    pub allow_remote: bool,
    /// The group that may use the socket beside root and the daemon's own user.
    pub group: Option<String>,
}
