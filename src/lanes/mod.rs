//! Lanes: what a project keeps on this host, by its key: numbered build directories, a cache, storage for images.
//!
//! [`store::Lanes`] knows them all and moves them out of the way; [`decide`] says which have to go. What is in them, `files` looks after;
//! how containers mount them, the executor knows.

pub mod clock;
pub mod decide;
pub mod names;
pub mod ranges;
pub mod record;
pub mod store;

pub use names::{Home, LaneId, Part};
pub use store::Lanes;

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::Digest;

use crate::job::Job;

/// Who shares a lane, and a range of user ids: jobs of one project of one GitLab instance, of protected refs or of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Host of the GitLab instance: two of them both have a project 7.
    pub instance: String,
    /// GitLab's id of the project.
    pub project: i64,
    /// Whether for protected refs.
    pub protected: bool,
}

impl From<&Job> for Key {
    fn from(job: &Job) -> Self {
        Self { instance: job.instance.clone(), project: job.project_id, protected: job.protected }
    }
}

impl Key {
    /// Its directory below the lanes': one for the instance, in it one for project and kind. Two keys never share one.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        let kind = if self.protected { "protected" } else { "unprotected" };
        Path::new(&file_name(&self.instance)).join(format!("{}-{kind}", self.project))
    }
}

/// Most bytes of a host that its directory is named after.
const HOST_MAX: usize = 200;

/// A host, with a port or not, as the name of a directory that podman can mount.
fn file_name(host: &str) -> String {
    let mut name = String::new();
    for byte in host.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' if !(byte == b'.' && name.is_empty()) => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.is_empty() {
        // No host was in the job response. No other name begins like this.
        return "_".to_owned();
    }
    if name.len() > HOST_MAX {
        return format!(
            "_{}",
            sha2::Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        );
    }
    name
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.protected { "protected" } else { "unprotected" };
        write!(f, "{} {} {kind}", self.instance, self.project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_can_be_mounted_and_is_never_outside() {
        let directory = |instance: &str, protected| {
            Key { instance: instance.to_owned(), project: 7, protected }.directory().display().to_string()
        };
        assert_eq!(directory("gitlab.example.com:8443", true), "gitlab.example.com%3a8443/7-protected");
        assert_eq!(directory("", false), "_/7-unprotected");
        assert_eq!(directory("../x", false), "%2e.%2fx/7-unprotected");
        assert_eq!(directory("_", false), "%5f/7-unprotected");
        assert_eq!(directory(&"\u{e9}".repeat(255), false).len(), "_/7-unprotected".len() + 64);
    }
}
