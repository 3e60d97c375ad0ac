//! Where the cgroups of containers are, never in the daemon's own, with which they would end, and of which version they are.

use std::path::Path;

use super::Podman;

/// The slice of all jobs' containers, where systemd keeps cgroups for root's podman. A rootless podman's are below its user's manager.
pub const SLICE: &str = "windlass-jobs.slice";

/// The cgroups that containers get.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cgroups {
    /// The slice that they are below; none: podman chooses.
    pub(super) parent: Option<&'static str>,
    /// Whether they are of version 2 (cgroups(7)).
    pub(super) unified: bool,
}

impl Cgroups {
    /// The arguments of `podman run` for a container's place.
    pub(super) fn arguments(self) -> Vec<String> {
        self.parent.map(|parent| ["--cgroup-parent", parent].map(str::to_owned).to_vec()).unwrap_or_default()
    }
}

impl Podman {
    /// The cgroups that containers get on this host.
    pub(super) fn cgroups(&self) -> Cgroups {
        Cgroups {
            parent: (self.rootful && self.cgroups_by_systemd.get() == Some(&true)).then_some(SLICE),
            unified: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        }
    }
}
