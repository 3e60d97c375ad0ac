//! The directory of a lease of which nothing is kept: its containers share builds and cache there, or build images.
//!
//! Nobody but the root of the job's user namespace and this daemon gets past it; in it, every user of the job may write.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::builds::{self, Place};
use super::record::Record;
use super::{BUILDS_DIR, CACHE_DIR, Executor};
use crate::podman::{Mount, UserMap};
use crate::protocol::files::Request;
use crate::sys::selinux::{Containers, make_directory_for_containers};

impl Executor {
    pub(super) fn work_dir(&self, record: &Record) -> PathBuf {
        self.work_dirs().join(record.id.short())
    }

    /// Where the directories of all leases are.
    pub(super) fn work_dirs(&self) -> PathBuf {
        self.settings().state_dir.join("work")
    }

    /// Makes the directory of a lease; returns what its containers mount of it.
    pub(super) async fn make_work_dir(&self, record: &Record, map: UserMap) -> Result<Vec<Mount>> {
        let directory = self.work_dir(record);
        // One of an attempt before this one may have files of the job in it.
        self.remove_work_dir(record)?;
        let shared: &[(&str, &str)] =
            if record.shares_work_dir() { &[("builds", BUILDS_DIR), ("cache", CACHE_DIR)] } else { &[] };
        make_directory_for_containers(&self.work_dirs(), 0o711, Containers::Write)?;
        let root = self.podman.file_id(map, 0);
        let make = async |path: PathBuf, mode| {
            let made = self.podman.files(Request::Make { path: path.clone(), mode, owner: (root, root) }).await;
            made.with_context(|| format!("make the directory {}", path.display()))
        };
        super::make_directory(&directory, 0o700)?;
        self.podman.files(Request::Give { path: directory.clone(), owner: (None, Some(root)) }).await?;
        super::make_directory(&directory, 0o710)?;
        for (name, _) in shared {
            make(directory.join(name), 0o777).await?;
        }
        if record.builds == Some(Place::Lease) {
            make(directory.join(builds::NAME), builds::MODE).await?;
        }
        let mount = |(name, target): &(&str, &str)| Mount {
            source: directory.join(name).display().to_string(),
            target: (*target).to_owned(),
            read_only: false,
        };
        Ok(shared.iter().map(mount).collect())
    }

    /// Puts the directory of a lease, with what its containers left there, into the trash.
    pub(super) fn remove_work_dir(&self, record: &Record) -> Result<()> {
        self.lanes.throw_away(&self.work_dir(record))?;
        self.housekeeping.trash.notify_one();
        Ok(())
    }
}
