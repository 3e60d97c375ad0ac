//! The directory in which the containers of a job share builds and cache.
//!
//! It belongs to the root of the job's user namespace and nobody else may enter it; in it, every user of the job may write.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::record::Record;
use super::{BUILDS_DIR, CACHE_DIR, Executor};
use crate::podman::{Mount, UserMap};

impl Executor {
    fn work_dir(&self, record: &Record) -> PathBuf {
        self.settings.state_dir.join("work").join(record.id.short())
    }

    /// Makes the directory of a lease; returns what its containers mount of it.
    pub(super) async fn make_work_dir(&self, record: &Record, map: UserMap) -> Result<Vec<Mount>> {
        let directory = self.work_dir(record);
        // One of an attempt before this one may have files of the job in it.
        self.remove_work_dir(record).await?;
        let shared = [("builds", BUILDS_DIR), ("cache", CACHE_DIR)];
        let make = || -> Result<()> {
            super::make_directory(&self.settings.state_dir.join("work"), 0o711)?;
            DirBuilder::new().mode(0o700).create(&directory)?;
            for (name, _) in shared {
                let path = directory.join(name);
                std::fs::create_dir(&path)?;
                std::fs::set_permissions(&path, Permissions::from_mode(0o777))?;
                give(&path, map)?;
            }
            give(&directory, map)
        };
        make().with_context(|| format!("make the directory {}", directory.display()))?;
        if map == UserMap::NoMap {
            self.podman.give_to_container_root(&directory).await?;
        }
        let mount = |(name, target): (&str, &str)| Mount {
            source: directory.join(name).display().to_string(),
            target: target.to_owned(),
            read_only: false,
        };
        Ok(shared.map(mount).to_vec())
    }

    /// Removes the directory of a lease, with what its containers left there.
    pub(super) async fn remove_work_dir(&self, record: &Record) -> Result<()> {
        let directory = self.work_dir(record);
        if !directory.try_exists().unwrap_or(true) {
            return Ok(());
        }
        if self.podman.rootful {
            let remove = directory.clone();
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(remove)).await;
            return removed.context("remove a directory")?.with_context(|| format!("remove {}", directory.display()));
        }
        // Files of the job belong to subordinate ids.
        self.podman.remove_directory(&directory).await?;
        Ok(())
    }
}

fn give(path: &Path, map: UserMap) -> Result<()> {
    if let UserMap::Range { first, .. } = map {
        chown(path, Some(first), Some(first))?;
    }
    Ok(())
}
