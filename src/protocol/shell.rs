//! `windlass shell`: what is asked of the daemon, and what then goes between the command and `windlass-init shell` in the container.
//!
//! The daemon writes a [`Start`] into a connection to that program and hands the connection over. From then on both sides send frames: keystrokes as
//! `Stdin` (an empty one is their end) and [`ToShell`] one way, `Stdout`, `Stderr` and [`FromShell`] the other. When the connection ends,
//! so does the shell.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which container of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The job's own.
    Job,
    /// The helper.
    Helper,
    /// The service with this alias.
    Service(String),
}

/// What the command asks of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellRequest {
    /// The job: its id, the beginning of its lease's id, or its slot (`PROFILE/NUMBER`).
    pub job: String,
    /// The container.
    pub target: Target,
    /// The user, in the image's notation; none: as the job's scripts, or the service.
    pub user: Option<String>,
    /// What runs; empty: the image's shell.
    pub command: Vec<String>,
    /// The size of the caller's terminal; none: it has none.
    pub terminal: Option<Size>,
    /// TERM of the caller.
    pub term: Option<String>,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// The first message to `windlass-init shell`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// USER in the image's notation; none: stay who podman made it.
    pub user: Option<String>,
    /// Further groups, by name or number in the image.
    pub groups: Vec<String>,
    /// The environment, later ones win; where `user` is none, on top of podman's.
    pub environment: Vec<(String, String)>,
    /// A directory put behind the last of PATH.
    pub path: Option<String>,
    /// The umask; none: as it is.
    pub umask: Option<u32>,
    /// What runs; empty: the image's shell.
    pub command: Vec<String>,
    /// Where it begins: the first of these that is there.
    pub directories: Vec<PathBuf>,
    /// The size of its terminal; none: it gets pipes.
    pub terminal: Option<Size>,
}

/// From the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum ToShell {
    /// The terminal has another size now.
    Resize(Size),
}

/// To the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum FromShell {
    /// It runs.
    Started,
    /// It can't be started.
    Refused {
        /// Why.
        message: String,
    },
    /// It has ended, and this is all of its output.
    Ended {
        /// Its exit code; none when a signal ended it.
        code: Option<i32>,
        /// That signal.
        signal: Option<i32>,
    },
}
