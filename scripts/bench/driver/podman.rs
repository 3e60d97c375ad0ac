//! The peers of single steps: podman itself, called without any script around it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Result;
use super::call::{Done, call};

/// A container that only podman knows.
#[derive(Debug)]
pub struct Container {
    id: String,
    /// How long its `podman run` took.
    pub made_in: Duration,
}

impl Container {
    /// Makes one. Network and limits are podman's defaults, as for the jobs: they come from the same containers.conf.
    pub fn new(image: &str) -> Result<Self> {
        let done = podman(&["run", "--detach", "--pull", "never", image, "sleep", "infinity"], Stdio::null())?;
        let id = String::from_utf8_lossy(&done.stdout).trim().to_owned();
        Ok(Self { id, made_in: done.elapsed })
    }

    /// Runs a script in it, from a file, as the usual run scripts do.
    pub fn exec(&self, script: &Path) -> Result<Done> {
        let file = File::open(script).map_err(|error| format!("open {}: {error}", script.display()))?;
        podman(&["exec", "-i", &self.id, "sh"], file.into())
    }

    /// Removes it.
    pub fn remove(self) -> Result<()> {
        podman(&["rm", "--force", "--time", "0", &self.id], Stdio::null()).map(drop)
    }
}

fn podman(arguments: &[&str], stdin: Stdio) -> Result<Done> {
    call(Command::new("podman").args(arguments).stdin(stdin)).map_err(|message| format!("{}: {message}", arguments[0]))
}
