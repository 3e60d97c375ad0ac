//! Removing trees of any depth, without recursion: a directory that is not empty is moved up beside its tree's root, and emptied there.
//! So what a crash leaves is just more to remove.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, Flock, FlockArg, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::walk::{DIRECTORY, named, open_root};

/// How often a directory is read again that something else fills meanwhile.
const ROUNDS: u32 = 1000;

/// Removes all that is in a directory.
pub fn empty(path: &Path) -> io::Result<()> {
    let top = open_root(path)?;
    // One that a daemon before this one has started may still be at it.
    let _lock =
        Flock::lock(std::fs::File::from(top.try_clone()?), FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let mut first = None;
    for name in names(&top)? {
        // One that can't be removed keeps nothing else.
        if let Err(error) = remove_in(top.as_fd(), &name) {
            first.get_or_insert(error);
        }
    }
    first.map_or(Ok(()), Err)
}

/// Removes what is under this name in `top`, whatever it is.
fn remove_in(top: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    // On a file system that can't be written, to remove what is not there would be an error.
    if fstatat(top, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(nix::Error::ENOENT) {
        return Ok(());
    }
    match unlinkat(top, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => return Ok(()),
        // What it is for a directory, POSIX leaves open.
        Err(nix::Error::EISDIR | nix::Error::EPERM) => {}
        Err(error) => return Err(named(error.into(), name)),
    }
    let device = fstat(top)?.st_dev;
    let mut next = Names::new(name);
    let mut left = vec![name.to_owned()];
    while let Some(name) = left.pop() {
        for round in 0.. {
            empty_one(top, &name, device, &mut next, &mut left)?;
            match unlinkat(top, name.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(nix::Error::ENOENT) => break,
                Err(nix::Error::ENOTEMPTY | nix::Error::EEXIST) if round < ROUNDS => {}
                Err(error) => return Err(named(error.into(), &name)),
            }
        }
    }
    Ok(())
}

fn empty_one(
    top: BorrowedFd<'_>,
    name: &CStr,
    device: u64,
    next: &mut Names,
    left: &mut Vec<CString>,
) -> io::Result<()> {
    let directory = match openat(top, name, DIRECTORY, Mode::empty()) {
        Err(nix::Error::ENOENT) => return Ok(()),
        directory => directory.map_err(|error| named(error.into(), name))?,
    };
    if fstat(&directory)?.st_dev != device {
        return Err(named(io::Error::other("another file system is mounted there"), name));
    }
    for child in names(&directory)? {
        match unlinkat(&directory, child.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => continue,
            Err(nix::Error::EISDIR | nix::Error::EPERM) => {}
            Err(error) => return Err(named(error.into(), &child)),
        }
        match unlinkat(&directory, child.as_c_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(nix::Error::ENOTEMPTY | nix::Error::EEXIST) => {
                let up = next.name();
                match renameat(&directory, child.as_c_str(), top, up.as_c_str()) {
                    Ok(()) => left.push(up),
                    Err(nix::Error::ENOENT) => {}
                    Err(error) => return Err(named(error.into(), &child)),
                }
            }
            Err(error) => return Err(named(error.into(), &child)),
        }
    }
    Ok(())
}

fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    // A descriptor of its own: the position in a directory is shared by copies of one.
    let again = openat(directory, c".", DIRECTORY, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(again)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Names beside a tree's root that nobody else uses: they begin with the root's.
struct Names {
    prefix: Vec<u8>,
    count: u64,
}

impl Names {
    fn new(name: &CStr) -> Self {
        let mut prefix = name.to_bytes()[..name.to_bytes().len().min(200)].to_vec();
        prefix.extend(format!("~{}-", std::process::id()).as_bytes());
        Self { prefix, count: 0 }
    }

    fn name(&mut self) -> CString {
        self.count += 1;
        let mut name = self.prefix.clone();
        name.extend(self.count.to_string().as_bytes());
        // Neither a name from the kernel nor a number has a NUL.
        CString::new(name).unwrap_or_default()
    }
}
