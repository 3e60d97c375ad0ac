//! The token for GitLab's API, read again when GitLab refuses it: people replace tokens while the daemon runs.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use anyhow::Result;

use crate::sys::secrets;
use crate::sys::secrets::Secret;

/// The credential that systemd hands over.
const CREDENTIAL: &str = "gitlab-token";

#[derive(Debug)]
pub(super) struct Token {
    file: Option<PathBuf>,
    value: RwLock<Option<Secret>>,
}

impl Token {
    pub(super) fn read(file: Option<&Path>) -> Result<Self> {
        let value = secrets::read(file, CREDENTIAL, "[gitlab] token_file")?;
        Ok(Self { file: file.map(Path::to_path_buf), value: RwLock::new(value) })
    }

    pub(super) fn is_there(&self) -> bool {
        self.value.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn get(&self) -> Option<Secret> {
        self.value.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it again; whether it is another one now.
    pub(super) fn renew(&self) -> bool {
        let Ok(new) = secrets::read(self.file.as_deref(), CREDENTIAL, "[gitlab] token_file") else { return false };
        let mut value = self.value.write().unwrap_or_else(PoisonError::into_inner);
        let other = new.as_ref().map(Secret::expose) != value.as_ref().map(Secret::expose);
        *value = new;
        other
    }
}
