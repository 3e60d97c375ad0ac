//! Where podman keeps images and containers: what it can bound there, and whether its images have changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Podman, PodmanError, strings};

/// podman's storage (containers-storage.conf(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The driver, such as `overlay`.
    pub driver: String,
    /// Its directory.
    pub root: PathBuf,
    /// The file system below it, in podman's words, such as `extfs`.
    backing: String,
    /// Whether images come from further directories too, which others change.
    shared: bool,
}

/// The state of a storage's list of images. While it is the same, no image was added, removed or renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImagesMark {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Storage {
    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { driver: "overlay".into(), root: root.to_owned(), backing: "xfs".into(), shared: false }
    }

    /// The state of its list of images; none where that can't be told from one file.
    ///
    /// containers/storage replaces `<driver>-images/images.json` with each change (images.go, `saveFor`).
    #[must_use]
    pub fn images_mark(&self) -> Option<ImagesMark> {
        if self.shared {
            return None;
        }
        let about = fs::metadata(self.root.join(format!("{}-images/images.json", self.driver))).ok()?;
        Some(ImagesMark {
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }

    /// Whether the size of a container's own file system can be bounded here (`--storage-opt size=`); otherwise why not.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn check_size(&self, rootful: bool) -> Result<(), String> {
        self.check_size_with(rootful, &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
    }

    fn check_size_with(&self, rootful: bool, mounts: &str) -> Result<(), String> {
        match self.driver.as_str() {
            "overlay" if rootful && self.backing == "xfs" => match options_of(&self.root, mounts) {
                Some(options) if options.split(',').any(|option| option == "prjquota") => Ok(()),
                _ => Err(format!("the file system of {} is mounted without pquota", self.root.display())),
            },
            "overlay" if rootful => Err(format!(
                "podman's storage, {}, is on {}; it takes XFS mounted with pquota",
                self.root.display(),
                self.backing
            )),
            // btrfs and zfs have quotas, but podman (4.3) takes the size for an option of its own and does not start.
            driver if rootful => Err(format!("podman has no such bound with its storage driver {driver}")),
            // Quotas need a device node, and that needs root (containers/storage, drivers/quota).
            _ => Err("rootless podman can't set quotas".to_owned()),
        }
    }
}

/// The options of the file system that has this path, of proc(5)'s mountinfo; the kernel writes `pquota` as `prjquota`.
fn options_of<'a>(path: &Path, mounts: &'a str) -> Option<&'a str> {
    let mount = |line: &'a str| -> Option<(&'a str, &'a str)> {
        let (left, right) = line.split_once(" - ")?;
        Some((left.split(' ').nth(4)?, right.split(' ').nth(2)?))
    };
    let above = mounts.lines().filter_map(mount).filter(|(point, _)| path.starts_with(point));
    // Of those at one point, the last mounted is on top.
    above.max_by_key(|(point, _)| point.len()).map(|(_, options)| options)
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    host: Host,
    store: Store,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    #[serde(default)]
    cgroup_manager: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    graph_driver_name: String,
    graph_root: PathBuf,
    #[serde(default)]
    graph_options: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default)]
    graph_status: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The storage, and whether systemd makes the cgroups of containers.
fn parse(text: &str) -> Result<(Storage, bool), String> {
    let Info { store, host } = serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let backing = store.graph_status.as_ref().and_then(|status| status.get("Backing Filesystem")?.as_str());
    let storage = Storage {
        backing: backing.unwrap_or("a file system that podman does not name").to_owned(),
        shared: store.graph_options.is_some_and(|options| {
            options.keys().any(|key| key.contains("additionalimagestore") || key.contains("imagestore"))
        }),
        driver: store.graph_driver_name,
        root: store.graph_root,
    };
    Ok((storage, host.cgroup_manager == "systemd"))
}

impl Podman {
    /// Where podman's storage is; it is asked once.
    ///
    /// # Errors
    /// podman's words.
    pub async fn storage(&self) -> Result<&Storage, PodmanError> {
        if let Some(known) = self.storage.get() {
            return Ok(known);
        }
        let text = self.call(&strings(["info", "--format", "json"])).await?;
        let (storage, by_systemd) =
            parse(&text).map_err(|message| PodmanError { operation: "info".to_owned(), message, code: None })?;
        self.cgroups_by_systemd.get_or_init(|| by_systemd);
        Ok(self.storage.get_or_init(|| storage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(driver: &str, backing: &str) -> Storage {
        Storage { driver: driver.into(), backing: backing.into(), ..Storage::at(Path::new("/srv/containers/graph")) }
    }

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
                          30 22 254:1 / /srv rw,relatime shared:1 - xfs /dev/vdb rw,attr2,prjquota\n\
                          31 22 254:2 / /srv2 rw - xfs /dev/vdc rw,noquota\n";

    #[test]
    fn sizes_are_bounded_on_xfs_with_project_quotas_alone() {
        let check = |driver, backing, rootful, mounts| storage(driver, backing).check_size_with(rootful, mounts);
        assert_eq!(check("overlay", "xfs", true, MOUNTS), Ok(()));
        assert!(check("btrfs", "", true, MOUNTS).expect_err("podman refuses").contains("driver btrfs"));
        let without = MOUNTS.replace("prjquota", "noquota");
        assert!(check("overlay", "xfs", true, &without).expect_err("no quota").contains("without pquota"));
        assert!(check("overlay", "extfs", true, MOUNTS).expect_err("ext4").contains("is on extfs"));
        assert!(check("vfs", "xfs", true, MOUNTS).expect_err("vfs").contains("driver vfs"));
        assert!(check("overlay", "xfs", false, MOUNTS).expect_err("rootless").contains("rootless"));
    }

    #[test]
    fn podmans_answer_is_read() {
        let text = r#"{"host":{"cgroupManager":"systemd"},"store":{"graphDriverName":"overlay","graphRoot":"/x","graphOptions":{"overlay.additionalimagestores":["/y"]},"graphStatus":{"Backing Filesystem":"xfs"}}}"#;
        let (read, by_systemd) = parse(text).expect("valid");
        assert!(by_systemd);
        assert_eq!((read.driver.as_str(), read.backing.as_str(), read.shared), ("overlay", "xfs", true));
        assert!(
            !parse(r#"{"store":{"graphDriverName":"vfs","graphRoot":"/x","graphOptions":null}}"#)
                .expect("valid")
                .0
                .shared
        );
        assert!(parse("{}").is_err());
    }

    #[test]
    fn the_mark_changes_with_the_list() {
        let directory = tempfile::tempdir().expect("tempdir");
        let storage = Storage::at(directory.path());
        assert_eq!(storage.images_mark(), None);
        fs::create_dir(directory.path().join("overlay-images")).expect("mkdir");
        let write = |text: &str| {
            let new = directory.path().join("new");
            fs::write(&new, text).expect("write");
            fs::rename(&new, directory.path().join("overlay-images/images.json")).expect("rename");
        };
        write("[]");
        let first = storage.images_mark();
        assert!(first.is_some() && first == storage.images_mark());
        write("[1]");
        assert_ne!(first, storage.images_mark());
        assert_eq!(Storage { shared: true, ..storage }.images_mark(), None);
    }
}
