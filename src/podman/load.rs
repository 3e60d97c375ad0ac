//! `podman load` and `podman import`: images from files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::{Podman, PodmanError, strings};

/// How large a root file system may be, unpacked: GitLab's are some 100 MB. In bytes.
const UNPACKED_MAX: u64 = 8 << 30;

impl Podman {
    /// Makes an image of an archive: one that `docker save` wrote (`*.docker.tar.zst`), or a packed root file system (`*.tar.xz`), which
    /// is unpacked into the file `scratch` on the way, the caller's to remove.
    ///
    /// # Errors
    /// podman's words, and when the archive can't be unpacked.
    pub async fn load_archive(&self, path: &Path, name: &str, scratch: &Path) -> Result<(), PodmanError> {
        let file = path.display().to_string();
        let limit = self.settings().pull_timeout;
        if !file.ends_with(".docker.tar.zst") {
            let failed = |message: String| PodmanError { operation: "import".to_owned(), message, code: None };
            // podman 5 takes what is packed with xz for the layer itself, and then finds that it is another (5.4.2: "does not match
            // config's DiffID").
            let (packed, unpacked) = (path.to_owned(), scratch.to_owned());
            let unpacking = tokio::task::spawn_blocking(move || unpack(&packed, &unpacked)).await;
            return match unpacking.map_err(io::Error::other).and_then(|end| end) {
                Ok(()) => {
                    let names = [scratch.display().to_string(), name.to_owned()];
                    let line = [&strings(["import", "--quiet", "--"])[..], &names].concat();
                    self.call_with(&line, limit, None).await.map(drop)
                }
                Err(error) => Err(failed(format!("it can't be unpacked to {}: {error}", scratch.display()))),
            };
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

/// Unpacks what xz has packed.
fn unpack(packed: &Path, unpacked: &Path) -> io::Result<()> {
    let mut reader = lzma_rust2::XzReader::new(BufReader::new(File::open(packed)?), true);
    let mut file = File::create(unpacked)?;
    if io::copy(&mut reader.by_ref().take(UNPACKED_MAX), &mut file)? == UNPACKED_MAX {
        return Err(io::Error::other(format!("it has more than {} GiB", UNPACKED_MAX >> 30)));
    }
    Ok(())
}

/// The image in a line such as `Loaded image: localhost/x:1`.
fn loaded(line: &str) -> Option<&str> {
    line.strip_prefix("Loaded image").and_then(|rest| rest.split_once(": ")).map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_packed_with_xz_or_cut_off_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let [packed, unpacked] = ["packed", "unpacked"].map(|name| directory.path().join(name));
        // `printf 'of a file system' | xz`
        let whole = include_bytes!("fixtures/text.xz");
        std::fs::write(&packed, whole).expect("write");
        unpack(&packed, &unpacked).expect("unpacked");
        assert_eq!(std::fs::read(&unpacked).expect("read"), b"of a file system");
        for wrong in [&whole[..whole.len() - 20], &whole[..0], b"of a file system"] {
            std::fs::write(&packed, wrong).expect("write");
            unpack(&packed, &unpacked).expect_err("not whole");
        }
    }

    #[test]
    fn the_loaded_image_is_found() {
        assert_eq!(loaded("Loaded image: localhost/x:1"), Some("localhost/x:1"));
        assert_eq!(loaded("Loaded image(s): sha256:0"), Some("sha256:0"));
        assert_eq!(loaded("Getting image source signatures"), None);
    }
}
