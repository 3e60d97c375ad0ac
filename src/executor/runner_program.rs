//! gitlab-runner's own program, for the containers whose scripts call it: its version is always the right one.
//!
//! The shim of prepare hands it over as a descriptor. It is copied by its content's hash, since what is mounted into a container has to have a
//! path, and an upgrade of gitlab-runner must not change it under a job.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use super::Executor;
use crate::sys::selinux::{Containers, make_directory_for_containers};

/// Longest program that is taken, in bytes; gitlab-runner has some 140 MB.
const LENGTH_MAX: u64 = 1 << 30;
/// How many versions are kept.
const KEPT: usize = 4;
/// Its name in containers, as the scripts of gitlab-runner call it (main.go).
pub const NAME: &str = "gitlab-runner";
/// Where its directory is mounted; behind PATH, so that an image's own comes first.
pub const DIRECTORY: &str = "/.windlass-bin";

/// What a file was when it was copied: device, inode, length and times of change.
type Stamp = (u64, u64, u64, i64, i64, i64, i64);

/// The copies, by the files that they were made of.
pub type Programs = Mutex<HashMap<Stamp, PathBuf>>;

impl Executor {
    /// The copy of the program behind this descriptor; none when it is not gitlab-runner's.
    pub(super) async fn runner_program(&self, program: Option<&OwnedFd>) -> Result<Option<PathBuf>> {
        let Some(program) = program else { return Ok(None) };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .context("look at the runner's program")?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(NAME) {
            return Ok(None);
        }
        let file = File::from(program.try_clone().context("share a descriptor")?);
        let about = file.metadata().context("look at the runner's program")?;
        ensure!(about.is_file() && about.len() <= LENGTH_MAX, "the runner's program is no file that can be copied");
        let stamp = (
            about.dev(),
            about.ino(),
            about.len(),
            about.mtime(),
            about.mtime_nsec(),
            about.ctime(),
            about.ctime_nsec(),
        );
        let known = self.programs.lock().unwrap_or_else(PoisonError::into_inner).get(&stamp).cloned();
        if let Some(path) = known
            && path.exists()
        {
            return Ok(Some(path));
        }
        let directory = self.settings().state_dir.join("bin");
        let copied = tokio::task::spawn_blocking(move || copy(file, &directory)).await.context("copy a file")?;
        let path = copied.context("copy the runner's program")?;
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).insert(stamp, path.clone());
        Ok(Some(path))
    }
}

/// Copies a program to `<directory>/<hash>/gitlab-runner`.
fn copy(mut file: File, directory: &Path) -> Result<PathBuf> {
    make_directory_for_containers(directory, 0o711, Containers::Read)?;
    // The descriptor's position is the caller's, who may have another idea of it.
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut reader = (&mut file).take(LENGTH_MAX);
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let place = directory.join(name);
    let path = place.join(NAME);
    if !path.exists() {
        super::make_directory(&place, 0o755)?;
        file.rewind()?;
        let mut new = tempfile::NamedTempFile::new_in(&place)?;
        std::io::copy(&mut file, &mut new)?;
        new.as_file().set_permissions(PermissionsExt::from_mode(0o755))?;
        new.persist(&path)?;
        forget_old(directory)?;
    }
    Ok(path)
}

/// Removes all but the newest copies. A container keeps what it has mounted.
fn forget_old(directory: &Path) -> Result<()> {
    let mut all: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        all.push((entry.metadata()?.modified()?, entry.path()));
    }
    all.sort();
    for (_, path) in all.iter().rev().skip(KEPT) {
        std::fs::remove_dir_all(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_copied_once_by_its_content_and_few_are_kept() {
        let directory = tempfile::tempdir().expect("tempdir");
        let copies = directory.path().join("bin");
        let copy_of = |text: &str| {
            let path = directory.path().join("program");
            std::fs::write(&path, text).expect("write");
            copy(File::open(&path).expect("open"), &copies).expect("copy")
        };
        let first = copy_of("one");
        assert_eq!(copy_of("one"), first);
        assert_eq!(std::fs::read(&first).expect("read"), b"one");
        assert_eq!(first.metadata().expect("metadata").permissions().mode() & 0o777, 0o755);
        (0..6).for_each(|number| drop(copy_of(&number.to_string())));
        assert_eq!(std::fs::read_dir(&copies).expect("list").count(), KEPT);
    }
}
