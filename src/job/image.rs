//! The name of an image, checked before it gets anywhere near a command line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest reference that is accepted, in bytes.
const LENGTH_MAX: usize = 1024;

/// An image reference by the grammar of distribution/reference; no option, path or transport can look like one.
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
        if name.is_empty() {
            return Err("the image has no name".to_owned());
        }
        if name.len() > LENGTH_MAX || !is_reference(name) {
            let shown: String = name.chars().take(100).collect();
            return Err(format!(
                "{shown:?} is no image reference; one looks like registry.example.com/group/name:tag, in lower case"
            ));
        }
        Ok(Self(name.to_owned()))
    }
}

/// The grammar of distribution/reference: `[host[:port]/]name[/name...][:tag][@algorithm:digest]`.
fn is_reference(text: &str) -> bool {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match rest[last..].split_once(':') {
        Some((name, tag)) => (&rest[..last + name.len()], Some(tag)),
        None => (rest, None),
    };
    let mut components = path.split('/');
    let first = components.next().unwrap_or_default();
    let alone = !path.contains('/');
    // What podman takes for the name of a transport, with a path on this host behind it.
    if alone && tag.is_some() && TRANSPORTS.contains(&first) {
        return false;
    }
    (if alone { is_name(first) } else { is_host(first) || is_name(first) })
        && components.all(is_name)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

/// Transports of containers-transports(5).
const TRANSPORTS: [&str; 10] = [
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "ostree",
    "sif",
    "tarball",
];

/// Lower-case letters and digits, with separators between them.
fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(inner) && text.ends_with(inner) && text.chars().all(|c| inner(c) || "._-".contains(c))
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let inner = |c: char| c.is_ascii_alphanumeric();
    host.starts_with(inner)
        && host.ends_with(inner)
        && host.chars().all(|c| inner(c) || ".-".contains(c))
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.len() <= 128 && text.starts_with(word) && text.chars().all(|c| word(c) || ".-".contains(c))
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, digits)| {
        is_name(algorithm) && digits.len() >= 32 && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    })
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
        let digest = format!("r.example.com:5000/g/p/i:1@sha256:{}", "0123".repeat(16));
        for name in [
            "alpine",
            " alpine:3.20 ",
            "localhost/a/b:latest",
            &digest,
            "docker.io/library/x_y",
            "LOCALHOST:5000/x",
            "registry/dir:1",
            "dir",
        ] {
            assert_eq!(ImageRef::try_from(name.to_owned()).expect(name).as_str(), name.trim());
        }
    }

    #[test]
    fn a_transport_of_podmans_is_no_image() {
        for name in [
            "dir:/etc",
            "dir:x",
            "oci:x:y",
            "docker-archive:/etc/shadow",
            "containers-storage:x",
            "docker://alpine",
            "oci-archive:a",
        ] {
            assert!(ImageRef::try_from(name.to_owned()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_could_be_an_option_or_a_path_is_refused() {
        let long = "x".repeat(2000);
        for name in [
            "",
            " ",
            "--privileged",
            "-v",
            "/etc/passwd",
            "a b",
            "a\nb",
            "alp\u{456}ne",
            "$(id)",
            "../x",
            "a/../b",
            "Alpine",
            "a//b",
            "a/",
            "a:",
            &long,
        ] {
            assert!(ImageRef::try_from(name.to_owned()).is_err(), "{name:?}");
        }
    }
}
