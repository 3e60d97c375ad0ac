//! The secrets by which GitLab's calls are known.

use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::config::WebhookSettings;
use crate::sys::files::{self, Survives};
use crate::sys::secrets::{self, Secret};

/// The file with the token of the daemon's own making.
const OWN: &str = "webhook-secret";
/// How a key for signatures begins (Standard Webhooks).
const PREFIX: &str = "whsec_";

/// The secrets of the webhooks.
#[derive(Debug, Clone)]
pub struct HookSecrets {
    /// What GitLab sends as `X-Gitlab-Token`.
    pub token: Secret,
    /// What GitLab signs with, as it is given to it.
    pub signing: Option<Secret>,
    /// The key in that.
    pub key: Option<SigningKey>,
}

/// A key for signatures.
#[derive(Clone)]
pub struct SigningKey(pub Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

impl HookSecrets {
    /// Reads them; makes a token where the administrator gives none.
    pub(super) fn read(settings: &WebhookSettings, state_dir: &Path) -> Result<Self> {
        let token = secrets::read_if_given(settings.secret_file.as_deref(), "webhook-secret", "[webhook] secret_file")?;
        let token = match token {
            Some(token) => token,
            None => own(state_dir)?,
        };
        let file = settings.signing_secret_file.as_deref();
        let signing = secrets::read_if_given(file, "webhook-signing-secret", "[webhook] signing_secret_file")?;
        let key = signing.as_ref().map(key).transpose()?;
        Ok(Self { token, signing, key })
    }

    /// What is another where the secrets are others, and tells nothing of them.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(b"windlass webhook secrets\0");
        digest.update(self.token.expose().as_bytes());
        digest.update(b"\0");
        digest.update(self.signing.as_ref().map_or("", Secret::expose).as_bytes());
        digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn key(signing: &Secret) -> Result<SigningKey> {
    let what = "[webhook] signing_secret_file: a key is \"whsec_\" and 32 bytes in base64";
    let encoded = signing.expose().strip_prefix(PREFIX).context(what)?;
    let key = STANDARD.decode(encoded).ok().context(what)?;
    if key.len() != 32 {
        bail!("{what}, and this one has {} bytes", key.len());
    }
    Ok(SigningKey(key))
}

/// The token of the daemon's own making.
fn own(state_dir: &Path) -> Result<Secret> {
    let path = state_dir.join(OWN);
    if path.exists() {
        return secrets::read(Some(&path), OWN, "the webhook's token")?.context("the webhook's token is missing");
    }
    let mut random = [0; 24];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
        .context("make a token for webhooks")?;
    let token = STANDARD.encode(random).replace(['+', '/'], "x");
    files::write_atomically(&path, token.as_bytes(), 0o600, Survives::PowerLoss)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn a_token_is_made_once_and_a_key_has_to_be_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = own(dir.path()).unwrap();
        assert_eq!((first.expose(), first.expose().len()), (own(dir.path()).unwrap().expose(), 32));
        assert_eq!(key(&Secret::new("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")).unwrap().0.len(), 32);
        for wrong in ["", "whsec_", "AAEC", "whsec_AAEC", "whsec_%%%"] {
            assert!(key(&Secret::new(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_fingerprint_changes_with_either_secret() {
        let of = |token: &str, signing: Option<&str>| {
            HookSecrets { token: Secret::new(token), signing: signing.map(Secret::new), key: None }.fingerprint()
        };
        assert_eq!(of("a", None), of("a", None));
        assert!(of("a", None) != of("b", None) && of("a", None) != of("a", Some("k")));
    }
}
