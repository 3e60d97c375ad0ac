//! Container storage for jobs that build images: a directory of the host, because overlay can't be mounted over the overlay of
//! a container's own root, and a configuration that points buildah and podman in the job to it.
//!
//! A directory that is kept belongs to one job at a time: containers/storage counts its mounts in files of each container.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::record::Record;
use super::{Executor, JobLog, Lease};
use crate::config::{BuildDriver, BuildStorage};
use crate::lanes::Part;
use crate::podman::{Mount, UserMap};

/// Where a job finds it. A user's is in a directory of its own there, which that user makes.
pub const DIRECTORY: &str = "/.windlass-storage";
/// Where a job finds its configuration (containers-storage.conf(5)).
pub const CONFIGURATION: &str = "/etc/windlass-storage.conf";
/// Its name in a lane, and in the directory of a lease.
pub const NAME: &str = "storage";

/// How long a trial of overlay may take.
const TRIAL: Duration = Duration::from_secs(10);

/// Which storage a lease has for images that its job builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A directory in the lease's own.
    Lease,
    /// The directory of its key.
    Kept,
}

/// The variables that make buildah and podman in a job use it. Where the job's container has a user namespace of its own, newer buildahs
/// (1.39.3) lose their way after a pivot_root that they can't finish; chroot isolation needs none.
pub fn variables() -> [(String, String); 3] {
    [("BUILDAH_ISOLATION", "chroot"), ("BUILDAH_NOPIVOT", "true"), ("CONTAINERS_STORAGE_CONF", CONFIGURATION)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// The mode of such a directory. Each user of the job has a part in it that no other can remove.
pub const MODE: u32 = 0o1777;

impl Executor {
    /// Decides where a lease's builds go, and writes it into its record.
    pub(super) fn place_builds(&self, lease: &Lease, log: &JobLog) -> Result<()> {
        let place = match lease.record().settings.builds.storage {
            BuildStorage::None => return Ok(()),
            BuildStorage::Job => Place::Lease,
            BuildStorage::Project => Place::Kept,
        };
        let place = match lease.record().lane.map(|lane| lane.part(Part::Storage)) {
            // Nothing is kept of this job.
            None => Place::Lease,
            Some(_) if place == Place::Lease => place,
            Some(id) if self.lanes.is_foreign(&id) => Place::Lease,
            Some(id) => {
                // Two jobs that look at once do not both find it free.
                let _one = self.placing.lock().unwrap_or_else(PoisonError::into_inner);
                let others = self.lanes.holders(&id).into_iter().find(|holder| holder != lease.id.short());
                if let Some(holder) = others {
                    let holder = self.by_short_id(&holder).map(|lease| lease.record().job.id.to_string());
                    log.line(format!(
                        "Job {} has the project's storage for building images; this job gets an empty one",
                        holder.as_deref().unwrap_or("another")
                    ));
                    Place::Lease
                } else {
                    if self.lanes.record(&id).is_some_and(|record| record.is_in_doubt()) {
                        self.discard(&id, "what became of the job that used it last is not known")?;
                    }
                    self.lanes.hold(&[id], lease.id.short());
                    place
                }
            }
        };
        lease.update(|record| record.builds = Some(place)).map(drop)
    }

    /// What a job's container mounts for its builds.
    pub(super) async fn make_build_storage(
        &self,
        record: &Record,
        place: Place,
        map: UserMap,
        log: &JobLog,
    ) -> Result<Vec<Mount>> {
        let directory = match place {
            Place::Lease => self.work_dir(record).join(NAME),
            Place::Kept => self.kept_storage(record, map).await?,
        };
        let (driver, reason) = self.build_driver(record).await;
        let kept = match place {
            Place::Lease => "goes with the job",
            Place::Kept => "is kept for the project",
        };
        log.line(format!("Storage for building images ({}{reason}) {kept}", word(driver)));
        let name = format!("storage-{}.conf", word(driver));
        let configuration = self.mounted_file(&name, configuration_text(driver).as_bytes())?;
        let mount = |source: &Path, target: &str, read_only| Mount {
            source: source.display().to_string(),
            target: target.to_owned(),
            read_only,
        };
        Ok(vec![mount(&directory, DIRECTORY, false), mount(&configuration, CONFIGURATION, true)])
    }

    /// The directory of the lease's lane.
    async fn kept_storage(&self, record: &Record, map: UserMap) -> Result<PathBuf> {
        let lane = record.lane.as_ref().context("nothing is kept of this job")?;
        let id = lane.part(Part::Storage);
        let directory = self.make_lane(&id, map).await?;
        self.lanes.begin_use(&id)?;
        Ok(directory)
    }

    /// The driver, and in words why no better one.
    async fn build_driver(&self, record: &Record) -> (BuildDriver, String) {
        let wanted = record.settings.builds.driver;
        if wanted != BuildDriver::Auto {
            return (wanted, String::new());
        }
        match self.overlay.get_or_init(|| async { try_overlay(&self.settings().state_dir).await }).await {
            Ok(()) => (BuildDriver::Overlay, String::new()),
            Err(reason) => {
                let devices = &record.settings.isolation.devices;
                let fuse = devices.iter().any(|device| device.split(':').next() == Some("/dev/fuse"));
                let driver = if fuse { BuildDriver::FuseOverlayfs } else { BuildDriver::Vfs };
                (driver, format!(", because {reason}"))
            }
        }
    }
}

fn word(driver: BuildDriver) -> &'static str {
    match driver {
        BuildDriver::Auto | BuildDriver::Overlay => "overlay",
        BuildDriver::FuseOverlayfs => "fuse-overlayfs",
        BuildDriver::Vfs => "vfs",
    }
}

/// A storage.conf. A root without CAP_SYS_ADMIN counts as rootless for podman, but not for buildah: both paths are the same.
fn configuration_text(driver: BuildDriver) -> String {
    let name = if driver == BuildDriver::Vfs { "vfs" } else { "overlay" };
    let options = match driver {
        BuildDriver::FuseOverlayfs => "\n[storage.options.overlay]\nmount_program = \"/usr/bin/fuse-overlayfs\"\n",
        _ => "",
    };
    format!(
        "[storage]\ndriver = \"{name}\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"{DIRECTORY}/0\"\n\
         rootless_storage_path = \"{DIRECTORY}/$UID\"\n{options}"
    )
}

/// Whether overlay can be mounted in a user namespace on a directory here, as a job's buildah does it.
async fn try_overlay(state_dir: &Path) -> Result<(), String> {
    let trial = tempfile::Builder::new().prefix("overlay-trial-").tempdir_in(state_dir);
    let trial = trial.map_err(|error| format!("{} can't be written: {error}", state_dir.display()))?;
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(trial.path().join(name)).map_err(|error| error.to_string())?;
    }
    // In a mount namespace that ends with it.
    let mut unshare = tokio::process::Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--mount", "--", "mount", "-t", "overlay", "overlay", "-o"]);
    unshare.args(["userxattr,lowerdir=lower,upperdir=upper,workdir=work", "merged"]);
    unshare.current_dir(trial.path()).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(TRIAL, unshare.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let _ = std::fs::set_permissions(trial.path().join("work/work"), Permissions::from_mode(0o700));
            Ok(())
        }
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
            tracing::warn!("containers can't mount overlay here, so images are built slower: {said}");
            Err("containers can't mount overlay on this host".to_owned())
        }
        Ok(Err(error)) => Err(format!("unshare(1) can't be started: {error}")),
        Err(_) => Err("the trial of overlay hangs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_others_have_their_storage_below_the_mounted_directory() {
        let read = |driver| toml::from_str::<toml::Table>(&configuration_text(driver)).expect("TOML");
        let overlay = read(BuildDriver::Overlay);
        assert_eq!(overlay["storage"]["graphroot"].as_str(), Some("/.windlass-storage/0"));
        assert_eq!(overlay["storage"]["rootless_storage_path"].as_str(), Some("/.windlass-storage/$UID"));
        assert_eq!(read(BuildDriver::Vfs)["storage"]["driver"].as_str(), Some("vfs"));
        let fuse = read(BuildDriver::FuseOverlayfs);
        assert_eq!(fuse["storage"]["driver"].as_str(), Some("overlay"));
        assert!(fuse["storage"]["options"]["overlay"]["mount_program"].is_str());
    }
}
