//! What manifests, indexes and configurations say, as far as anybody here asks.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::digest::Digest;
use super::platform::Platform;

/// Types of indexes, which name an image for each platform.
pub(super) const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Types of manifests of one image.
pub(super) const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// The annotation with the digest of the image that another was built on; buildah and podman write it (image-spec, annotations).
pub const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// The annotation with the name of that image.
pub const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// What an index or a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// Images for platforms.
    Index(Index),
    /// One image.
    Image(ImageManifest),
}

/// An index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Index {
    #[serde(default)]
    manifests: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Entry {
    digest: Digest,
    platform: Option<EntryPlatform>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct EntryPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl Index {
    /// The image for a platform: the first that fits. Attestations are of no platform (`unknown/unknown`).
    #[must_use]
    pub fn image_for(&self, platform: &Platform) -> Option<&Digest> {
        let fits = |entry: &&Entry| {
            let of = entry.platform.as_ref();
            of.is_some_and(|of| platform.fits(&of.os, &of.architecture, of.variant.as_deref()))
        };
        self.manifests.iter().find(fits).map(|entry| &entry.digest)
    }

    /// Whether it names this image, for whatever platform.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.manifests.iter().any(|entry| entry.digest == *digest)
    }
}

/// A manifest of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Its own digest.
    pub digest: Digest,
    /// Its configuration.
    pub config: Digest,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// The digest of the image that it was built on, if it says so.
    #[must_use]
    pub fn base(&self) -> Option<Digest> {
        Digest::try_from(self.annotations.get(BASE_DIGEST)?.clone()).ok()
    }
}

/// An image's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// When it was made, by its maker; of reproducible builds 1970 or the commit's date.
    pub created: Option<String>,
    #[serde(default)]
    rootfs: RootFs,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// The digests of its layers' contents, the lowest first: the same wherever and however they are packed.
    #[must_use]
    pub fn diff_ids(&self) -> &[Digest] {
        &self.rootfs.diff_ids
    }
}

/// Reads an index or a manifest with this digest. What it is, it says itself: the header beside it is no part of what the digest names.
pub(super) fn read(digest: &Digest, body: &[u8]) -> Result<Manifest, String> {
    #[derive(Deserialize)]
    struct Any {
        #[serde(rename = "schemaVersion")]
        version: u32,
        #[serde(default, rename = "mediaType")]
        media_type: String,
        manifests: Option<serde_json::Value>,
        config: Option<Config>,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    #[derive(Deserialize)]
    struct Config {
        digest: Digest,
    }
    let any: Any = serde_json::from_slice(body).map_err(|error| unreadable("manifest", &error))?;
    if any.version != 2 {
        return Err(format!("a manifest of schema {}, where 2 is known", any.version));
    }
    match (any.manifests, any.config) {
        (Some(_), None) if !MANIFESTS.contains(&any.media_type.as_str()) => {
            Ok(Manifest::Index(serde_json::from_slice(body).map_err(|error| unreadable("index", &error))?))
        }
        (None, Some(config)) if !INDEXES.contains(&any.media_type.as_str()) => Ok(Manifest::Image(ImageManifest {
            digest: digest.clone(),
            config: config.digest,
            annotations: any.annotations.unwrap_or_default(),
        })),
        _ => Err("neither an index nor a manifest of an image".to_owned()),
    }
}

/// Where a document can't be read; what is in it may be anything.
pub(super) fn unreadable(what: &str, error: &serde_json::Error) -> String {
    format!("its {what} can't be read (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(of: char) -> String {
        format!("sha256:{}", of.to_string().repeat(64))
    }

    fn index() -> String {
        let entry = |digest: String, os: &str, architecture: &str, variant: &str| {
            format!(
                r#"{{"digest":"{digest}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}"{variant}}}}}"#
            )
        };
        let entries = [
            entry(digest('a'), "unknown", "unknown", ""),
            entry(digest('b'), "linux", "arm", r#","variant":"v6""#),
            entry(digest('c'), "linux", "arm", r#","variant":"v7""#),
            entry(digest('d'), "linux", "amd64", ""),
        ];
        format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#, INDEXES[0], entries.join(","))
    }

    fn parse(body: &str) -> Result<Manifest, String> {
        read(&Digest::of(body.as_bytes()), body.as_bytes())
    }

    #[test]
    fn an_index_gives_the_platforms_own_image() {
        let Ok(Manifest::Index(index)) = parse(&index()) else { panic!("no index") };
        let of = |platform: &str| {
            let platform = Platform::try_from(platform.to_owned()).expect("one");
            index.image_for(&platform).map(Digest::as_str)
        };
        assert_eq!(of("linux/amd64"), Some(digest('d').as_str()));
        assert_eq!(of("linux/arm/v7"), Some(digest('c').as_str()));
        assert_eq!(of("linux/s390x"), None);
        assert!(index.has(&Digest::try_from(digest('a')).expect("one")));
    }

    #[test]
    fn a_manifest_says_what_it_was_built_on() {
        let body = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[],"annotations":{{"{BASE_DIGEST}":"{}"}}}}"#,
            digest('c'),
            digest('b')
        );
        let Ok(Manifest::Image(image)) = parse(&body) else { panic!("no manifest") };
        assert_eq!(image.base().map(String::from), Some(digest('b')));
        let body = body.replace(&digest('b'), "");
        let Ok(Manifest::Image(image)) = parse(&body) else { panic!("no manifest") };
        assert_eq!(image.base(), None, "buildah writes an empty one for images from scratch");
    }

    #[test]
    fn what_is_neither_or_both_is_refused() {
        let both = index().replace("\"manifests\"", &format!(r#""config":{{"digest":"{}"}},"manifests""#, digest('c')));
        let lies = index().replace(INDEXES[0], MANIFESTS[0]);
        for body in ["", "{}", "[]", r#"{"schemaVersion":1,"fsLayers":[]}"#, r#"{"schemaVersion":2}"#, &both, &lies] {
            assert!(parse(body).is_err(), "{body}");
        }
        assert!(parse(&index().replace("sha256", "md5")).is_err());
    }
}
