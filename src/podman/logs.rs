//! `podman logs`: what a service says.

use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::Child;

use super::{Podman, PodmanError, strings};

impl Podman {
    /// The last lines of a container's log.
    ///
    /// # Errors
    /// podman's words.
    pub async fn last_lines(&self, container: &str, count: u32) -> Result<String, PodmanError> {
        self.call_for_both(&[&strings(["logs", "--tail"])[..], &[count.to_string(), container.to_owned()]].concat())
            .await
    }

    /// Follows a container's log, from this line's time on; it ends when the result is dropped. Its streams go to the child's, and
    /// each line begins with its time and a space.
    ///
    /// # Errors
    /// When podman can't be started.
    pub fn follow_log(&self, container: &str, since: Option<&str>) -> Result<Child> {
        let mut line = strings(["logs", "--follow", "--timestamps"]);
        line.extend(since.map(|since| format!("--since={since}")));
        line.push(container.to_owned());
        let mut command = self.command(&line);
        // It only reads, so nothing breaks when it is killed.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().context("start podman logs")
    }
}
