//! The directory in which the containers of a job share builds and cache.
//!
//! It belongs to the root of the job's user namespace and nobody else may enter it; in it, every user of the job may write.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::builds::{self, Place};
use super::record::Record;
use super::{BUILDS_DIR, CACHE_DIR, Executor};
use crate::podman::{Mount, UserMap};

impl Executor {
    pub(super) fn work_dir(&self, record: &Record) -> PathBuf {
        self.settings.state_dir.join("work").join(record.id.short())
    }

    /// Makes the directory of a lease; returns what its containers mount of it.
    pub(super) async fn make_work_dir(&self, record: &Record, map: UserMap) -> Result<Vec<Mount>> {
        let directory = self.work_dir(record);
        // One of an attempt before this one may have files of the job in it.
        self.remove_work_dir(record).await?;
        let shared: &[(&str, &str)] =
            if record.shares_work_dir() { &[("builds", BUILDS_DIR), ("cache", CACHE_DIR)] } else { &[] };
        let make = || -> Result<()> {
            super::make_directory(&self.settings.state_dir.join("work"), 0o711)?;
            DirBuilder::new().mode(0o700).create(&directory)?;
            for (name, _) in shared {
                make_open(&directory.join(name), map, 0o777)?;
            }
            if record.builds == Some(Place::Lease) {
                builds::make_directory(&directory.join(builds::NAME), map)?;
            }
            give(&directory, map)
        };
        make().with_context(|| format!("make the directory {}", directory.display()))?;
        if map == UserMap::NoMap {
            self.podman.give_to_container_root(&directory).await?;
        }
        let mount = |(name, target): &(&str, &str)| Mount {
            source: directory.join(name).display().to_string(),
            target: (*target).to_owned(),
            read_only: false,
        };
        Ok(shared.iter().map(mount).collect())
    }

    /// Removes the directory of a lease, with what its containers left there.
    pub(super) async fn remove_work_dir(&self, record: &Record) -> Result<()> {
        self.remove_tree(&self.work_dir(record)).await
    }

    /// Removes a directory with files of whatever ids; one that is not there is no error.
    pub(super) async fn remove_tree(&self, directory: &Path) -> Result<()> {
        if !directory.try_exists().unwrap_or(true) {
            return Ok(());
        }
        if self.podman.rootful {
            let remove = directory.to_owned();
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(remove)).await;
            return removed.context("remove a directory")?.with_context(|| format!("remove {}", directory.display()));
        }
        // Files of the job belong to subordinate ids.
        self.podman.remove_directory(directory).await?;
        Ok(())
    }
}

/// A directory that every user of the job may write.
pub fn make_open(path: &Path, map: UserMap, mode: u32) -> Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    give(path, map)
}

fn give(path: &Path, map: UserMap) -> Result<()> {
    if let UserMap::Range { first, .. } = map {
        chown(path, Some(first), Some(first))?;
    }
    Ok(())
}
