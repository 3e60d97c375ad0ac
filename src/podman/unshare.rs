//! `podman unshare`: what only the user namespace of a rootless podman may do with files.

use std::path::Path;

use super::{Podman, PodmanError, strings};

impl Podman {
    /// Gives a directory, and those in it, to the user that is root in a container of [`super::UserMap::NoMap`].
    ///
    /// # Errors
    /// podman's words.
    pub async fn give_to_container_root(&self, directory: &Path) -> Result<(), PodmanError> {
        // There the first id is the service's user, whom `nomap` leaves out: a container's ids begin with the next.
        let line = strings(["unshare", "chown", "--recursive", "--no-dereference", "1:1", "--"]);
        self.call(&[&line[..], &[directory.display().to_string()]].concat()).await.map(drop)
    }

    /// Removes a directory with files of subordinate ids.
    ///
    /// # Errors
    /// podman's words.
    pub async fn remove_directory(&self, directory: &Path) -> Result<(), PodmanError> {
        let line = strings(["unshare", "rm", "--recursive", "--force", "--one-file-system", "--"]);
        self.call(&[&line[..], &[directory.display().to_string()]].concat()).await.map(drop)
    }
}
