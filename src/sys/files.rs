//! Files that are whole or not there, whatever crashes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What a file has to survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// The end of this process, however sudden.
    Crash,
    /// The end of the host's power.
    PowerLoss,
}

/// Replaces a file in one step.
///
/// # Errors
/// What the file system says; the old file is untouched then.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32, survives: Survives) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = Path::new(&name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(new)?;
    file.write_all(content)?;
    if survives == Survives::PowerLoss {
        file.sync_data()?;
    }
    fs::rename(new, path)
}
