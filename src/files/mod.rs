//! What `windlass-files` does with files that jobs made: as root, or (rootless) as root of the user namespace that has all ids of
//! jobs, through `podman unshare`.
//!
//! Whatever jobs leave is hostile: links to elsewhere, directories deeper than any path, names that are no text.

mod measure;
mod own;
mod remove;
mod tidy;
pub mod walk;

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};

use nix::unistd::{Gid, Uid, chown};

use crate::protocol::files::{Reply, Request};

/// Does what is asked.
#[must_use]
pub fn perform(request: &Request) -> Reply {
    attempt(request).unwrap_or_else(|error| Reply::Failed { message: error.to_string() })
}

fn attempt(request: &Request) -> io::Result<Reply> {
    let at = |path: &std::path::Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    match request {
        Request::Make { path, mode, owner } => make(path, *mode, *owner).map_err(at(path))?,
        Request::Give { path, owner } => give(path, owner.0, owner.1).map_err(at(path))?,
        Request::Own { path, owner, open } => own::own(path, *owner, *open).map_err(at(path))?,
        Request::Measure { path, open } => {
            return Ok(Reply::Measured(measure::measure(path, *open).map_err(at(path))?));
        }
        Request::Tidy { path, project, trash } => return tidy::tidy(path, project, trash).map_err(at(path)),
        Request::Empty { path } => remove::empty(path).map_err(at(path))?,
    }
    Ok(Reply::Done)
}

fn make(path: &std::path::Path, mode: u32, owner: (u32, u32)) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)?;
    give(path, Some(owner.0), Some(owner.1))?;
    // After the owner: the umask takes bits from the mode of a new directory, and chown(2) may.
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))
}

fn give(path: &std::path::Path, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    Ok(chown(path, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?)
}

/// The program: one request as JSON in the one argument, one reply on stdout.
///
/// # Errors
/// A message for stderr when the argument is not a request.
pub fn main(arguments: &[String]) -> Result<Reply, String> {
    let [request] = arguments else {
        return Err(
            "windlassd starts this program, with a request as JSON, to measure, tidy and remove what jobs left; \
             it is not for use by hand: see `windlass cache --help`"
                .to_owned(),
        );
    };
    let request: Request = serde_json::from_str(request).map_err(|error| format!("no request: {error}"))?;
    if matches!(request, Request::Empty { .. } | Request::Measure { .. }) {
        crate::sys::process::yield_to_others();
    }
    Ok(perform(&request))
}

#[cfg(test)]
mod tests;
