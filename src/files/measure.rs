//! How much there is in a tree.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use nix::sys::stat::fstat;

use super::own;
use super::walk::{FileId, Next, open_root, walk};
use crate::protocol::files::Measured;

/// Bytes of a block as stat(2) counts them.
const BLOCK: u64 = 512;

/// Adds up a tree, its root included; with `open`, everybody is let read and write what is in it.
pub fn measure(path: &Path, open: bool) -> io::Result<Measured> {
    let root = open_root(path)?;
    let about = fstat(&root)?;
    let blocks = |count: i64| u64::try_from(count).unwrap_or(0) * BLOCK;
    let (mut bytes, mut inodes, mut seen) = (blocks(about.st_blocks), 1, HashSet::new());
    // The root's own counts only where nothing is in it.
    let (mut owner, mut of_one) = (None, true);
    walk(root, &mut |entry| {
        let found = &entry.about;
        of_one &= *owner.get_or_insert(found.st_uid) == found.st_uid;
        if entry.is_directory() || found.st_nlink <= 1 || seen.insert(FileId::of(found)) {
            bytes += blocks(found.st_blocks);
            inodes += 1;
        }
        if open {
            own::open_to_all(entry)?;
        }
        Ok(Next::Enter)
    })?;
    Ok(Measured { bytes, inodes, owner: of_one.then(|| owner.unwrap_or(about.st_uid)) })
}
