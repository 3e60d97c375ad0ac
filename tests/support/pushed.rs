//! Images straight into a registry, over HTTP: what podman would push, and what it would not.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::client;
use super::registry::Registry;

/// The type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The type of an image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A digest of bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// An image to push: layers that are named and not there, which no test looks into.
#[derive(Debug, Clone, Default)]
pub struct Pushed {
    /// What its layers are; another image begins with the same.
    pub layers: Vec<String>,
    /// Its annotations.
    pub annotations: Vec<(String, String)>,
}

impl Pushed {
    /// One with these layers.
    pub fn of(layers: &[&str]) -> Self {
        Self { layers: layers.iter().map(|layer| (*layer).to_owned()).collect(), annotations: Vec::new() }
    }

    /// With what buildah writes: the digest of what it was built on.
    pub fn built_on(mut self, digest: &str) -> Self {
        self.annotations.push(("org.opencontainers.image.base.digest".to_owned(), digest.to_owned()));
        self
    }

    /// Its configuration.
    fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer.as_bytes())).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        config.to_string().into_bytes()
    }

    /// Puts it into a registry under a tag, or by its digest where that is empty; its digest.
    pub fn push(&self, registry: &Registry, repository: &str, tag: &str) -> String {
        let config = self.config();
        blob(registry, repository, &config);
        let mut layers = Vec::new();
        for layer in &self.layers {
            blob(registry, repository, layer.as_bytes());
            layers.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digest(layer.as_bytes()), "size": layer.len(),
            }));
        }
        let annotations: serde_json::Map<String, Value> =
            self.annotations.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers, "annotations": annotations,
            "config": {"mediaType": CONFIG, "digest": digest(&config), "size": config.len()},
        });
        put(registry, repository, tag, MANIFEST, &manifest)
    }
}

/// Puts an index of images that are there into a registry; its digest.
pub fn push_index(registry: &Registry, repository: &str, tag: &str, images: &[(&str, &str)]) -> String {
    let entry = |(architecture, digest): &(&str, &str)| json!({"mediaType": MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": architecture}});
    let index =
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images.iter().map(entry).collect::<Vec<_>>()});
    put(registry, repository, tag, INDEX, &index)
}

fn put(registry: &Registry, repository: &str, tag: &str, kind: &str, manifest: &Value) -> String {
    let body = manifest.to_string().into_bytes();
    let digest = digest(&body);
    let reference = if tag.is_empty() { &digest } else { tag };
    let path = format!("/v2/{repository}/manifests/{reference}");
    let reply = client::ask(registry.port, "PUT", &path, &[("Content-Type", kind)], &body).unwrap();
    assert_eq!(reply.status, 201, "{}", reply.text());
    digest
}

fn blob(registry: &Registry, repository: &str, bytes: &[u8]) {
    let begun = client::ask(registry.port, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[]).unwrap();
    assert_eq!(begun.status, 202, "{}", begun.text());
    let at = begun.header("location").splitn(4, '/').nth(3).unwrap();
    let path = format!("/{at}&digest={}", digest(bytes));
    let kind = [("Content-Type", "application/octet-stream")];
    let put = client::ask(registry.port, "PUT", &path, &kind, bytes).unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
}
