//! What the host's containers configuration says of registries: which are insecure (registries.conf, containers-registries.conf(5)), and
//! whose certificates are trusted (certs.d, containers-certs.d(5)).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Where certificates of registries are, a directory for each host.
pub const CERTIFICATES: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
/// The system's registries.conf.
const FILE: &str = "/etc/containers/registries.conf";
/// What goes on from it, in the order of names.
const DIRECTORY: &str = "/etc/containers/registries.conf.d";
/// A larger file is no configuration, in bytes.
const SIZE_MAX: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
struct Conf {
    #[serde(default)]
    registry: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    prefix: Option<String>,
    location: Option<String>,
    #[serde(default)]
    insecure: bool,
}

/// The hosts that a registries.conf calls insecure. Mirrors and other locations than an image's name are podman's alone: a digest is asked
/// of the registry that the name says.
///
/// # Errors
/// When a file is there and can't be read.
pub fn insecure(file: Option<&Path>) -> Result<BTreeSet<String>> {
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => system_files(),
    };
    let mut hosts = BTreeSet::new();
    for file in files {
        let text = match fs::metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Ok(about) if about.len() > SIZE_MAX => anyhow::bail!("{} is larger than {SIZE_MAX} bytes", file.display()),
            _ => fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?,
        };
        hosts.extend(insecure_of(&text).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(hosts)
}

fn system_files() -> Vec<PathBuf> {
    let mut further: Vec<PathBuf> = fs::read_dir(DIRECTORY)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    further.sort();
    [PathBuf::from(FILE)].into_iter().chain(further).collect()
}

fn insecure_of(text: &str) -> Result<Vec<String>> {
    let conf: Conf = toml::from_str(text)?;
    let places =
        conf.registry.into_iter().filter(|entry| entry.insecure).flat_map(|entry| [entry.location, entry.prefix]);
    let hosts = places.flatten().map(|place| place.split('/').next().unwrap_or_default().to_ascii_lowercase());
    Ok(hosts.filter(|host| !host.is_empty()).collect())
}

/// The certificates (PEM) that are trusted for a host beside the system's.
///
/// # Errors
/// When one is there and can't be read.
pub(super) fn certificates(directories: &[PathBuf], host: &str) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for directory in directories.iter().map(|directory| directory.join(host)) {
        let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "crt")).collect();
        files.sort();
        for file in files {
            found.push(fs::read(&file).with_context(|| format!("read the certificate {}", file.display()))?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn insecure_registries_are_named_by_location_or_prefix() {
        let text = "unqualified-search-registries = ['docker.io']\nshort-name-mode = 'enforcing'\n\
                    [[registry]]\nlocation = '127.0.0.1:5000'\ninsecure = true\n\
                    [[registry]]\nprefix = 'Example.com/group'\ninsecure = true\n\
                    [[registry]]\nlocation = 'secure.example.com'\n[[registry.mirror]]\nlocation = 'mirror.example.com'\ninsecure = true\n";
        assert_eq!(insecure_of(text).unwrap(), ["127.0.0.1:5000", "example.com"]);
        assert!(insecure_of("[[registry]").is_err());
        assert!(insecure(Some(Path::new("/nowhere/registries.conf"))).unwrap().is_empty());
    }

    #[test]
    fn certificates_of_a_host_are_found_in_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let of_host = dir.path().join("r.example.com:5000");
        fs::create_dir(&of_host).unwrap();
        fs::write(of_host.join("ca.crt"), "one").unwrap();
        fs::write(of_host.join("client.key"), "two").unwrap();
        let found = certificates(&[dir.path().to_owned()], "r.example.com:5000").unwrap();
        assert_eq!(found, [b"one".to_vec()]);
        assert!(certificates(&[dir.path().to_owned()], "other").unwrap().is_empty());
    }
}
