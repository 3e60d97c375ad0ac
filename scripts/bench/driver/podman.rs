//! The peers of single steps: podman itself, called without any script around it.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
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

/// An image with a layer that no other has.
#[derive(Debug)]
pub struct FreshImage {
    /// Its name.
    pub name: String,
}

static NEXT: AtomicU32 = AtomicU32::new(1);

impl FreshImage {
    /// Makes one of `work`/image.tar, which bench.sh has put there.
    pub fn new(work: &Path) -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("localhost/windlass/first:{number}");
        let script = "set -e; cd \"$1\"; cp image.tar first.tar; echo \"$2\" >first-mark; tar --append --file first.tar first-mark; podman import --quiet --change 'USER app' first.tar \"$3\" >/dev/null; rm first.tar first-mark";
        let mut sh = Command::new("sh");
        sh.args(["-c", script, "sh"]).arg(work).args([&number.to_string(), &name]).stdin(Stdio::null());
        call(&mut sh).map_err(|message| format!("make an image: {message}"))?;
        Ok(Self { name })
    }

    /// Removes it.
    pub fn remove(self) -> Result<()> {
        podman(&["rmi", "--force", &self.name], Stdio::null()).map(drop)
    }
}

fn podman(arguments: &[&str], stdin: Stdio) -> Result<Done> {
    call(Command::new("podman").args(arguments).stdin(stdin)).map_err(|message| format!("{}: {message}", arguments[0]))
}
