//! What is looked at for the history and the figures: free space now and then, pulls and purges as they happen.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Executor;
use crate::history::now;
use crate::job::ImageRef;
use crate::lanes::decide::{Disk, Rule};
use crate::loops;
use crate::metrics::states::{DiskState, States};
use crate::podman::Image;
use crate::protocol::admin::RemovedRow;
use crate::protocol::history::{DiskRow, PullRow, PurgeRow};

/// How often free space is noted.
const LOOK: Duration = Duration::from_secs(600);

impl Executor {
    /// Notes free space every ten minutes, until the daemon ends.
    pub async fn observe_forever(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = loops::rest(ticks.tick()) => {}
            }
            self.look_at_disks().await;
        }
    }

    /// What is now, as far as jobs and space go.
    #[must_use]
    pub fn states(&self) -> States {
        let mut states = States { podman_version: self.podman_version.clone(), ..States::default() };
        let settings = self.settings();
        for held in self.slots.list() {
            let state = match (held.goes, held.lease) {
                (true, _) => "going",
                (false, Some(_)) => "busy",
                (false, None) => "free",
            };
            *states.slots.entry((held.profile, state)).or_default() += 1;
        }
        for profile in settings.profiles.keys() {
            states.waiting.insert(profile.clone(), 0);
            for state in ["free", "busy", "going"] {
                states.slots.entry((profile.clone(), state)).or_default();
            }
        }
        for waiter in self.waiting.lock().unwrap_or_else(PoisonError::into_inner).values() {
            *states.waiting.entry(waiter.profile.clone()).or_default() += 1;
        }
        for (path, of) in self.watched().iter().zip(["state", "images"]) {
            let Some(disk) = disk(path) else { continue };
            states.disks.push(DiskState {
                of,
                bytes: signed(disk.bytes),
                free_bytes: signed(disk.free_bytes),
                wanted_bytes: signed(settings.purge.min_free.of(disk.bytes)),
                inodes: signed(disk.inodes),
                free_inodes: signed(disk.free_inodes),
            });
        }
        let lanes = self.lanes.list();
        states.lanes = i64::try_from(lanes.len()).unwrap_or(i64::MAX);
        states.lanes_bytes = signed(lanes.iter().filter_map(|lane| lane.record.size).map(|size| size.bytes).sum());
        states.trash_bytes = signed(self.lanes.in_trash().bytes);
        states
    }

    /// Whether podman answers.
    pub async fn podman_answers(&self) -> bool {
        self.podman.answers().await
    }

    /// Whether GitLab answered when a job was verified last; none: it was not asked.
    #[must_use]
    pub fn gitlab_answers(&self) -> Option<bool> {
        self.gitlab.as_ref().and_then(crate::gitlab::Client::answers)
    }

    async fn look_at_disks(&self) {
        let lanes = self.lanes.list().iter().filter_map(|lane| lane.record.size).map(|size| size.bytes).sum();
        let images = match self.podman.images().await {
            Ok(images) => Some(images.iter().map(|image| image.bytes).sum()),
            Err(error) => {
                tracing::debug!("{error}");
                None
            }
        };
        let watched = self.watched();
        let last = watched.len().saturating_sub(1);
        for (index, path) in watched.iter().enumerate() {
            let Some(disk) = disk(path) else { continue };
            self.history().disk(DiskRow {
                at: now(),
                path: path.display().to_string(),
                free_bytes: disk.free_bytes,
                bytes: disk.bytes,
                free_inodes: disk.free_inodes,
                inodes: disk.inodes,
                lanes_bytes: (index == 0).then_some(lanes),
                images_bytes: images.filter(|_| index == last),
            });
        }
    }

    /// Notes a pull that has ended.
    pub(super) fn note_pull(&self, reference: &ImageRef, result: &'static str, image: Option<&Image>, took: Duration) {
        let bytes = image.map(|image| image.size);
        self.metrics().pulled(result, bytes, took);
        self.history().pull(PullRow {
            at: now(),
            image: reference.to_string(),
            digest: image.and_then(|image| image.digest.clone()),
            bytes,
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            result: result.to_owned(),
        });
    }

    /// Notes something that was purged.
    pub(super) fn note_purge(&self, row: &RemovedRow, lane: bool, rule: Rule) {
        let kind = if lane { "lane" } else { "image" };
        self.metrics().purged(kind, rule.word(), row.bytes);
        self.history().purge(PurgeRow {
            at: now(),
            kind: kind.to_owned(),
            name: row.name.clone(),
            project_path: row.project_path.clone(),
            bytes: row.bytes,
            age_s: row.age_s,
            rule: row.rule.clone(),
        });
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The file system of a directory.
pub(super) fn disk(path: &Path) -> Option<Disk> {
    let about = nix::sys::statvfs::statvfs(path).ok()?;
    let unit = about.fragment_size();
    Some(Disk {
        bytes: about.blocks() * unit,
        // What only root may have is not free to jobs.
        free_bytes: about.blocks_available() * unit,
        inodes: about.files(),
        free_inodes: about.files_available(),
    })
}
