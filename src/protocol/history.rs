//! What has been: jobs, pulls, purges and free space, as the history has them and as `windlass jobs` shows them.
//!
//! Times are milliseconds since 1970, durations milliseconds, sizes bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Most jobs in one answer.
pub const JOBS_MAX: u32 = 5_000;

/// What came of a job, as far as the daemon can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobOutcome {
    /// All its stages that count succeeded.
    Success,
    /// The job's own failure: its script's, or that it asked for what is not to be had.
    Failed,
    /// Somebody ended it before its end.
    Canceled,
    /// Its time was over.
    Timeout,
    /// The host's or the service's failure.
    SystemFailure,
    /// gitlab-runner died: nobody knows what GitLab made of it.
    RunnerGone,
}

impl JobOutcome {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Failed, Self::Canceled, Self::Timeout, Self::SystemFailure, Self::RunnerGone];

    /// In one word, the same everywhere.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::SystemFailure => "system-failure",
            Self::RunnerGone => "runner-gone",
        }
    }

    /// The outcome of this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

impl fmt::Display for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum StageResult {
    /// By itself; the exit code is what GitLab is told, 128 and the signal's number for one that a signal killed.
    Exited {
        /// The exit code.
        exit_code: i32,
    },
    /// Somebody ended it: a cancel or a timeout.
    Terminated,
    /// It could not be run, and the job is to blame.
    Refused,
    /// It could not be run, or not to its end, because of the host or the service.
    Lost,
    /// Nobody was told: the daemon was away at its end.
    Unknown,
}

impl StageResult {
    /// In one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Exited { exit_code: 0 } => "success",
            Self::Exited { .. } => "failed",
            Self::Terminated => "terminated",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::Unknown => "unknown",
        }
    }

    /// Its exit code.
    #[must_use]
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Self::Exited { exit_code } => Some(exit_code),
            _ => None,
        }
    }

    /// The result of this word and exit code.
    #[must_use]
    pub fn of(word: &str, exit_code: Option<i32>) -> Self {
        match (word, exit_code) {
            ("success", _) => Self::Exited { exit_code: 0 },
            ("failed", Some(exit_code)) => Self::Exited { exit_code },
            ("terminated", _) => Self::Terminated,
            ("refused", _) => Self::Refused,
            ("lost", _) => Self::Lost,
            _ => Self::Unknown,
        }
    }
}

/// A stage that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRow {
    /// Its name, as gitlab-runner gives it.
    pub name: String,
    /// When it began.
    pub began: i64,
    /// How long it took; none: not known.
    pub ms: Option<u64>,
    /// How it ended.
    #[serde(flatten)]
    pub result: StageResult,
}

/// An image of a job's containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobImage {
    /// `job`, `helper` or `service`.
    pub role: String,
    /// Its name, in full.
    pub name: String,
    /// podman's id of it.
    pub id: String,
    /// Its digest, where it has one: of the manifest that was run.
    pub digest: Option<String>,
    /// Further digests under which its registry has it, such as that of an index of several platforms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_digests: Vec<String>,
}

/// A job that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// The first twelve digits of its lease's id; empty where it got none.
    pub lease: String,
    /// How often gitlab-runner tried to prepare it.
    pub attempts: u32,
    /// Host (and port) of the GitLab instance.
    pub instance: String,
    /// GitLab's id of the job.
    pub job_id: i64,
    /// GitLab's id of the project.
    pub project_id: i64,
    /// The project's path.
    pub project_path: String,
    /// The job's name.
    pub name: Option<String>,
    /// Its branch or tag.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// GitLab's id of the pipeline.
    pub pipeline: Option<i64>,
    /// Whether its ref is protected.
    pub protected: bool,
    /// GitLab's id of the user who started it.
    pub user_id: Option<i64>,
    /// The user's login.
    pub user: Option<String>,
    /// The profile.
    pub profile: String,
    /// The slot; none: it got none.
    pub slot: Option<u32>,
    /// What came of it.
    pub outcome: JobOutcome,
    /// The exit code of what failed.
    pub exit_code: Option<i32>,
    /// Why, in words.
    pub reason: Option<String>,
    /// When it came.
    pub came: i64,
    /// How long it waited for its slot.
    pub waited_ms: u64,
    /// How long its preparation took; none: it did not come to that.
    pub prepare_ms: Option<u64>,
    /// When it ended.
    pub ended: i64,
    /// From when it came to its end.
    pub duration_ms: u64,
    /// Most memory of its container at once, as its init said.
    pub memory_peak: Option<u64>,
    /// CPU time of its container in microseconds, as its init said.
    pub cpu_us: Option<u64>,
    /// Bytes that its container wrote to disks, as its init said.
    pub written: Option<u64>,
    /// The images of its containers.
    pub images: Vec<JobImage>,
    /// Its stages, in their order.
    pub stages: Vec<StageRow>,
}

/// Which jobs are wanted; those that fit all of it, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobQuery {
    /// Of this project: its path, its id, or one of them behind the host of its instance.
    pub project: Option<String>,
    /// Of this user: the login, or the id.
    pub user: Option<String>,
    /// In an image whose digest or id begins with these hexadecimal digits.
    pub image: Option<String>,
    /// With this outcome.
    pub outcome: Option<JobOutcome>,
    /// That ended since then.
    pub since: Option<i64>,
    /// At most so many; up to [`JOBS_MAX`].
    pub limit: u32,
}

/// A pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRow {
    /// When it ended.
    pub at: i64,
    /// The image's name.
    pub image: String,
    /// Its digest.
    pub digest: Option<String>,
    /// Its size on this host.
    pub bytes: Option<u64>,
    /// How long it took, with all attempts.
    pub ms: u64,
    /// `success`, or what kind of failure it was.
    pub result: String,
}

/// Something that a purge has removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeRow {
    /// When.
    pub at: i64,
    /// `lane` or `image`.
    pub kind: String,
    /// The lane's directory, or the image's names.
    pub name: String,
    /// The project's path; none for an image.
    pub project_path: Option<String>,
    /// Its size; none: not measured.
    pub bytes: Option<u64>,
    /// Seconds since a job used it.
    pub age_s: u64,
    /// The rule that chose it.
    pub rule: String,
}

/// A look at a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRow {
    /// When.
    pub at: i64,
    /// A directory on it: the state directory's, or that of podman's images where that is another file system.
    pub path: String,
    /// Bytes free to jobs.
    pub free_bytes: u64,
    /// All bytes.
    pub bytes: u64,
    /// Inodes free to jobs.
    pub free_inodes: u64,
    /// All inodes; 0 where it has no bound of them.
    pub inodes: u64,
    /// Bytes of all lanes, where they are on it.
    pub lanes_bytes: Option<u64>,
    /// Bytes of all images, where they are on it; layers that images share count for each.
    pub images_bytes: Option<u64>,
}

/// The stages of one name in one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageDay {
    /// The day's begin, in UTC.
    pub day: i64,
    /// The stage's name; `prepare` is the daemon's own preparation, `wait` the wait for a slot.
    pub stage: String,
    /// How many.
    pub count: u64,
    /// Their mean duration.
    pub mean_ms: u64,
    /// The longest.
    pub max_ms: u64,
}

/// The jobs of one outcome in one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeDay {
    /// The day's begin, in UTC.
    pub day: i64,
    /// The outcome.
    pub outcome: JobOutcome,
    /// How many.
    pub count: u64,
}

/// The pulls of one result in one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullDay {
    /// The day's begin, in UTC.
    pub day: i64,
    /// The result.
    pub result: String,
    /// How many.
    pub count: u64,
    /// Their bytes, where known.
    pub bytes: u64,
    /// Their mean duration.
    pub mean_ms: u64,
}
