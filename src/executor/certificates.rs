//! The administrator's certificates in the containers of a job, and for the programs of the predefined stages.

use std::path::Path;

use anyhow::{Context, Result};

use super::Executor;
use super::record::Record;
use crate::podman::Mount;

/// Where jobs find the administrator's certificates.
const FILE: &str = "/etc/windlass-ca.crt";
/// Where they find these together with those of the host.
const BUNDLE: &str = "/etc/windlass-ca-bundle.crt";
/// Where distributions keep theirs: Debian, Fedora, SUSE.
const OF_THE_HOST: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// The variables by which git (git-config(1)), git-lfs and gitlab-runner (Go's crypto/x509) and curl find the bundle; each replaces
/// what the image has.
const VARIABLES: [&str; 3] = ["GIT_SSL_CAINFO", "SSL_CERT_FILE", "CURL_CA_BUNDLE"];

/// What a predefined stage gets in its environment.
pub fn variables(record: &Record) -> Vec<(String, String)> {
    if record.settings.ca_file.is_none() {
        return Vec::new();
    }
    let own = &record.settings.environment;
    let missing = VARIABLES.into_iter().filter(|name| !own.contains_key(*name));
    missing.map(|name| (name.to_owned(), BUNDLE.to_owned())).collect()
}

/// The host's certificates and those of this file, as they are now.
pub fn bundle(file: &Path) -> Result<Vec<u8>> {
    let mut bundle = OF_THE_HOST.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
    let own = std::fs::read(file).with_context(|| format!("read [job] ca_file {}", file.display()))?;
    if bundle.last().is_some_and(|last| *last != b'\n') {
        bundle.push(b'\n');
    }
    bundle.extend_from_slice(&own);
    Ok(bundle)
}

impl Executor {
    /// What the containers of a lease mount of the certificates.
    pub(super) fn certificate_mounts(&self, record: &Record) -> Result<Vec<Mount>> {
        let Some(file) = &record.settings.ca_file else { return Ok(Vec::new()) };
        let own = std::fs::read(file).with_context(|| format!("read [job] ca_file {}", file.display()))?;
        let (profile, bundle) = (&record.profile, bundle(file)?);
        let mount = |name: String, content: &[u8], target: &str| {
            let source = self.mounted_file(&name, content)?.display().to_string();
            anyhow::Ok(Mount { source, target: target.to_owned(), read_only: true })
        };
        Ok(vec![
            // No profile's name has a dot in it.
            mount(format!("ca.{profile}.crt"), &own, FILE)?,
            mount(format!("ca-bundle.{profile}.crt"), &bundle, BUNDLE)?,
        ])
    }
}
