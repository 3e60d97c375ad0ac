//! `podman exec`: a stage by the slow way, for hosts whose policy lets no socket or pipe into a container.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::Child;

use super::{Podman, PodmanError, strings};

impl Podman {
    /// Starts `windlass-init exec` in a container; what is written to `socket` reaches it and the other way round.
    ///
    /// # Errors
    /// When podman can't be started.
    pub fn exec_init(&self, container: &str, socket: UnixStream) -> Result<Child> {
        let mut arguments = strings(["exec", "--interactive", "--user", "0:0"]);
        arguments.extend([container.to_owned(), crate::init::PATH.to_owned(), "exec".to_owned()]);
        let input = OwnedFd::from(socket.try_clone().context("share the stage's socket")?);
        let mut command = self.command(&arguments);
        command.stdin(Stdio::from(input)).stdout(Stdio::from(OwnedFd::from(socket))).stderr(Stdio::null());
        command.spawn().context("start podman exec")
    }

    /// How many processes a container has.
    ///
    /// # Errors
    /// podman's words; also when the container does not run.
    pub async fn process_count(&self, container: &str) -> Result<usize, PodmanError> {
        let text = self.call(&[&strings(["top"])[..], &[container.to_owned(), "pid".to_owned()]].concat()).await?;
        Ok(text.lines().skip(1).count())
    }
}
