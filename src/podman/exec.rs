//! `podman exec`: a stage by the slow way, for hosts whose policy lets no socket or pipe into a container.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

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

    /// Runs a command as root in a container; returns its exit code, and what it printed.
    ///
    /// # Errors
    /// podman's words, when it could not run the command.
    pub async fn exec_command(
        &self,
        container: &str,
        command: &[String],
        limit: Duration,
    ) -> Result<(Option<i32>, String), PodmanError> {
        let arguments = [&strings(["exec", "--user", "0:0"])[..], &[container.to_owned()], command].concat();
        match self.call_with(&arguments, limit, None).await {
            Ok(text) => Ok((Some(0), text)),
            // 125 is podman's own failure.
            Err(PodmanError { code: Some(code), message, .. }) if code != 125 => Ok((Some(code), message)),
            Err(error) => Err(error),
        }
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
