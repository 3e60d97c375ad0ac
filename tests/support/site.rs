//! A host as gitlab-runner sees it: where its executables are, and what they are told.

use std::path::{Path, PathBuf};

use super::account::Account;
use super::host::Host;

/// Where gitlab-runner runs.
pub trait Site: Sync {
    /// The user that it runs as.
    fn caller(&self) -> &Account;

    /// Where it may keep files.
    fn files(&self) -> &Path;

    /// One of its executables, by the end of its name.
    fn shim(&self, name: &str) -> PathBuf;

    /// The socket that they are told; none: the one that they know.
    fn told_socket(&self) -> Option<PathBuf>;

    /// Waits until nothing of a lease is left.
    fn wait_until_gone(&self, lease: &str);
}

impl Site for Host {
    fn caller(&self) -> &Account {
        &self.account
    }

    fn files(&self) -> &Path {
        self.dir()
    }

    fn shim(&self, name: &str) -> PathBuf {
        self.programs.shim(name)
    }

    fn told_socket(&self) -> Option<PathBuf> {
        Some(self.socket())
    }

    fn wait_until_gone(&self, lease: &str) {
        self.wait_until_gone(lease);
    }
}
