//! A walk over a tree that somebody hostile made, maybe while it is walked: no link is followed, no depth is too deep, and no other
//! file system is entered.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

/// Something in a directory.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The directory that has it.
    pub directory: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// What it is; a link itself, not what it points to.
    pub about: FileStat,
}

impl Entry<'_> {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        kind(&self.about) == SFlag::S_IFDIR
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        kind(&self.about) == SFlag::S_IFREG
    }
}

/// What a walk is to do with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go into it.
    Enter,
    /// Leave it out.
    Skip,
}

/// The kind of a file.
pub fn kind(about: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(about.st_mode & SFlag::S_IFMT.bits())
}

/// How directories are opened: never through a link.
pub const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_RDONLY).union(OFlag::O_CLOEXEC);

/// Opens a directory by a path of our own making.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, DIRECTORY, Mode::empty())?)
}

/// Calls `visit` with everything below a directory, which itself is not visited. What vanishes meanwhile is left out.
///
/// # Errors
/// That of `visit`, or when a directory can't be read or was moved while the walk was in it.
pub fn walk(root: OwnedFd, visit: &mut dyn FnMut(&Entry<'_>) -> io::Result<Next>) -> io::Result<()> {
    let device = fstat(&root)?.st_dev;
    // One descriptor for however deep a tree; the way back is checked, since `..` may have become another directory.
    let mut current = root;
    let mut above: Vec<(FileId, Vec<CString>)> = Vec::new();
    let mut names = read(&mut current, device, visit)?;
    loop {
        let Some(name) = names.pop() else {
            let Some((id, rest)) = above.pop() else { return Ok(()) };
            let parent = openat(&current, c"..", DIRECTORY, Mode::empty())?;
            if FileId::of(&fstat(&parent)?) != id {
                return Err(io::Error::other("a directory was moved while it was read"));
            }
            (current, names) = (parent, rest);
            continue;
        };
        match openat(&current, name.as_c_str(), DIRECTORY, Mode::empty()) {
            Ok(child) => {
                above.push((FileId::of(&fstat(&current)?), names));
                current = child;
                names = read(&mut current, device, visit)?;
            }
            // Removed, or another thing by now.
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR | nix::Error::ELOOP) => {}
            Err(error) => return Err(named(error.into(), &name)),
        }
    }
}

/// What a file is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(u64, u64);

impl FileId {
    /// Of a file.
    pub fn of(about: &FileStat) -> Self {
        Self(about.st_dev, about.st_ino)
    }
}

/// Visits what is in a directory; returns the names of those to be entered.
fn read(
    directory: &mut OwnedFd,
    device: u64,
    visit: &mut dyn FnMut(&Entry<'_>) -> io::Result<Next>,
) -> io::Result<Vec<CString>> {
    let mut enter = Vec::new();
    let mut listing = Dir::from_fd(directory.try_clone()?)?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let about = match fstatat(directory.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(about) => about,
            Err(nix::Error::ENOENT) => continue,
            Err(error) => return Err(named(error.into(), name)),
        };
        let entry = Entry { directory: directory.as_fd(), name, about };
        let next = visit(&entry).map_err(|error| named(error, name))?;
        if next == Next::Enter && entry.is_directory() && about.st_dev == device {
            enter.push(name.to_owned());
        }
    }
    Ok(enter)
}

/// An error with the name of what it happened to. The name is somebody else's: it is shown escaped and short.
pub fn named(error: io::Error, name: &CStr) -> io::Error {
    io::Error::new(error.kind(), format!("{:.100}: {error}", name.to_string_lossy().escape_debug().to_string()))
}
