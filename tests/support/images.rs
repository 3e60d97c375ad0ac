//! The images that jobs of tests run in, made by scripts/images.sh and imported when they are first needed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::storage::Storage;

/// An image: what scripts/images.sh makes, with a USER and an ENTRYPOINT of its own.
#[derive(Debug, Clone, Hash)]
pub struct Image {
    base: &'static str,
    changes: Vec<String>,
}

/// What makes images.
fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/images.sh")
}

impl Image {
    /// Static busybox: `/bin/sh`, no bash.
    pub const fn busybox() -> Self {
        Self { base: "busybox", changes: Vec::new() }
    }

    /// bash, git, coreutils, setpriv.
    pub const fn git() -> Self {
        Self { base: "git", changes: Vec::new() }
    }

    /// As git, with buildah, podman and newuidmap.
    pub const fn buildah() -> Self {
        Self { base: "buildah", changes: Vec::new() }
    }

    /// As git, with PostgreSQL and Redis; none where their packages are not to be had.
    pub fn databases() -> Option<Self> {
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/packages/complete");
        if !fetched.exists() {
            eprintln!("SKIPPED: no packages of PostgreSQL and Redis; scripts/prepare.sh --for test fetches them");
            return None;
        }
        Some(Self { base: "databases", changes: Vec::new() })
    }

    /// One static program and no shell.
    pub const fn scratch() -> Self {
        Self { base: "scratch", changes: Vec::new() }
    }

    /// With this USER.
    pub fn user(mut self, user: &str) -> Self {
        self.changes.push(format!("USER {user}"));
        self
    }

    /// With this ENTRYPOINT.
    pub fn entrypoint(mut self, entrypoint: &[&str]) -> Self {
        self.changes.push(format!("ENTRYPOINT {}", serde_json::to_string(entrypoint).unwrap()));
        self
    }

    /// With this CMD.
    pub fn cmd(mut self, cmd: &[&str]) -> Self {
        self.changes.push(format!("CMD {}", serde_json::to_string(cmd).unwrap()));
        self
    }

    /// With this port exposed.
    pub fn expose(mut self, port: u16) -> Self {
        self.changes.push(format!("EXPOSE {port}/tcp"));
        self
    }

    /// With this variable.
    pub fn env(mut self, variable: &str) -> Self {
        self.changes.push(format!("ENV {variable}"));
        self
    }

    /// Makes sure that it is there; returns its name. The tag changes with the script and the changes.
    pub fn import(&self, storage: &Storage) -> String {
        let name = self.name();
        storage.exclusively(|| {
            if !storage.podman(&["image", "exists", &name]).status.success() {
                self.make(storage.command());
            }
        });
        name
    }

    /// Its name.
    pub fn name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (std::fs::read(script()).unwrap(), self).hash(&mut hasher);
        format!("localhost/windlass/{}:{:016x}", self.base, hasher.finish())
    }

    /// Makes it with this podman.
    pub fn make(&self, podman: Command) {
        let (mut import, name) = (podman, self.name());
        let mut tar = Command::new(script()).arg(self.base).stdout(Stdio::piped()).spawn().unwrap();
        import.args(["import", "--quiet"]);
        for change in &self.changes {
            import.args(["--change", change]);
        }
        let output = import.args(["-", &name]).stdin(tar.stdout.take().unwrap()).output().unwrap();
        assert!(tar.wait().unwrap().success(), "scripts/images.sh {} failed", self.base);
        assert!(output.status.success(), "podman import {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
