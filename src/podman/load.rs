//! `podman load` and `podman import`: images from files.

use std::path::Path;

use super::{Podman, PodmanError, strings};

impl Podman {
    /// Makes an image of an archive: one that `docker save` wrote (`*.docker.tar.zst`), or a packed root file system.
    ///
    /// # Errors
    /// podman's words.
    pub async fn load_archive(&self, path: &Path, name: &str) -> Result<(), PodmanError> {
        let file = path.display().to_string();
        let limit = self.settings().pull_timeout;
        if !file.ends_with(".docker.tar.zst") {
            let line = [&strings(["import", "--quiet", "--"])[..], &[file, name.to_owned()]].concat();
            return self.call_with(&line, limit, None).await.map(drop);
        }
        let text =
            self.call_with(&[&strings(["load", "--quiet", "--input"])[..], &[file]].concat(), limit, None).await?;
        let loaded = text.lines().find_map(loaded).ok_or_else(|| PodmanError {
            operation: "load".to_owned(),
            message: "it names no image that was loaded".to_owned(),
            code: None,
        })?;
        self.call(&[&strings(["tag"])[..], &[loaded.to_owned(), name.to_owned()]].concat()).await.map(drop)
    }
}

/// The image in a line such as `Loaded image: localhost/x:1`.
fn loaded(line: &str) -> Option<&str> {
    line.strip_prefix("Loaded image").and_then(|rest| rest.split_once(": ")).map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaded_image_is_found() {
        assert_eq!(loaded("Loaded image: localhost/x:1"), Some("localhost/x:1"));
        assert_eq!(loaded("Loaded image(s): sha256:0"), Some("sha256:0"));
        assert_eq!(loaded("Getting image source signatures"), None);
    }
}
