//! Whose files are.

use std::io;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::walk::{Entry, Next, kind, open_root, walk};

/// Gives a tree, its root included, to this owner and group.
pub fn own(path: &Path, (uid, gid): (u32, u32), open: bool) -> io::Result<()> {
    let root = open_root(path)?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let about = fstat(&root)?;
    if (about.st_uid, about.st_gid) != (uid, gid) {
        fchown(&root, Some(user), Some(group))?;
    }
    walk(root, &mut |entry| {
        if (entry.about.st_uid, entry.about.st_gid) != (uid, gid) {
            let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
            match fchownat(entry.directory, entry.name, Some(user), Some(group), flags) {
                Ok(()) | Err(nix::Error::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if open {
            open_to_all(entry)?;
        }
        Ok(Next::Enter)
    })
}

/// Lets everybody read and write a file or directory, and run or enter it if anybody may.
pub fn open_to_all(entry: &Entry<'_>) -> io::Result<()> {
    let mode = entry.about.st_mode & 0o7777;
    let wanted = match (entry.is_directory(), entry.is_file()) {
        (true, _) => mode | 0o777,
        // What is anybody's to write must not run as somebody.
        (_, true) if mode & 0o111 != 0 => (mode & !0o6000) | 0o777,
        (_, true) => (mode & !0o6000) | 0o666,
        _ => return Ok(()),
    };
    if wanted == mode {
        return Ok(());
    }
    // chmod(2) follows links, so it is done through a descriptor of what was looked at.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(entry.directory, entry.name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(nix::Error::ENOENT | nix::Error::ELOOP | nix::Error::ENXIO) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if kind(&fstat(&file)?) == kind(&entry.about) {
        fchmod(&file, Mode::from_bits_truncate(wanted))?;
    }
    Ok(())
}
