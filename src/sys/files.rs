//! Files that are whole or not there, whatever crashes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;

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
    // Whatever the umask takes away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    if survives == Survives::PowerLoss {
        file.sync_data()?;
    }
    fs::rename(new, path)
}

/// Makes a directory with this mode, and those above it.
///
/// # Errors
/// What the file system says, and of which directory.
pub fn make_directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("make the directory {}", path.display()))?;
    // A disk that takes no changes is no reason not to start where nothing has to be changed.
    if fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o7777 == mode) {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// The version that a record in JSON says it has, whatever else is in it.
#[must_use]
pub fn version_in(record: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    serde_json::from_slice(record).ok().map(|Versioned { version }| version)
}
