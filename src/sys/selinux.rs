//! Directories whose files cross into containers, on hosts with SELinux: they carry the label for that from their creation, and what is
//! made in them takes it over. So nothing is ever walked through to label it, wherever the administrator has put the state.
//!
//! podman may not make them as it does its own: what `container_runtime_t` makes in /var/lib is `container_var_lib_t`, which no container
//! may read.

use std::fs;
use std::path::Path;

use super::files::make_directory;

/// There only where SELinux is on.
pub const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// The label of the process that reads it.
const PROCESS: &str = "/proc/thread-self/attr/current";
/// The label of what the thread that writes it makes from then on.
const CREATE: &str = "/proc/thread-self/attr/fscreate";

/// What containers do with the files of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Containers {
    /// They read and write them.
    Write,
    /// They read and execute them.
    Read,
}

impl Containers {
    /// The type of such files, in container-selinux.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Write => "container_file_t",
            Self::Read => "container_ro_file_t",
        }
    }
}

/// Makes a directory with this mode, and those above it; if it was not there, with the label for containers. One that is there keeps what
/// it has: `windlass doctor` says if that is wrong.
///
/// # Errors
/// What the file system says, and of which directory. That the label can't be had is none: doctor says that too.
pub fn make_directory_for_containers(path: &Path, mode: u32, containers: Containers) -> anyhow::Result<()> {
    if !path.exists() && Path::new(ENFORCE).exists() {
        make_labelled(path, containers);
    }
    make_directory(path, mode)
}

/// Makes a directory with the label, if both can be had.
fn make_labelled(path: &Path, containers: Containers) {
    // The label for what is made is the thread's own, and ends with it.
    let made = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                if let Some(label) = label(&fs::read_to_string(PROCESS)?, containers) {
                    fs::write(CREATE, label)?;
                }
                fs::create_dir(path)
            })
            .join()
    });
    if let Ok(Err(error)) = made {
        tracing::debug!("{} is made without a label for containers: {error}", path.display());
    }
}

/// The label of a file for containers, from that of the process that makes it: its user, and no categories, so that every job may use it.
fn label(process: &str, containers: Containers) -> Option<String> {
    let mut parts = process.trim_end_matches(['\0', '\n']).splitn(4, ':');
    let (user, _role, _kind) = (parts.next()?, parts.next()?, parts.next()?);
    let level = if parts.next().is_some() { ":s0" } else { "" };
    Some(format!("{user}:object_r:{}{level}", containers.label()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_label_has_the_user_of_the_process_and_no_categories() {
        let label = |process| label(process, Containers::Write);
        let ours = label("system_u:system_r:container_runtime_t:s0\0");
        assert_eq!(ours.as_deref(), Some("system_u:object_r:container_file_t:s0"));
        let login = label("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023\n");
        assert_eq!(login.as_deref(), Some("unconfined_u:object_r:container_file_t:s0"));
        assert_eq!(label("user_u:user_r:user_t").as_deref(), Some("user_u:object_r:container_file_t"));
        // As AppArmor has it.
        assert_eq!(label("unconfined\n"), None);
    }

    #[test]
    fn a_directory_is_made_whether_or_not_it_can_be_labelled() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a/lanes");
        make_labelled(&path, Containers::Write);
        for _ in 0..2 {
            make_directory_for_containers(&path, 0o711, Containers::Write).expect("a directory");
        }
        assert_eq!(fs::metadata(&path).expect("it").permissions().mode() & 0o777, 0o711);
    }
}
