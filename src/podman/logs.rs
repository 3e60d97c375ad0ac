//! `podman logs`: what a service says.

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
}
