//! Where the repository comes from: a URL that the container can reach, or a directory of this host, which it can't. The latter
//! travels inside the script, as a bundle.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Largest bundle that is sent in a script, in bytes.
const BUNDLE_MAX: usize = 64 * 1024 * 1024;

/// Where the repository comes from.
#[derive(Debug)]
pub enum Source {
    /// There is none.
    None,
    /// The container's git fetches it.
    Url {
        /// From here.
        url: String,
        /// This branch or tag.
        reference: String,
    },
    /// It is in the script.
    Bundle {
        /// As `git bundle` made it, in base64.
        base64: String,
        /// The commit to check out.
        commit: String,
    },
}

impl Source {
    /// Finds out what `repo` is; packs it when it is a directory of this host.
    pub fn of(repo: Option<&str>, reference: &str) -> Result<Self> {
        let Some(repo) = repo else { return Ok(Self::None) };
        if repo.contains("://") {
            return Ok(Self::Url { url: repo.to_owned(), reference: reference.to_owned() });
        }
        if !Path::new(repo).is_dir() {
            bail!("--repo {repo:?} is neither a URL nor a directory of this host");
        }
        let commit = git(repo, &["rev-parse", "--verify", &format!("{reference}^{{commit}}")])?;
        let commit = String::from_utf8_lossy(&commit).trim().to_owned();
        let bundle = git(repo, &["bundle", "create", "--quiet", "-", "HEAD", "--branches", "--tags"])?;
        if bundle.len() > BUNDLE_MAX {
            bail!(
                "the repository {repo} packs to {} MiB; more than {} are cloned by URL only",
                bundle.len() >> 20,
                BUNDLE_MAX >> 20
            );
        }
        Ok(Self::Bundle { base64: base64(&bundle), commit })
    }

    /// The URL that the job response names.
    pub fn url(&self) -> &str {
        match self {
            Self::Url { url, .. } => url,
            _ => "",
        }
    }
}

fn git(repo: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "-C", repo])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("start git, which a --repo on this host needs")?;
    if !output.status.success() {
        bail!("git {} in {repo}: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// RFC 4648, in lines that any base64 program reads.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len() / 3 * 4 + bytes.len() / 57 + 8);
    for line in bytes.chunks(57) {
        for group in line.chunks(3) {
            let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for place in 0..4 {
                let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
                text.push(if place <= group.len() { char::from(digit) } else { '=' });
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_what_others_make_of_it() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg==\n"), (b"fo", "Zm8=\n"), (b"foo", "Zm9v\n"), (b"foob", "Zm9vYg==\n")]
        {
            assert_eq!(base64(bytes), text);
        }
        assert!(base64(&[255; 200]).lines().all(|line| line.len() <= 76));
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().to_str().expect("text");
        assert!(Source::of(Some("/nonexistent"), "HEAD").is_err());
        assert!(format!("{:#}", Source::of(Some(path), "HEAD").expect_err("no repository")).contains("git rev-parse"));
    }
}
