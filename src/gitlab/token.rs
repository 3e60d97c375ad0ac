//! The token for GitLab's API, read again when GitLab refuses it: people replace tokens while the daemon runs.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use anyhow::Result;

use crate::sys::secrets;
use crate::sys::secrets::Secret;

/// The credential that systemd hands over.
const CREDENTIAL: &str = "gitlab-token";

#[derive(Debug, Default)]
pub(super) struct Token {
    file: Option<PathBuf>,
    value: RwLock<Option<Secret>>,
}

impl Token {
    pub(super) fn read(file: Option<&Path>) -> Result<Self> {
        let value = secrets::read_if_given(file, CREDENTIAL, "[gitlab] token_file")?;
        Ok(Self { file: file.map(Path::to_path_buf), value: RwLock::new(value) })
    }

    pub(super) fn is_there(&self) -> bool {
        self.value.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn get(&self) -> Option<Secret> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it again; whether it is another one than `refused` now, whoever has read it first.
    pub(super) fn renew(&self, refused: Option<&Secret>) -> bool {
        let Ok(new) = secrets::read_if_given(self.file.as_deref(), CREDENTIAL, "[gitlab] token_file") else {
            return false;
        };
        let mut value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        let other = new.as_ref().map(Secret::expose) != refused.map(Secret::expose);
        *value = new;
        other
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_request_that_was_refused_learns_of_the_new_token() {
        let directory = tempfile::tempdir().expect("tempdir");
        let file = directory.path().join("token");
        let write = |token: &str| {
            std::fs::write(&file, token).expect("write");
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("mode");
        };
        write("old-token");
        let token = Token::read(Some(&file)).expect("read");
        let (one, other) = (token.get(), token.get());
        assert!(!token.renew(one.as_ref()), "it is the same");
        write("new-token");
        assert!(token.renew(one.as_ref()) && token.renew(other.as_ref()), "two that were sent with the old one");
        assert!(!token.renew(token.get().as_ref()));
    }
}
