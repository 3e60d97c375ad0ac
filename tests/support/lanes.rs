//! Lanes made by hand, while the daemon is away, and file systems of their own to keep them on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::wait::seconds;
use super::{Host, until};

/// Where a host keeps its lanes.
pub fn directory(host: &Host) -> PathBuf {
    host.state_dir().join("lanes")
}

/// The directory of a project's lanes, of refs that are not protected.
pub fn home(host: &Host, project: u64) -> PathBuf {
    directory(host).join(format!("gitlab.example.com/{project}-unprotected"))
}

/// The directory of the one home that there is.
pub fn home_of(host: &Host) -> PathBuf {
    let below = |path: &Path| {
        let mut entries = fs::read_dir(path).unwrap().flatten().map(|entry| entry.path());
        let is_home = |path: &PathBuf| path.is_dir() && !path.file_name().unwrap().to_string_lossy().starts_with('.');
        entries.find(is_home).unwrap()
    };
    below(&below(&directory(host)))
}

/// Makes a lane as if jobs had left it, last used `age` seconds ago, with a size that a daemon has measured.
pub fn make(host: &Host, project: u64, lane: &str, age: u64, bytes: u64) -> PathBuf {
    let path = home(host, project).join(lane);
    fs::create_dir_all(path.join("files")).unwrap();
    let home = json!({"instance": "gitlab.example.com", "project": project, "project_path": format!("made/by-hand-{project}"),
        "protected": false, "pipeline": null, "ids": "host"});
    fs::write(path.parent().unwrap().join("home.json"), home.to_string()).unwrap();
    let record = json!({"version": 1, "last_use": now() - age, "uses": 1, "measured": 1, "in_use": null, "fits": null, "failures": 0,
        "size": {"bytes": bytes, "inodes": 1, "owner": 0}});
    fs::write(path.join("lane.json"), record.to_string()).unwrap();
    path
}

/// What a lane's record says.
pub fn record(host: &Host, project: u64, lane: &str) -> Value {
    serde_json::from_slice(&fs::read(home(host, project).join(lane).join("lane.json")).unwrap()).unwrap()
}

/// Changes a lane's record while the daemon is away.
pub fn set(host: &Host, project: u64, lane: &str, key: &str, value: Value) {
    let mut record = record(host, project, lane);
    record[key] = value;
    fs::write(home(host, project).join(lane).join("lane.json"), record.to_string()).unwrap();
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Whether nothing waits for its removal.
pub fn trash_is_empty(host: &Host) -> bool {
    fs::read_dir(directory(host).join(".trash")).is_ok_and(|mut entries| entries.next().is_none())
}

/// A small file system of its own.
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// One of so many MiB: ext4 in a file where loop devices are to be had, else in memory; none where nothing can be mounted.
    pub fn new(mib: u64) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("disk-").tempdir().unwrap();
        let (image, point) = (dir.path().join("image"), dir.path().join("mnt"));
        fs::create_dir(&point).unwrap();
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let done = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = done(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let mounted = made && done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
        let size = format!("size={mib}m,mode=755");
        if mounted || done(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&point)) {
            eprintln!("a file system of {mib} MiB: {}", if mounted { "ext4" } else { "tmpfs" });
            return Some(Self { dir });
        }
        eprintln!("SKIPPED: no file system can be mounted here");
        None
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Mounts it again with these options.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        // It is busy while the history is written.
        until("it is mounted anew", seconds(20), || {
            Command::new("mount").args(["-o", &options]).arg(self.path()).output().unwrap().status.success()
        });
    }

    /// How many bytes are free, of how many.
    pub fn free(&self) -> (u64, u64) {
        let about = nix::sys::statvfs::statvfs(&self.path()).unwrap();
        (about.blocks_available() * about.fragment_size(), about.blocks() * about.fragment_size())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let output = Command::new("umount").arg(self.path()).output().unwrap();
        if !output.status.success() && !std::thread::panicking() {
            panic!("umount: {}", String::from_utf8_lossy(&output.stderr));
        }
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

/// How many files are below a directory.
pub fn count(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}
