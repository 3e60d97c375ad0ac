//! `podman run`: a container whose process 1 is `windlass-init`.

use std::os::fd::OwnedFd;

use super::cgroup::Cgroups;
use super::network::{Place, arguments as network};
use super::{LABEL, Labels, Podman, PodmanError, strings};
use super::{isolation, limits};
use crate::config::{ExecMode, Isolation, NetworkSettings, Resources};

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
    pub network: NetworkSettings,
    /// A place in a network of the job's own, instead.
    pub place: Option<Place>,
    /// Directories and files of the host.
    pub mounts: Vec<Mount>,
    /// Its limits, as far as this host can enforce them.
    pub resources: Resources,
    /// What separates it from the host.
    pub isolation: Isolation,
}

/// A file or directory of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// On the host; without `:`.
    pub source: String,
    /// In the container.
    pub target: String,
    /// Whether it can't be written there.
    pub read_only: bool,
}

impl Mount {
    fn argument(&self) -> String {
        let mode = if self.read_only { "ro" } else { "rw" };
        format!("{}:{}:{mode}", self.source, self.target)
    }
}

/// The arguments for a map of ids.
pub(super) fn user_map(map: UserMap) -> Vec<String> {
    match map {
        UserMap::Host => Vec::new(),
        UserMap::NoMap => strings(["--userns", "nomap"]),
        UserMap::Range { first, size } => {
            let map = format!("0:{first}:{size}");
            ["--uidmap", &map, "--gidmap", &map].map(str::to_owned).to_vec()
        }
    }
}

/// The arguments of `podman run`.
fn arguments(spec: &ContainerSpec, init: &str, cgroups: Cgroups) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    add(&["run", "--detach", "--name", &spec.name, "--hostname", &spec.hostname]);
    add(&["--pull", "never", "--restart", "no", "--log-driver", "none", "--no-healthcheck"]);
    // podman's own environment is for its pulls, its proxies too, whatever containers.conf says.
    add(&["--http-proxy=false", "--env-host=false"]);
    for (key, value) in spec.labels.pairs() {
        add(&["--label", &format!("{LABEL}.{key}={value}")]);
    }
    // Process 1 is root of its user namespace: only so can it end what a stage leaves behind. Stages run as the image's USER.
    add(&["--user", "0:0", "--entrypoint", &format!("[\"{}\"]", crate::init::PATH)]);
    add(&["--volume", &format!("{init}:{}:ro", crate::init::PATH)]);
    for mount in &spec.mounts {
        add(&["--volume", &mount.argument()]);
    }
    let network = network(&spec.network, spec.place.as_ref());
    for word in user_map(spec.user_map)
        .iter()
        .chain(&cgroups.arguments())
        .chain(&network)
        .chain(&limits::arguments(&spec.resources, cgroups.unified))
        .chain(&isolation::arguments(&spec.isolation))
    {
        add(&[word]);
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
        self.call_with(&arguments(spec, &init, self.cgroups()), limit, listener).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            name: "windlass-0123-job".into(),
            labels: Labels { daemon: "/run/windlass".into(), lease: "0123".into(), role: "job", job: 11, project: 7 },
            image_id: "sha256:abc".into(),
            hostname: "runner".into(),
            exec: ExecMode::Init,
            user_map: UserMap::Range { first: 1_000_000, size: 65536 },
            network: NetworkSettings::default(),
            place: None,
            mounts: vec![Mount { source: "/x/b".into(), target: "/builds".into(), read_only: false }],
            resources: Resources { memory: Some(64 << 20), cpus: Some(1.5), pids: Some(100), ..Resources::default() },
            isolation: Isolation::default(),
        }
    }

    #[test]
    fn everything_asked_for_is_in_the_arguments() {
        let line = arguments(&spec(), "/x/init", Cgroups { parent: Some("a.slice"), unified: true }).join(" ");
        for words in [
            "--uidmap 0:1000000:65536 --gidmap 0:1000000:65536",
            "--memory 67108864b --cpus 1.5 --pids-limit 100",
            "--label io.windlass.lease=0123",
            "--volume /x/init:/.windlass-init:ro",
            "--volume /x/b:/builds:rw",
            "--preserve-fds 1",
            "--http-proxy=false",
            "--cgroup-parent a.slice",
        ] {
            assert!(line.contains(words), "{words} in {line}");
        }
        assert!(line.ends_with("-- sha256:abc serve"), "{line}");
        assert!(!line.contains("--network"), "{line}");
    }

    #[test]
    fn a_container_for_podman_exec_gets_no_socket() {
        let line = arguments(
            &ContainerSpec {
                exec: ExecMode::Podman,
                user_map: UserMap::NoMap,
                network: NetworkSettings { mode: Network::None, ..NetworkSettings::default() },
                ..spec()
            },
            "/x/init",
            Cgroups::default(),
        )
        .join(" ");
        assert!(!line.contains("--preserve-fds") && line.ends_with(" hold"), "{line}");
        assert!(!line.contains("--cgroup-parent"), "{line}");
        assert!(line.contains("--userns nomap") && line.contains("--network none"), "{line}");
    }
}
