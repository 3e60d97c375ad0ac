//! Files that containers mount and only read. They are copied into a directory of their own, since SELinux lets no container read a file of
//! the daemon's or of the administrator's.

use std::path::PathBuf;
use std::sync::PoisonError;

use anyhow::{Context, Result};

use super::Executor;
use crate::sys::files;
use crate::sys::selinux::{Containers, make_directory_for_containers};

/// Their directory, below the daemon's state.
const DIRECTORY: &str = "mounted";

impl Executor {
    /// Has a file of this name with this content there; returns where.
    pub(super) fn mounted_file(&self, name: &str, content: &[u8]) -> Result<PathBuf> {
        let directory = self.settings().state_dir.join(DIRECTORY);
        let path = directory.join(name);
        // Two writers at once would take each other's new file away.
        let _turn = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
        make_directory_for_containers(&directory, 0o711, Containers::Read)?;
        if std::fs::read(&path).ok().as_deref() != Some(content) {
            files::write_atomically(&path, content, 0o644, files::Survives::Crash)
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(path)
    }
}
