//! The name of an image, checked before it gets anywhere near a command line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest reference that is accepted, in bytes.
const LENGTH_MAX: usize = 1024;

/// An image reference made of the characters that references are made of, and not starting like an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef(String);

impl ImageRef {
    /// The reference as podman gets it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ImageRef {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let name = name.trim();
        let good = |character: char| character.is_ascii_alphanumeric() || "._-/:@+".contains(character);
        if name.is_empty() {
            return Err("the image has no name".to_owned());
        }
        if name.len() > LENGTH_MAX
            || !name.chars().all(good)
            || !name.starts_with(|first: char| first.is_ascii_alphanumeric())
        {
            let shown: String = name.chars().take(100).collect();
            return Err(format!("{shown:?} is no image reference; one looks like registry.example.com/group/name:tag"));
        }
        Ok(Self(name.to_owned()))
    }
}

impl From<ImageRef> for String {
    fn from(image: ImageRef) -> Self {
        image.0
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_references_are_taken() {
        for name in [
            "alpine",
            " alpine:3.20 ",
            "localhost/a/b:latest",
            "r.example.com:5000/g/p/i@sha256:0123",
            "docker.io/library/x_y",
        ] {
            assert_eq!(ImageRef::try_from(name.to_owned()).expect(name).as_str(), name.trim());
        }
    }

    #[test]
    fn what_could_be_an_option_or_a_path_is_refused() {
        let long = "x".repeat(2000);
        for name in
            ["", " ", "--privileged", "-v", "/etc/passwd", "a b", "a\nb", "alp\u{456}ne", "$(id)", "../x", &long]
        {
            assert!(ImageRef::try_from(name.to_owned()).is_err(), "{name:?}");
        }
    }
}
