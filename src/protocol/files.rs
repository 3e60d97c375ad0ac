//! What `windlass-files` is asked, as its one argument, and what it prints: JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is to be done with files that jobs made. Directories are named by paths of the daemon's own making; no name below them is
/// ever followed if it is a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Makes a directory that a container mounts.
    Make {
        /// The directory; those above it are there.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Its owner and group.
        owner: (u32, u32),
    },
    /// Gives a directory to another owner and group, without what is in it.
    Give {
        /// The directory.
        path: PathBuf,
        /// Owner and group; none: as it is.
        owner: (Option<u32>, Option<u32>),
    },
    /// Gives a tree to another owner and group.
    Own {
        /// The tree's root.
        path: PathBuf,
        /// Owner and group.
        owner: (u32, u32),
        /// Whether everybody may read and write it.
        open: bool,
    },
    /// Adds up a tree.
    Measure {
        /// The tree's root.
        path: PathBuf,
        /// Whether everybody is let read and write what is in it.
        open: bool,
    },
    /// Takes away from a build directory what the next job must not find.
    Tidy {
        /// The build directory.
        path: PathBuf,
        /// The project's directory in it.
        project: PathBuf,
        /// Where to put what is removed, in the same file system.
        trash: PathBuf,
    },
    /// Removes all that is in a directory, at idle priority.
    Empty {
        /// The directory.
        path: PathBuf,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Done.
    Done,
    /// Of `Measure`.
    Measured(Measured),
    /// Of `Tidy`.
    Tidied {
        /// Why the build directory can't be told to be clean; it had better go.
        suspicious: Option<String>,
        /// Locks and half-written files of git that were removed.
        locks: u64,
    },
    /// It can't be done, or not all of it.
    Failed {
        /// What happened to which file.
        message: String,
    },
}

/// The sum of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Bytes on the disk; what has several names counts once.
    pub bytes: u64,
    /// Files, directories and the rest.
    pub inodes: u64,
    /// Whose everything below the root is, if it is all of one user.
    pub owner: Option<u32>,
}
