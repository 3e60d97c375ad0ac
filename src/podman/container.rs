//! `podman run`: a container whose process 1 is `windlass-init`.

use std::os::fd::OwnedFd;

use super::{LABEL, Labels, Podman, PodmanError};
use crate::config::{ExecMode, Network};

/// The ids that a container's ids stand for on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserMap {
    /// podman's default.
    Host,
    /// Rootless: everything but the service's own user.
    NoMap,
    /// Rootful: this range.
    Range {
        /// Its first id on the host.
        first: u32,
        /// How many ids.
        size: u32,
    },
}

/// A container to be made.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// Who it belongs to.
    pub labels: Labels,
    /// The image's id: nothing is resolved again on the way.
    pub image_id: String,
    /// Its hostname.
    pub hostname: String,
    /// How its stages come.
    pub exec: ExecMode,
    /// Its ids on the host.
    pub user_map: UserMap,
    /// Its network.
    pub network: Network,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// CPUs.
    pub cpus: Option<f64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// The arguments of `podman run`.
fn arguments(spec: &ContainerSpec, init: &str) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["run", "--detach", "--name", &spec.name, "--hostname", &spec.hostname]);
    add(&["--pull", "never", "--restart", "no", "--log-driver", "none", "--no-healthcheck"]);
    for (key, value) in spec.labels.pairs() {
        add(&["--label", &format!("{LABEL}.{key}={value}")]);
    }
    // Process 1 is root of its user namespace: only so can it end what a stage leaves behind. Stages run as the image's USER.
    add(&["--user", "0:0", "--entrypoint", &format!("[\"{}\"]", crate::init::PATH)]);
    add(&["--volume", &format!("{init}:{}:ro", crate::init::PATH)]);
    match spec.user_map {
        UserMap::Host => {}
        UserMap::NoMap => add(&["--userns", "nomap"]),
        UserMap::Range { first, size } => {
            let map = format!("0:{first}:{size}");
            add(&["--uidmap", &map, "--gidmap", &map]);
        }
    }
    match spec.network {
        Network::Private => {}
        Network::Host => add(&["--network", "host"]),
        Network::None => add(&["--network", "none"]),
    }
    if let Some(bytes) = spec.memory {
        add(&["--memory", &format!("{bytes}b")]);
    }
    if let Some(cpus) = spec.cpus {
        add(&["--cpus", &cpus.to_string()]);
    }
    if let Some(pids) = spec.pids {
        add(&["--pids-limit", &pids.to_string()]);
    }
    let mode = match spec.exec {
        ExecMode::Init => {
            add(&["--preserve-fds", "1"]);
            "serve"
        }
        ExecMode::Podman => "hold",
    };
    add(&["--", &spec.image_id, mode]);
    line
}

impl Podman {
    /// Makes and starts a container. `listener` becomes the init's listening socket.
    ///
    /// # Errors
    /// podman's words.
    pub async fn run_container(&self, spec: &ContainerSpec, listener: Option<&OwnedFd>) -> Result<(), PodmanError> {
        let init = self.settings().init.display().to_string();
        // podman copies an image's layers for a map of ids that it meets for the first time (rootless; minutes for large ones).
        let limit = match spec.user_map {
            UserMap::NoMap => self.settings().pull_timeout,
            _ => self.settings().timeout,
        };
        self.call_with(&arguments(spec, &init), limit, listener).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "windlass-0123-job".into(),
            labels: Labels { daemon: "/run/windlass".into(), lease: "0123".into(), role: "job", job: 11, project: 7 },
            image_id: "sha256:abc".into(),
            hostname: "runner".into(),
            exec: ExecMode::Init,
            user_map: UserMap::Range { first: 1_000_000, size: 65536 },
            network: Network::Private,
            memory: Some(64 << 20),
            cpus: Some(1.5),
            pids: Some(100),
        }
    }

    #[test]
    fn everything_asked_for_is_in_the_arguments() {
        let line = arguments(&spec(), "/x/init").join(" ");
        for words in [
            "--uidmap 0:1000000:65536 --gidmap 0:1000000:65536",
            "--memory 67108864b --cpus 1.5 --pids-limit 100",
            "--label io.windlass.lease=0123",
            "--volume /x/init:/.windlass-init:ro",
            "--preserve-fds 1",
        ] {
            assert!(line.contains(words), "{words} in {line}");
        }
        assert!(line.ends_with("-- sha256:abc serve"), "{line}");
        assert!(!line.contains("--network"), "{line}");
    }

    #[test]
    fn a_container_for_podman_exec_gets_no_socket() {
        let line = arguments(
            &ContainerSpec { exec: ExecMode::Podman, user_map: UserMap::NoMap, network: Network::None, ..spec() },
            "/x/init",
        )
        .join(" ");
        assert!(!line.contains("--preserve-fds") && line.ends_with(" hold"), "{line}");
        assert!(line.contains("--userns nomap") && line.contains("--network none"), "{line}");
    }
}
