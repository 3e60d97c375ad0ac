//! What the `windlass` command asks about what jobs keep.

use serde::{Deserialize, Serialize};

/// One lane, for `windlass cache list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneRow {
    /// Host (and port) of the GitLab instance.
    pub instance: String,
    /// GitLab's id of the project.
    pub project_id: i64,
    /// The project's path when it was used last.
    pub project_path: String,
    /// Whether it is of protected refs.
    pub protected: bool,
    /// The pipeline that has it for itself.
    pub pipeline: Option<i64>,
    /// `builds-0`, `cache`, `storage`.
    pub lane: String,
    /// Bytes on the disk; none: not measured yet.
    pub bytes: Option<u64>,
    /// Files and directories.
    pub inodes: Option<u64>,
    /// When a job used it last (RFC 3339, UTC).
    pub last_use: String,
    /// Seconds since then, as the rules count them.
    pub age_s: u64,
    /// How many jobs have used it.
    pub uses: u64,
    /// The jobs that use it now.
    pub jobs: Vec<i64>,
    /// The rule by which it would go now.
    pub goes_by: Option<String>,
}

/// One image, for `windlass images list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Bytes; layers that other images share count for each.
    pub bytes: u64,
    /// When a job used it last (RFC 3339, UTC); none: no job has, as far as known.
    pub last_use: Option<String>,
    /// Why it stays whatever the rules say: in use, pinned, not ours.
    pub stays: Option<String>,
    /// The rule by which it would go now.
    pub goes_by: Option<String>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// A directory on it.
    pub path: String,
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes that are free to jobs.
    pub free_bytes: u64,
    /// Bytes that are kept free (`[purge]` min_free).
    pub kept_free_bytes: u64,
    /// Inodes in all; 0 where it has no bound of them.
    pub inodes: u64,
    /// Inodes that are free to jobs.
    pub free_inodes: u64,
    /// Inodes that are kept free (`[purge]` min_free_inodes).
    pub kept_free_inodes: u64,
}

/// What to remove, for `windlass cache purge`. With nothing chosen the configured rules decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeRequest {
    /// Whether only to say what would go.
    pub dry_run: bool,
    /// The lanes of this project, by path or id.
    pub project: Option<String>,
    /// Lanes unused for this many seconds.
    pub older_than_s: Option<u64>,
    /// All lanes.
    pub all: bool,
}

impl PurgeRequest {
    /// Whether the administrator chooses, and not the rules.
    #[must_use]
    pub fn chooses(&self) -> bool {
        self.all || self.project.is_some() || self.older_than_s.is_some()
    }
}

/// Whether a name that an administrator gave is this project's: its path, its id, or one of them behind the host of its instance.
#[must_use]
pub fn is_project(name: &str, instance: &str, id: i64, path: &str) -> bool {
    let is_it = |name: &str| name.eq_ignore_ascii_case(path) || name == id.to_string();
    let below = name.get(..instance.len()).filter(|host| host.eq_ignore_ascii_case(instance));
    is_it(name) || below.and_then(|host| name[host.len()..].strip_prefix('/')).is_some_and(is_it)
}

/// What went, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedRow {
    /// The lane's directory, or the image's names.
    pub name: String,
    /// The project's path; none for an image.
    pub project_path: Option<String>,
    /// Bytes; none: not measured.
    pub bytes: Option<u64>,
    /// Seconds since a job used it.
    pub age_s: u64,
    /// The rule that chose it.
    pub rule: String,
}
