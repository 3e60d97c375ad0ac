//! The name of an image, checked before it gets anywhere near a command line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest reference that is accepted, in bytes.
const LENGTH_MAX: usize = 1024;

/// Where images without a registry are, as with Docker.
const DEFAULT_REGISTRY: &str = "docker.io";

/// An image reference by the grammar of distribution/reference; no option, path or transport can look like one.
///
/// It is judged, and given to podman, in its normal form: `alpine` is `docker.io/library/alpine:latest`, whatever this host's short names
/// say. People read it as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    normal: String,
    written: String,
}

impl ImageRef {
    /// The normal form, which podman gets.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.normal
    }

    /// Host, and port if any, of the registry.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.normal.split('/').next().unwrap_or_default()
    }

    /// The normal form without tag and digest.
    #[must_use]
    pub fn name(&self) -> &str {
        parts(&self.normal).0
    }

    /// The normal form with the tag, even where a digest says which image it is.
    #[must_use]
    pub fn tagged(&self) -> String {
        let (_, tag, digest) = parts(&self.written);
        match (tag, digest) {
            (Some(tag), Some(digest)) => format!("{}:{tag}@{digest}", self.name()),
            _ => self.normal.clone(),
        }
    }

    /// The same image of the same repository by this digest.
    #[must_use]
    pub fn by_digest(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name())
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
        Ok(Self { normal: normal(name), written: name.to_owned() })
    }
}

/// Host and path, tag, digest.
fn parts(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let last = rest.rfind('/').map_or(0, |slash| slash + 1);
    match rest[last..].split_once(':') {
        Some((name, tag)) => (&rest[..last + name.len()], Some(tag), digest),
        None => (rest, None, digest),
    }
}

/// The normal form of a reference (`ParseNormalizedNamed` of distribution/reference).
fn normal(written: &str) -> String {
    let (path, tag, digest) = parts(written);
    let is_host = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
    };
    let (host, path) = match path.split_once('/') {
        Some((first, path)) if is_host(first) => (first.to_ascii_lowercase(), path.to_owned()),
        _ => (DEFAULT_REGISTRY.to_owned(), path.to_owned()),
    };
    let host = if host == "index.docker.io" { DEFAULT_REGISTRY.to_owned() } else { host };
    let path = if host == DEFAULT_REGISTRY && !path.contains('/') { format!("library/{path}") } else { path };
    // With a digest the tag says nothing more.
    match digest {
        Some(digest) => format!("{host}/{path}@{digest}"),
        None => format!("{host}/{path}:{}", tag.unwrap_or("latest")),
    }
}

/// The grammar of distribution/reference: `[host[:port]/]name[/name...][:tag][@algorithm:digest]`.
fn is_reference(text: &str) -> bool {
    let (path, tag, digest) = parts(text);
    let mut components = path.split('/');
    let first = components.next().unwrap_or_default();
    let alone = !path.contains('/');
    // What looks like an image's id is one to podman, whatever name was meant.
    if alone && first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return false;
    }
    (if alone { is_name(first) } else { is_host(first) || is_name(first) })
        && components.all(is_name)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

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
        image.written
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
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
            assert_eq!(ImageRef::try_from(name.to_owned()).expect(name).to_string(), name.trim());
        }
    }

    #[test]
    fn one_image_has_one_normal_form() {
        let digest = format!("sha256:{}", "0123".repeat(16));
        for (written, expected) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker.io/alpine:3", "docker.io/library/alpine:3"),
            ("index.docker.io/library/alpine:3", "docker.io/library/alpine:3"),
            ("group/x", "docker.io/group/x:latest"),
            ("localhost/x:1", "localhost/x:1"),
            ("R.Example.com:5000/g/x", "r.example.com:5000/g/x:latest"),
            (&format!("r.example.com/x:1@{digest}"), &format!("r.example.com/x@{digest}")),
        ] {
            let image = ImageRef::try_from(written.to_owned()).expect(written);
            assert_eq!(image.as_str(), expected);
        }
        let image = ImageRef::try_from("R.example.com:5000/g/x:1".to_owned()).expect("valid");
        assert_eq!((image.registry(), image.name()), ("r.example.com:5000", "r.example.com:5000/g/x"));
        assert_eq!(image.by_digest("sha256:1"), "r.example.com:5000/g/x@sha256:1");
    }

    #[test]
    fn a_transport_of_podmans_gets_nowhere() {
        for name in ["dir:/etc", "oci:x:y", "docker-archive:/etc/shadow", "docker://alpine"] {
            assert!(ImageRef::try_from(name.to_owned()).is_err(), "{name:?}");
        }
        let image = ImageRef::try_from("dir:x".to_owned()).expect("a name like any other");
        assert_eq!(image.as_str(), "docker.io/library/dir:x");
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
            &"0123456789abcdef".repeat(4),
            &long,
        ] {
            assert!(ImageRef::try_from(name.to_owned()).is_err(), "{name:?}");
        }
    }
}
