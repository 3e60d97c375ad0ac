//! Disks in files: a file system, mounted, for what depends on which one it is; and a disk that heeds the weights of cgroups. Root's alone.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::storage::on_path;

/// A mounted file system; it goes when this is dropped.
pub struct Volume {
    file: TempDir,
    at: PathBuf,
}

impl Volume {
    /// One of a gibibyte, made by this program and mounted with these options at a directory.
    ///
    /// # Errors
    /// What is missing, or what the kernel says.
    pub fn mount(make: &str, options: &str, at: &Path) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can mount file systems".to_owned());
        }
        if !on_path(make) {
            return Err(format!("there is no {make}"));
        }
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("volume");
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        run(Command::new(make).arg(&path))?;
        std::fs::create_dir_all(at).unwrap();
        run(Command::new("mount").args(["-o", &format!("loop,{options}")]).arg(&path).arg(at))?;
        Ok(Self { file, at: at.to_owned() })
    }
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().replace('\n', " ");
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // podman has mounted parts of it on themselves.
        let unmounted = run(Command::new("umount").arg("--recursive").arg(&self.at));
        if !std::thread::panicking() {
            assert!(unmounted.is_ok(), "{unmounted:?}, {}", self.file.path().display());
        }
    }
}

/// A disk whose scheduler is bfq, which heeds the weights of cgroups; it goes when this is dropped.
pub struct HeedingDisk {
    file: TempDir,
    device: String,
    scheduler: PathBuf,
    before: String,
}

impl HeedingDisk {
    /// Makes one.
    ///
    /// # Errors
    /// What is missing, or what the kernel says.
    pub fn new() -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can make disks".to_owned());
        }
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("disk");
        std::fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&path))?;
        let scheduler = Path::new("/sys/block").join(device.trim_start_matches("/dev/")).join("queue/scheduler");
        let all = std::fs::read_to_string(&scheduler).unwrap_or_default();
        let chosen = all.split(['[', ']']).nth(1).unwrap_or("none").to_owned();
        let disk = Self { file, device, scheduler, before: chosen };
        std::fs::write(&disk.scheduler, "bfq").map_err(|error| format!("the scheduler bfq of {all:?}: {error}"))?;
        Ok(disk)
    }
}

impl Drop for HeedingDisk {
    fn drop(&mut self) {
        // The device keeps its scheduler for whoever has it next.
        let restored = std::fs::write(&self.scheduler, &self.before).map_err(|error| error.to_string());
        let gone = run(Command::new("losetup").args(["--detach", &self.device]));
        if !std::thread::panicking() {
            assert!(restored.is_ok() && gone.is_ok(), "{restored:?} {gone:?} {}", self.file.path().display());
        }
    }
}
