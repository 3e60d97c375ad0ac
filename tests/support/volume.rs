//! A file system in a file, mounted: for what depends on which one it is. Root's alone.

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

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    if output.status.success() { Ok(()) } else { Err(said) }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // podman has mounted parts of it on themselves.
        let unmounted = run(Command::new("umount").arg("--recursive").arg(&self.at));
        if !std::thread::panicking() {
            assert_eq!(unmounted, Ok(()), "{}", self.file.path().display());
        }
    }
}
