//! Platforms: for which of an index's images we are.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An operating system on a processor, such as `linux/arm64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// This host's.
    #[must_use]
    pub fn of_host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// Whether an image of this os, architecture and variant is for it.
    pub(super) fn fits(&self, os: &str, architecture: &str, variant: Option<&str>) -> bool {
        // Every arm64 is v8, whether an index says so or not.
        let known = |variant: Option<&str>| match variant {
            Some("") | None => None,
            Some("v8") if self.architecture == "arm64" => None,
            Some(variant) => Some(variant.to_owned()),
        };
        self.os == os
            && self.architecture == architecture
            && (self.variant.is_none() && self.architecture != "arm64"
                || known(self.variant.as_deref()) == known(variant))
    }
}

impl TryFrom<String> for Platform {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_word = |word: &&str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.')
        };
        let words: Vec<&str> = text.split('/').filter(is_word).collect();
        let variant = match (words.len(), text.split('/').count()) {
            (2, 2) => None,
            (3, 3) => Some(words[2].to_owned()),
            _ => return Err(format!("{text:?} is no platform; write one such as \"linux/amd64\" or \"linux/arm/v7\"")),
        };
        Ok(Self { os: words[0].to_owned(), architecture: words[1].to_owned(), variant })
    }
}

impl From<Platform> for String {
    fn from(platform: Platform) -> Self {
        platform.to_string()
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::try_from(text.to_owned()).expect(text)
    }

    #[test]
    fn a_platform_is_two_or_three_words() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "Linux/amd64", "linux//amd64"] {
            assert!(Platform::try_from(text.to_owned()).is_err(), "{text:?}");
        }
        assert!(Platform::of_host().to_string().starts_with("linux/"));
    }

    #[test]
    fn variants_count_where_they_are_named() {
        assert!(platform("linux/amd64").fits("linux", "amd64", None));
        assert!(platform("linux/amd64").fits("linux", "amd64", Some("v3")));
        assert!(!platform("linux/amd64").fits("windows", "amd64", None));
        assert!(!platform("linux/amd64").fits("unknown", "unknown", None));
        assert!(platform("linux/arm/v7").fits("linux", "arm", Some("v7")));
        assert!(!platform("linux/arm/v7").fits("linux", "arm", Some("v6")));
        for (mine, other) in [("linux/arm64", Some("v8")), ("linux/arm64", None), ("linux/arm64/v8", None)] {
            assert!(platform(mine).fits("linux", "arm64", other), "{mine} {other:?}");
        }
        assert!(!platform("linux/arm64").fits("linux", "arm64", Some("v9")));
    }
}
