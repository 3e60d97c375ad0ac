//! Secrets: a type that shows none of them, and reading one from a file or a credential of systemd.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// A larger file is no secret, in bytes.
const SIZE_MAX: u64 = 64 * 1024;

/// A text that no log, error or debug output shows.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Reads a secret from a file, else from the credential that systemd hands over under this name, without white space around it.
/// `what` is what an error calls the file.
///
/// # Errors
/// When the file can't be read, is empty, or everybody may read it.
pub fn read(file: Option<&Path>, credential: &str, what: &str) -> Result<Option<Secret>> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => match handed_over(credential) {
            Some(path) => path,
            None => return Ok(None),
        },
    };
    let what =
        if file.is_some() { format!("{what} {}", path.display()) } else { format!("the credential {credential}") };
    let about = fs::metadata(&path).with_context(|| format!("read {what}"))?;
    if about.len() > SIZE_MAX {
        bail!("{what} is larger than {SIZE_MAX} bytes, which no secret is");
    }
    // systemd keeps credentials where nobody else comes.
    if file.is_some() && about.permissions().mode() & 0o004 != 0 {
        bail!("{what} can be read by every user of this host: chmod 0600 {}", path.display());
    }
    let text = fs::read_to_string(&path).with_context(|| {
        match (file, nix::unistd::User::from_uid(nix::unistd::geteuid())) {
            // As root, it can't be the mode.
            (Some(path), Ok(Some(user))) => {
                format!("read {what}, which user {0} has to own: chown {0} {1}", user.name, path.display())
            }
            _ => format!("read {what}"),
        }
    })?;
    let text = text.trim();
    if text.is_empty() {
        bail!("{what} is empty");
    }
    Ok(Some(Secret::new(text)))
}

/// The same where a credential that is empty is none: so the unit's drop-in for credentials says that there is no such file.
///
/// # Errors
/// As [`read`] has them, but for that.
pub fn read_if_given(file: Option<&Path>, credential: &str, what: &str) -> Result<Option<Secret>> {
    let is_blank = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.trim().is_empty());
    if file.is_none() && handed_over(credential).is_some_and(|path| is_blank(&path)) {
        return Ok(None);
    }
    read(file, credential, what)
}

/// Where systemd has put a credential (`LoadCredential=`).
fn handed_over(name: &str) -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.exists().then_some(path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_secret_is_what_the_file_has_without_white_space() {
        let (_dir, path) = file(" glpat-abc\n", 0o600);
        assert_eq!(read(Some(&path), "x", "the file").unwrap().unwrap().expose(), "glpat-abc");
        assert!(read(None, "no-such-credential", "the file").unwrap().is_none());
    }

    #[test]
    fn what_is_no_secret_is_refused_with_what_to_do() {
        let said = |path: &Path| format!("{:#}", read(Some(path), "x", "[gitlab] token_file").unwrap_err());
        let (_dir, path) = file("glpat-abc", 0o644);
        assert!(said(&path).contains("chmod 0600"), "{}", said(&path));
        let (_dir, path) = file(" \n", 0o600);
        assert!(said(&path).contains("is empty"));
        assert!(said(Path::new("/nowhere/token")).contains("[gitlab] token_file /nowhere/token"));
    }
}
