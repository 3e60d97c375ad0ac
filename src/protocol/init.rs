//! Messages to and from the init in a job's container.
//!
//! The daemon opens a connection, says in [`Request::Stage`] what is to run as whom, and hands the connection to the shim. The
//! shim sends [`Request::Begin`] with three pipes attached and reads replies until [`Reply::Exited`] or [`Reply::Refused`].
//! When a connection whose stage runs is closed, the init ends the stage as if it had been told to.

use serde::{Deserialize, Serialize};

use super::daemon::FailureClass;

/// To the init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Can stages run here? Answered with `Ready` or `Refused`.
    Probe {
        /// The image's USER.
        user: String,
        /// What the image's ENTRYPOINT is, or what the job made of it.
        entrypoint: Vec<String>,
    },
    /// What the stage of this connection is.
    Stage(Stage),
    /// Run it. Three descriptors are attached: stdin to read from, stdout and stderr to write to, all pipes.
    Begin {
        /// The job's variables, for the stage's environment: an ENTRYPOINT reads them before the script sets them.
        #[serde(default)]
        variables: Vec<(String, String)>,
    },
    /// End it: SIGTERM to every process, SIGKILL after the grace.
    Terminate,
    /// Answered with `Pong`.
    Ping,
    /// Answered with `Idle` as soon as no stage runs.
    WaitIdle,
}

/// What is to run, as whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// USER in the image's notation: empty, `name`, `uid`, either with `:group` or `:gid`.
    pub user: String,
    /// Runs before the shell, which it gets as arguments; empty for none.
    pub entrypoint: Vec<String>,
    /// The environment (`KEY`, `value`), in order; later wins, and the variables of `Begin` win over all.
    pub environment: Vec<(String, String)>,
    /// Runs instead of entrypoint and shell; empty for those.
    #[serde(default)]
    pub command: Vec<String>,
    /// Further groups, by name or number in the image.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Names of variables that are files: in the environment they are paths (`RUNNER_TEMP_PROJECT_DIR/NAME`), as in the script.
    #[serde(default)]
    pub files: Vec<String>,
    /// The umask; none: as it is.
    #[serde(default)]
    pub umask: Option<u32>,
    /// A directory put behind the last of PATH.
    #[serde(default)]
    pub path: Option<String>,
    /// From SIGTERM to SIGKILL, in milliseconds.
    pub grace_ms: u64,
}

/// From the init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Stages can run.
    Ready {
        /// User and group id, inside the container, of those that run as the user of the probe.
        #[serde(default)]
        ids: Option<(u32, u32)>,
    },
    /// The stage's shell was started.
    Started,
    /// It can't be run.
    Refused {
        /// Whose failure that is.
        class: FailureClass,
        /// Why, in words for the job log.
        message: String,
    },
    /// The stage has ended, nothing of it runs any more, and its output is complete.
    Exited(Exited),
    /// The answer to `Ping`.
    Pong,
    /// No stage runs.
    Idle,
}

/// How a stage ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The shell's exit code; none when a signal killed it.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
}

/// What a stage used and ran into, where the container's cgroup tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processes that the OOM killer ended during the stage.
    #[serde(default)]
    pub oom_kills: u64,
    /// Memory limit in bytes.
    #[serde(default)]
    pub memory_limit: Option<u64>,
    /// Most memory used since the container started, in bytes.
    #[serde(default)]
    pub memory_peak: Option<u64>,
    /// CPU time of the stage in microseconds.
    #[serde(default)]
    pub cpu_us: Option<u64>,
    /// CPU time since the container started, in microseconds.
    #[serde(default)]
    pub cpu_total_us: Option<u64>,
    /// Bytes written to disks since the container started.
    #[serde(default)]
    pub written: Option<u64>,
    /// How often the stage met the limit of processes.
    #[serde(default)]
    pub pids_hits: u64,
    /// That limit.
    #[serde(default)]
    pub pids_limit: Option<u64>,
}
