//! What a job leaves in its build directory and the next must not find: the directory of file variables and git credentials, and the
//! locks of a git that was killed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::walk::{DIRECTORY, Entry, Next, open_root, walk};
use crate::protocol::files::Reply;

/// Tidies the project's directory, and the one beside it, in a build directory.
pub fn tidy(builds: &Path, project: &Path, trash: &Path) -> io::Result<Reply> {
    let suspicious = |reason: &str| Ok(Reply::Tidied { suspicious: Some(reason.to_owned()), locks: 0 });
    let mut names = Vec::new();
    for part in project.components() {
        match part {
            Component::Normal(name) => names.push(CString::new(name.as_bytes())?),
            _ => return suspicious("the project's directory is not in the build directory"),
        }
    }
    // GIT_CLONE_PATH may be the build directory itself; what is beside that is in the container's own file system.
    let last = names.pop();
    let mut parent = open_root(builds)?;
    for name in &names {
        parent = match openat(&parent, name.as_c_str(), DIRECTORY, Mode::empty()) {
            Ok(next) => next,
            Err(nix::Error::ENOENT) => return Ok(Reply::Tidied { suspicious: None, locks: 0 }),
            // The job made it something else. Where its secrets went by way of that, nobody knows.
            Err(nix::Error::ENOTDIR | nix::Error::ELOOP) => {
                return suspicious("a directory above the project's is no directory");
            }
            Err(error) => return Err(error.into()),
        };
    }
    if let Some(last) = &last {
        let temporary = CString::new([last.to_bytes(), b".tmp"].concat())?;
        put_away(&parent, &temporary, trash)?;
    }
    let mut git = parent;
    let project = last.as_deref().map(|name| (name, "the project's directory"));
    for (name, what) in project.into_iter().chain([(c".git", "the project's .git")]) {
        git = match openat(&git, name, DIRECTORY, Mode::empty()) {
            Ok(next) => next,
            Err(nix::Error::ENOENT) => return Ok(Reply::Tidied { suspicious: None, locks: 0 }),
            Err(nix::Error::ENOTDIR | nix::Error::ELOOP) => return suspicious(&format!("{what} is no directory")),
            Err(error) => return Err(error.into()),
        };
    }
    let locks = remove_locks(git)?;
    Ok(Reply::Tidied { suspicious: None, locks })
}

/// Moves something out of the job's reach in one step; whoever empties the trash removes it.
fn put_away(parent: &OwnedFd, name: &CStr, trash: &Path) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let trash = open_root(trash)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let away = format!("temporary-{}-{}-{now}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    match renameat(parent, name, &trash, CString::new(away)?.as_c_str()) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes locks and half-written files in a git directory, those of submodules included. No git runs: each is what a kill has left.
fn remove_locks(git: OwnedFd) -> io::Result<u64> {
    let mut locks = 0;
    walk(git, &mut |entry| {
        if !entry.is_directory() {
            locks += u64::from(remove_lock(entry));
            return Ok(Next::Skip);
        }
        if entry.name != c"objects" {
            return Ok(Next::Enter);
        }
        // Of its directories, 256 have loose objects, and no lock.
        if let Ok(objects) = openat(entry.directory, entry.name, DIRECTORY, Mode::empty()) {
            walk(objects, &mut |entry| {
                locks += u64::from(!entry.is_directory() && remove_lock(entry));
                Ok(if is_loose_objects(entry) { Next::Skip } else { Next::Enter })
            })?;
        }
        Ok(Next::Skip)
    })?;
    Ok(locks)
}

/// Whether it was one, and is gone.
fn remove_lock(entry: &Entry<'_>) -> bool {
    let name = entry.name.to_bytes();
    let left = name.ends_with(b".lock")
        || name == b"gc.pid"
        || name.starts_with(b"tmp_pack_")
        || name.starts_with(b"tmp_idx_");
    left && unlinkat(entry.directory, entry.name, UnlinkatFlags::NoRemoveDir).is_ok()
}

fn is_loose_objects(entry: &Entry<'_>) -> bool {
    let name = entry.name.to_bytes();
    name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit)
}
