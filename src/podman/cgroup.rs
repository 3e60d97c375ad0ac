//! Where the cgroups of containers are: never in the daemon's own, with which they would end.

use super::Podman;

/// The slice of all jobs' containers, where systemd keeps cgroups for root's podman. A rootless podman's are below its user's manager.
pub const SLICE: &str = "windlass-jobs.slice";

/// The arguments of `podman run` for a container below this slice.
pub(super) fn arguments(parent: Option<&str>) -> Vec<String> {
    parent.map(|parent| ["--cgroup-parent", parent].map(str::to_owned).to_vec()).unwrap_or_default()
}

impl Podman {
    /// The slice that containers are put below; none: podman chooses.
    pub(super) fn cgroup_parent(&self) -> Option<&'static str> {
        (self.rootful && self.cgroups_by_systemd.get() == Some(&true)).then_some(SLICE)
    }
}
