//! Messages between the daemon and those who call its socket: the shims and the `windlass` command.
//!
//! A caller sends one request and reads replies until one that is not [`Reply::Log`]. The connection of a
//! [`Request::Stage`] stays open for as long as the stage runs; the daemon learns from its end that the shim is gone.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::admin::{ImageRow, LaneRow, PurgeRequest, RemovedRow};
use super::chain::{ChainReply, ChainRequest};
use super::history::{JobQuery, JobRow};
use super::hold::{HoldRequest, HoldRow};
use super::init::Usage;
use super::shell::ShellRequest;

/// The file beside the daemon's socket in which it tells shims how long to wait for it (`daemon_wait_ms`).
#[must_use]
pub fn shim_file(socket: &Path) -> PathBuf {
    socket.with_extension("json")
}

/// A process, safe against reuse of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (/proc/PID/stat, field 22); 0 where that could not be read.
    pub start: u64,
}

/// How a stage ended other than with an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageStop {
    /// Somebody wanted it to end.
    Terminated,
    /// This signal killed it.
    Signal(i32),
    /// It could not be started, and whose failure that is.
    Refused(FailureClass),
    /// Its init reported an end that cannot be.
    Lost,
}

/// The end of a stage that no daemon was there to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedStage {
    /// Its name.
    pub stage: String,
    /// The script's exit code.
    pub code: Option<i32>,
    /// How it ended, where that is no exit code of its own.
    pub stop: Option<StageStop>,
    /// When, in milliseconds since boot.
    pub ended: u64,
}

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Lease a slot for a job. A frame of kind `JobResponse` follows.
    Config {
        /// The profile that the runner's administrator chose.
        profile: Option<String>,
        /// gitlab-runner's process: when it ends, so does the lease.
        runner: ProcessId,
        /// The attempt's temporary directory, which gitlab-runner removes after cleanup.
        directory: Option<PathBuf>,
    },
    /// The caller has printed the answer to its `Config`: the lease is the runner's from now on.
    Confirm,
    /// Make the job's containers.
    Prepare {
        /// The lease.
        lease: String,
        /// The profile, to be refused if it is not the lease's.
        profile: Option<String>,
        /// The calling shim: it may ask again when the answer got lost, nobody else may.
        caller: ProcessId,
        /// Whether frames of kind `JobResponse` and `Variables` follow. A descriptor of the runner's own program may
        /// come with this request.
        #[serde(default)]
        inputs: bool,
    },
    /// Run a stage.
    Stage {
        /// The lease.
        lease: String,
        /// The stage's name, as gitlab-runner gives it.
        stage: String,
        /// Whether the caller already talks to the init and only takes up its connection to a restarted daemon.
        attach: bool,
        /// How the stage before it ended, where no daemon was there to be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missed: Option<MissedStage>,
    },
    /// The stage that this connection was for has ended and its output is complete.
    StageDone {
        /// What its container has used, as its init says.
        #[serde(default)]
        usage: Option<Usage>,
        /// The script's exit code; none when a signal ended it, or somebody wanted it to end.
        #[serde(default)]
        code: Option<i32>,
        /// How it ended, where that is no exit code of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stop: Option<StageStop>,
    },
    /// The stage's init is silent or talks nonsense: end the container.
    StageLost {
        /// What the shim saw.
        reason: String,
    },
    /// The job is over: end its lease. Without a lease a frame of kind `JobResponse` follows.
    Cleanup {
        /// The lease; none when config failed.
        lease: Option<String>,
        /// gitlab-runner's process.
        runner: ProcessId,
        /// How the last stage ended, where no daemon was there to be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        missed: Option<MissedStage>,
    },
    /// Slots and leases.
    Status,
    /// Jobs that were.
    Jobs(JobQuery),
    /// What jobs keep.
    CacheList,
    /// The images.
    ImagesList,
    /// Removes what jobs keep. For root and the daemon's own user.
    CachePurge(PurgeRequest),
    /// Something of the chain. What changes it is for root and the daemon's own user.
    Chain(ChainRequest),
    /// Takes no new jobs from now on, or takes them again. For root and the daemon's own user.
    Drain {
        /// Whether none are taken.
        on: bool,
    },
    /// Opens a shell in a job's container. For root and the daemon's own user.
    Shell(ShellRequest),
    /// The shell of this connection has ended.
    ShellDone {
        /// Its exit code, as the container says; none when it was ended.
        code: Option<i32>,
    },
    /// Keeps the next job of a project that fails. For root and the daemon's own user.
    Hold(HoldRequest),
    /// What is held, and what is to be.
    HoldList,
    /// Holds no longer. For root and the daemon's own user.
    Release {
        /// A project, a job's id, or the beginning of a lease's id.
        what: String,
    },
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// The daemon is at it; more replies follow.
    Working,
    /// A line for the job log; more replies follow.
    Log {
        /// The line, without its end.
        text: String,
    },
    /// The answer to `Config`.
    Configured(Configured),
    /// The answer to `Stage`, with a descriptor attached: a connection to the stage's init, which knows already what
    /// to run as whom. Without the descriptor when the caller attaches.
    StageReady(StageReady),
    /// Done, nothing to add.
    Done,
    /// The answer to `Status`.
    Status(Box<Report>),
    /// The answer to `Jobs`.
    Jobs {
        /// Those that fit, the newest first.
        jobs: Vec<JobRow>,
    },
    /// The answer to `CacheList`.
    Lanes {
        /// All of them.
        lanes: Vec<LaneRow>,
    },
    /// The answer to `ImagesList`.
    Images {
        /// All of them.
        images: Vec<ImageRow>,
    },
    /// The answer to `CachePurge`.
    Purged {
        /// What went, or would go.
        removed: Vec<RemovedRow>,
    },
    /// The answer to `Shell`, with a connection to it attached.
    Shell {
        /// Lines for whoever opened it.
        notes: Vec<String>,
    },
    /// The answer to `Hold`, `HoldList` and `Release`: what is held or waited for, or was until now.
    Holds {
        /// All of it, or what the request changed.
        holds: Vec<HoldRow>,
    },
    /// The answer to `Chain`.
    Chain(Box<ChainReply>),
    /// It can't be done.
    Failed {
        /// Whose failure it is.
        class: FailureClass,
        /// What happened, to which thing, and what to do.
        message: String,
    },
}

/// Whose failure it is, which decides the shim's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The job's: gitlab-runner does not try again (BUILD_FAILURE_EXIT_CODE).
    Job,
    /// The host's or the service's: gitlab-runner tries again where it can (SYSTEM_FAILURE_EXIT_CODE).
    System,
}

/// What `windlass-config` prints for gitlab-runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// The lease's id: 32 hex digits that nobody can guess.
    pub lease: String,
    /// Where the job's repository is, inside its containers.
    pub builds_dir: String,
    /// Where the local cache is, inside its containers.
    pub cache_dir: String,
    /// Shown in the job log after "via".
    pub hostname: String,
    /// The driver's version.
    pub version: String,
}

/// How the shim talks to the stage's init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReady {
    /// Whether the pipes are handed to the init; otherwise their bytes travel in frames (`exec = "podman"`).
    pub pass_pipes: bool,
    /// From SIGTERM to SIGKILL, in milliseconds.
    pub grace_ms: u64,
    /// How much longer than the grace the init may be silent, in milliseconds.
    pub margin_ms: u64,
    /// For the job log, after the stage.
    #[serde(default)]
    pub closing: Option<String>,
    /// Whether lines of services come while the stage runs, and behind its end until the daemon hangs up.
    #[serde(default)]
    pub service_logs: bool,
}

/// What `windlass status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Slots and leases.
    #[serde(flatten)]
    pub status: Status,
    /// What doctor called an error when the daemon had it look last.
    #[serde(default)]
    pub doctor: Vec<DoctorError>,
}

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorError {
    /// The check that found it, by its name in `windlass doctor --json`.
    pub check: String,
    /// What was found.
    pub what: String,
    /// The command that mends it, or what to do.
    pub remedy: Option<String>,
}

/// Slots and leases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon itself.
    pub daemon: DaemonStatus,
    /// Every slot of every profile.
    pub slots: Vec<SlotStatus>,
    /// Every lease, and every job that waits for one.
    pub leases: Vec<LeaseStatus>,
}

/// The daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started (RFC 3339, UTC).
    pub started_at: String,
    /// What an administrator should know, such as limits that this host can't enforce.
    pub warnings: Vec<String>,
    /// Since when no new jobs are taken (RFC 3339, UTC); none: they are.
    #[serde(default)]
    pub drained_since: Option<String>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// The profile it belongs to.
    pub profile: String,
    /// Its number within the profile, from 0.
    pub index: u32,
    /// The lease that holds it.
    pub lease: Option<String>,
    /// Whether it goes with its lease: the configuration has fewer slots by now.
    #[serde(default)]
    pub goes: bool,
}

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// The first twelve digits of its id: enough to tell leases apart, not enough to use one.
    pub id: String,
    /// waiting, leased, preparing, ready, running, held or ending.
    pub state: String,
    /// The profile.
    pub profile: String,
    /// The slot; none while waiting, and when it is held.
    pub slot: Option<u32>,
    /// GitLab's id of the job.
    pub job_id: i64,
    /// GitLab's id of the project.
    pub project_id: i64,
    /// The project's path, as the job response gives it.
    pub project_path: String,
    /// Host (and port) of the GitLab instance.
    pub instance: String,
    /// The image.
    pub image: Option<String>,
    /// The job's container.
    pub container: Option<String>,
    /// The stage that runs.
    pub stage: Option<String>,
    /// When the job came (RFC 3339, UTC).
    pub since: String,
    /// When the stage began (RFC 3339, UTC).
    pub stage_since: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Until when its containers are kept (RFC 3339, UTC), of one that is held.
    #[serde(default)]
    pub held_until: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upgrade replaces the executables before the daemon, and jobs go on meanwhile.
    #[test]
    fn a_call_of_a_later_release_that_says_more_is_understood() {
        let call = r#"{"request":"config","profile":null,"runner":{"pid":1,"start":2},"directory":"/d","later":[1]}"#;
        let request: Request = serde_json::from_str(call).expect("it is understood");
        assert!(matches!(request, Request::Config { profile: None, .. }), "{request:?}");
        assert!(serde_json::from_str::<Request>(r#"{"request":"later"}"#).is_err());
    }
}
