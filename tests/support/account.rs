//! The user that the programs of a test run as.

use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Uid, User, getuid};

/// The unprivileged user that scripts/prepare.sh makes where tests run as root.
const UNPRIVILEGED: &str = "windlass-test";

/// The user of the daemon, the shims and podman.
#[derive(Debug, Clone)]
pub enum Account {
    /// Whoever runs the tests.
    Own,
    /// An unprivileged user, for rootless tests that root runs.
    Other(User),
}

impl Account {
    /// An account in which podman is rootless, or why there is none.
    pub fn rootless() -> Result<Self, String> {
        if !getuid().is_root() {
            return Ok(Self::Own);
        }
        match User::from_name(UNPRIVILEGED) {
            Ok(Some(user)) if has_subordinate_ids(&user.name) => Ok(Self::Other(user)),
            Ok(Some(_)) => Err(format!("user {UNPRIVILEGED} has no ids in /etc/subuid; run scripts/prepare.sh")),
            _ => Err(format!("there is no user {UNPRIVILEGED}; run scripts/prepare.sh")),
        }
    }

    /// Its uid.
    pub fn uid(&self) -> Uid {
        match self {
            Self::Own => getuid(),
            Self::Other(user) => user.uid,
        }
    }

    /// Whether podman runs as root.
    pub fn is_root(&self) -> bool {
        self.uid().is_root()
    }

    /// Its home directory.
    pub fn home(&self) -> PathBuf {
        match self {
            Self::Own => std::env::home_dir().expect("the user has a home directory"),
            Self::Other(user) => user.dir.clone(),
        }
    }

    /// Gives it a file or directory that the test made.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own => Ok(()),
            Self::Other(user) => chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())),
        }
    }

    /// A command that runs as this user with nothing but PATH and HOME in its environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.home()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Self::Other(user) = self {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
        }
        command
    }
}

fn has_subordinate_ids(name: &str) -> bool {
    let prefix = format!("{name}:");
    ["/etc/subuid", "/etc/subgid"]
        .iter()
        .all(|file| std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.starts_with(&prefix))))
}
