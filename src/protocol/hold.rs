//! What `windlass hold` and `windlass release` ask, and what is shown of holds.

use serde::{Deserialize, Serialize};

/// What to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// The project: its path or id, behind the host of its GitLab and a slash where there are several.
    pub project: String,
    /// Only this job of it.
    pub job: Option<i64>,
    /// For how long, in seconds.
    pub for_s: u64,
}

/// One hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRow {
    /// `waiting` for a job to fail, `failed` when that job has not ended yet, or `held`.
    pub state: String,
    /// The project, as it was asked for or, of a job, its path.
    pub project: String,
    /// The job that is held, or that is waited for.
    pub job: Option<i64>,
    /// Until when (RFC 3339, UTC) it is held, or waited for.
    pub until: String,
    /// For how many seconds a job will be, or was to be held.
    pub for_s: u64,
    /// Who asked for it.
    pub by: String,
}
