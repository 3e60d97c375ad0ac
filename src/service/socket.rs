//! A listening Unix socket whose mode is right from its first moment.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Group, chown};

/// Makes a socket at `path`, in place of one that a daemon before this left. With a group its mode is 0660, else `mode`; `table` is what
/// the configuration has it under.
///
/// # Errors
/// When something else listens there, or it can't be made.
pub fn make(path: &Path, group: Option<&str>, mode: u32, table: &str) -> Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("make the directory {}", directory.display()))?;
    }
    // The lock of the runtime directory is held: what answers here is another program.
    if UnixStream::connect(path).is_ok() {
        bail!("something else listens at {}; choose another [socket] path or run_dir", path.display());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove the old socket {}", path.display()));
        }
        _ => {}
    }
    // The mode is set before anybody may come: until then the file is called otherwise.
    let mut new = path.to_owned().into_os_string();
    new.push(".new");
    let new = PathBuf::from(new);
    let _ = std::fs::remove_file(&new);
    let socket = UnixListener::bind(&new).with_context(|| format!("listen at {}", path.display()))?;
    let mode = match group {
        Some(name) => {
            let group = Group::from_name(name)
                .ok()
                .flatten()
                .with_context(|| format!("[{table}] group names {name:?}, and this host has no such group"))?;
            chown(&new, None, Some(Gid::from_raw(group.gid.as_raw()))).with_context(|| {
                format!(
                    "give {} to group {name}, which the daemon's user has to be in: usermod -aG {name} USER",
                    path.display()
                )
            })?;
            0o660
        }
        None => mode,
    };
    std::fs::set_permissions(&new, PermissionsExt::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    std::fs::rename(&new, path).with_context(|| format!("listen at {}", path.display()))?;
    Ok(socket)
}
