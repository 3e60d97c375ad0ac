//! Digests: what names content, and whether content is what it was asked for.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// The digest of a manifest, a configuration or a layer, such as `sha256:…`. It has the form of one that can be checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes, by SHA-256.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex(&Sha256::digest(bytes))))
    }

    /// The whole text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        let digits = self.0.split_once(':').map_or("", |(_, digits)| digits);
        digits.get(..12).unwrap_or(digits)
    }

    /// Whether these bytes are what it names.
    #[must_use]
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        match self.0.split_once(':') {
            Some(("sha256", digits)) => digits == hex(&Sha256::digest(bytes)),
            Some(("sha512", digits)) => digits == hex(&Sha512::digest(bytes)),
            _ => false,
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let length = match text.split_once(':') {
            Some(("sha256", digits)) => Some((digits, 64)),
            Some(("sha512", digits)) => Some((digits, 128)),
            _ => None,
        };
        let is_hex = |digits: &str| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match length {
            Some((digits, length)) if digits.len() == length && is_hex(digits) => Ok(Self(text)),
            _ => {
                let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
                Err(format!("{shown:?} is no digest by SHA-256 or SHA-512"))
            }
        }
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Digest, String> {
        Digest::try_from(text.to_owned())
    }

    #[test]
    fn a_digest_names_its_bytes_and_no_others() {
        let digest = Digest::of(b"{}");
        assert!(digest.is_of(b"{}") && !digest.is_of(b"{ }"));
        assert_eq!(digest.short(), "44136fa355b3");
        let long = parse(&format!("sha512:{}", hex(&Sha512::digest(b"{}")))).expect("one");
        assert!(long.is_of(b"{}") && !long.is_of(b""));
    }

    #[test]
    fn what_cannot_be_checked_is_no_digest() {
        for text in
            ["", "sha256", "sha256:", "sha256:12", "md5:0123", &format!("sha256:{}", "g".repeat(64)), "sha256:\n"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(
            parse(&format!("sha256:{}", "A".repeat(64))).is_err(),
            "upper case names the same and compares as another"
        );
    }
}
