//! `podman info`: what podman says of itself and of its host.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Podman, PodmanError, strings};

/// What podman says, as far as it matters for jobs; empty where this podman does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// podman's version.
    pub version: String,
    /// The storage driver, such as `overlay`.
    pub driver: String,
    /// The program that mounts overlay instead of the kernel, such as fuse-overlayfs.
    pub mount_program: Option<String>,
    /// Where images and containers are.
    pub graph_root: PathBuf,
    /// `systemd` or `cgroupfs`.
    pub cgroup_manager: String,
    /// `v1` or `v2`.
    pub cgroup_version: String,
    /// The OCI runtime, such as `crun`.
    pub runtime: String,
    /// `netavark` or `cni`.
    pub network_backend: String,
    /// Whether podman runs without root.
    pub rootless: bool,
    /// Whether podman labels containers for SELinux.
    pub selinux: bool,
    /// What carries packets for a rootless podman: the paths of slirp4netns and pasta, those that are there.
    pub carriers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    host: Host,
    store: Store,
    #[serde(default)]
    version: Version,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Host {
    cgroup_manager: String,
    cgroup_version: String,
    network_backend: String,
    oci_runtime: Named,
    security: Security,
    slirp4netns: Executable,
    pasta: Executable,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Executable {
    executable: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Security {
    rootless: bool,
    #[serde(rename = "selinuxEnabled")]
    selinux: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    graph_driver_name: String,
    graph_root: PathBuf,
    #[serde(default)]
    graph_options: Option<Map<String, Value>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Version {
    version: String,
}

fn parse(text: &str) -> Result<Info, String> {
    let Answer { host, store, version } =
        serde_json::from_str(text).map_err(|error| format!("unreadable answer: {error}"))?;
    let program = |value: &Value| {
        // A path in some releases, a description of the program in others.
        let path = value.as_str().or_else(|| value.get("Executable")?.as_str());
        path.map(str::to_owned)
    };
    let options = store.graph_options.unwrap_or_default();
    let mount_program = options.iter().find(|(key, _)| key.ends_with("mount_program"));
    let carriers = [host.slirp4netns.executable, host.pasta.executable];
    Ok(Info {
        version: version.version,
        driver: store.graph_driver_name,
        mount_program: mount_program.and_then(|(_, value)| program(value)),
        graph_root: store.graph_root,
        cgroup_manager: host.cgroup_manager,
        cgroup_version: host.cgroup_version,
        runtime: host.oci_runtime.name,
        network_backend: host.network_backend,
        rootless: host.security.rootless,
        selinux: host.security.selinux,
        carriers: carriers.into_iter().filter(|path| !path.is_empty()).collect(),
    })
}

impl Podman {
    /// What podman says of itself and of its host.
    ///
    /// # Errors
    /// podman's words.
    pub async fn info(&self) -> Result<Info, PodmanError> {
        let text = self.call(&strings(["info", "--format", "json"])).await?;
        parse(&text).map_err(|message| PodmanError { operation: "info".to_owned(), message, code: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_words_of_itself_are_read() {
        let text = r#"{"host":{"cgroupManager":"systemd","cgroupVersion":"v2","networkBackend":"netavark",
            "ociRuntime":{"name":"crun"},"security":{"rootless":true,"selinuxEnabled":true},
            "slirp4netns":{"executable":"/usr/bin/slirp4netns"},"pasta":{"executable":""}},
            "store":{"graphDriverName":"overlay","graphRoot":"/g",
            "graphOptions":{"overlay.mount_program":{"Executable":"/usr/bin/fuse-overlayfs"}}},"version":{"Version":"4.9.4"}}"#;
        let info = parse(text).expect("valid");
        assert_eq!(
            (info.version.as_str(), info.driver.as_str(), info.rootless, info.selinux),
            ("4.9.4", "overlay", true, true)
        );
        assert_eq!(info.mount_program.as_deref(), Some("/usr/bin/fuse-overlayfs"));
        assert_eq!(info.carriers, ["/usr/bin/slirp4netns"]);
        assert!(parse("{}").is_err());
        let little = parse(r#"{"host":{},"store":{"graphDriverName":"vfs","graphRoot":"/g","graphOptions":null}}"#);
        assert_eq!(little.expect("valid").mount_program, None);
    }
}
