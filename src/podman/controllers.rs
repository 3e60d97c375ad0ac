//! Which limits this host can enforce, by its cgroup controllers and podman's storage. One that it can't is left out and said so: podman would fail the start, or ignore it.

use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::{Storage, missing, ulimits};
use crate::config::{Resources, Settings};

/// A limit that not every host can enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `memory`
    Memory,
    /// `cpus`
    Cpus,
    /// `pids`
    Pids,
    /// `cpuset`
    Cpuset,
    /// `cpu_weight`
    CpuWeight,
    /// `io_weight`
    IoWeight,
    /// `memory_swap`
    MemorySwap,
    /// `storage_size`
    StorageSize,
}

/// Takes a limit out of a container's.
pub type Unset = fn(&mut Resources);

impl Limit {
    /// Its key in the configuration.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpus => "cpus",
            Self::Pids => "pids",
            Self::Cpuset => "cpuset",
            Self::CpuWeight => "cpu_weight",
            Self::IoWeight => "io_weight",
            Self::MemorySwap => "memory_swap",
            Self::StorageSize => "storage_size",
        }
    }

    /// All of them, each with what takes it out of a container's limits.
    pub const ALL: [(Self, Unset); 8] = [
        (Self::Memory, |limits| limits.memory = None),
        (Self::MemorySwap, |limits| limits.memory_swap = None),
        (Self::Cpus, |limits| limits.cpus = None),
        (Self::CpuWeight, |limits| limits.cpu_weight = None),
        (Self::Cpuset, |limits| limits.cpuset = None),
        (Self::Pids, |limits| limits.pids = None),
        (Self::IoWeight, |limits| limits.io_weight = None),
        (Self::StorageSize, |limits| limits.storage_size = None),
    ];

    /// Whether these limits have it.
    #[must_use]
    pub fn is_set(self, limits: &Resources) -> bool {
        match self {
            Self::Memory => limits.memory.is_some(),
            Self::MemorySwap => limits.memory_swap.is_some(),
            Self::Cpus => limits.cpus.is_some(),
            Self::CpuWeight => limits.cpu_weight.is_some(),
            Self::Cpuset => limits.cpuset.is_some(),
            Self::Pids => limits.pids.is_some(),
            Self::IoWeight => limits.io_weight.is_some(),
            Self::StorageSize => limits.storage_size.is_some(),
        }
    }

    fn controller(self) -> Option<&'static str> {
        match self {
            Self::Memory | Self::MemorySwap => Some("memory"),
            Self::Cpus | Self::CpuWeight => Some("cpu"),
            Self::Pids => Some("pids"),
            Self::Cpuset => Some("cpuset"),
            Self::IoWeight => Some("io"),
            Self::StorageSize => None,
        }
    }
}

/// The limits that can be enforced here, and why not the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    controllers: Vec<String>,
    /// Why a limit that is not among them is not.
    reason: String,
    /// Whether the kernel bounds swap, or why not.
    swap: Result<(), String>,
    /// Whether a disk's scheduler heeds weights, or why not.
    io: Result<(), String>,
    /// Whether a container's own file system can be bounded, or why not.
    storage: Result<(), String>,
}

impl Limits {
    /// Looks at this host.
    #[must_use]
    pub fn of_this_host() -> Self {
        Self::of_user(nix::unistd::geteuid())
    }

    /// The same for a podman of this user.
    #[must_use]
    pub fn of_user(user: Uid) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        Self { swap: check_swap(root), io: check_io_weight(root, Path::new("/sys/block")), ..Self::read(root, user) }
    }

    /// The same on this storage of podman's.
    #[must_use]
    pub fn with_storage(self, storage: &Storage) -> Self {
        self.with_storage_of(storage, nix::unistd::geteuid().is_root())
    }

    /// The same, where podman is root's or another user's.
    #[must_use]
    pub fn with_storage_of(self, storage: &Storage, rootful: bool) -> Self {
        Self { storage: storage.check_size(rootful), ..self }
    }

    /// The same where podman does not say what storage it has.
    #[must_use]
    pub fn without_storage(self, reason: &str) -> Self {
        Self { storage: Err(format!("podman does not say what storage it has ({reason})")), ..self }
    }

    fn read(root: &Path, user: Uid) -> Self {
        let words = |path: PathBuf| {
            std::fs::read_to_string(path)
                .ok()
                .map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        };
        let Some(all) = words(root.join("cgroup.controllers")) else {
            return Self::version_1(root, user);
        };
        if user.is_root() {
            return Self { controllers: all, ..Self::without("the kernel offers no such cgroup controller") };
        }
        let slice = format!("user.slice/user-{user}.slice/user@{user}.service/cgroup.controllers");
        let controllers = words(root.join(slice)).unwrap_or_default();
        Self {
            controllers,
            ..Self::without(&format!(
                "systemd delegates no such cgroup controller to user {user} (lingering, and Delegate= of user@{user}.service)"
            ))
        }
    }

    /// Without any controller, for this reason.
    fn without(reason: &str) -> Self {
        Self { controllers: Vec::new(), reason: reason.to_owned(), swap: Ok(()), io: Ok(()), storage: Ok(()) }
    }

    fn version_1(root: &Path, user: Uid) -> Self {
        if !user.is_root() {
            return Self::without("rootless podman has no limits on cgroup v1; boot with cgroup v2");
        }
        // Its name there is another.
        let known = [("memory", "memory"), ("cpu", "cpu"), ("pids", "pids"), ("cpuset", "cpuset"), ("blkio", "io")];
        let there = known.into_iter().filter(|(directory, _)| root.join(directory).is_dir());
        let controllers = there.map(|(_, name)| name.to_owned()).collect();
        Self { controllers, ..Self::without("this cgroup v1 controller is not mounted") }
    }

    /// What is configured and can't be enforced here, or is not there, one sentence for each.
    #[must_use]
    pub fn warnings(&self, settings: &Settings) -> Vec<String> {
        let mut warnings = Vec::new();
        for job in settings.profiles.values().map(|profile| &profile.job) {
            warnings.extend(ulimits::beyond_this_host(&job.resources));
            warnings.extend(ulimits::beyond_this_host(&job.services.resources));
            warnings.extend([&job.resources, &job.services.resources].into_iter().filter_map(missing::cpus));
            warnings.extend(missing::files(&job.isolation));
            for (limit, _) in Limit::ALL {
                let set = limit.is_set(&job.resources) || limit.is_set(&job.services.resources);
                if set && let Err(reason) = self.check(limit) {
                    warnings.push(reason);
                }
            }
        }
        warnings.sort();
        warnings.dedup();
        warnings
    }

    /// Whether a limit can be enforced; otherwise why not.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn check(&self, limit: Limit) -> Result<(), String> {
        let further = match limit {
            Limit::MemorySwap => &self.swap,
            Limit::IoWeight => &self.io,
            Limit::StorageSize => &self.storage,
            _ => &Ok(()),
        };
        let reason = match (limit.controller(), further) {
            (Some(wanted), _) if !self.controllers.iter().any(|name| name == wanted) => &self.reason,
            (_, Err(reason)) => reason,
            _ => return Ok(()),
        };
        Err(format!("the limit `{}` can't be enforced on this host and is left out: {reason}", limit.key()))
    }
}

/// Whether the kernel counts swap for cgroups, by the file of the memory controller that bounds it.
fn check_swap(root: &Path) -> Result<(), String> {
    let remedy = "the kernel counts no swap for cgroups (swapaccount=1 on its command line)";
    let counted = if root.join("cgroup.controllers").exists() {
        // The root has no such files, and a cgroup without the controller says nothing.
        let mut limited = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        limited.find(|path| path.join("memory.max").exists()).is_none_or(|path| path.join("memory.swap.max").exists())
    } else {
        !root.join("memory").is_dir() || root.join("memory/memory.memsw.limit_in_bytes").exists()
    };
    if counted { Ok(()) } else { Err(remedy.to_owned()) }
}

/// Whether a disk heeds the weights of cgroups: by the scheduler bfq (before Linux 5.0 cfq too), or on cgroup v2 by io.cost.
fn check_io_weight(root: &Path, blocks: &Path) -> Result<(), String> {
    // podman asks for a file that kernels from 5.0 on don't have, and drops the weight (4.3.1: "Your kernel does not support Block I/O
    // weight").
    if !root.join("cgroup.controllers").exists() && !root.join("blkio/blkio.weight").exists() {
        return Err("podman gives disks no weights on cgroup v1 with this kernel; boot with cgroup v2".to_owned());
    }
    let by_cost = std::fs::read_to_string(root.join("io.cost.qos")).is_ok_and(|text| text.contains("enable=1"));
    let heeds = |path: PathBuf| {
        let scheduler = std::fs::read_to_string(path.join("queue/scheduler")).unwrap_or_default();
        scheduler.contains("[bfq]") || scheduler.contains("[cfq]")
    };
    let mut disks = std::fs::read_dir(blocks).into_iter().flatten().flatten().map(|entry| entry.path());
    if by_cost || disks.any(heeds) {
        return Ok(());
    }
    Err("no disk of this host heeds weights (the scheduler bfq in /sys/block/*/queue/scheduler, or io.cost.qos of cgroup v2)"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_asks_the_delegated_controllers_for_a_user() {
        let root = tempfile::tempdir().expect("tempdir");
        std::fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").expect("write");
        let user = Uid::from_raw(990);
        let none = Limits::read(root.path(), user);
        assert!(none.check(Limit::Memory).expect_err("not delegated").contains("user@990.service"));
        let slice = root.path().join("user.slice/user-990.slice/user@990.service");
        std::fs::create_dir_all(&slice).expect("mkdir");
        std::fs::write(slice.join("cgroup.controllers"), "memory pids\n").expect("write");
        let some = Limits::read(root.path(), user);
        assert!(some.check(Limit::Memory).is_ok() && some.check(Limit::Cpus).is_err());
        assert!(Limits::read(root.path(), Uid::from_raw(0)).check(Limit::Cpus).is_ok());
    }

    #[test]
    fn version_1_has_limits_for_root_alone() {
        let root = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(root.path().join("memory")).expect("mkdir");
        let limits = Limits::read(root.path(), Uid::from_raw(0));
        assert!(limits.check(Limit::Memory).is_ok() && limits.check(Limit::Pids).is_err());
        assert!(Limits::read(root.path(), Uid::from_raw(5)).check(Limit::Memory).is_err());
    }

    #[test]
    fn swap_is_bounded_where_the_kernel_counts_it() {
        for (mark, group, limit, swap) in [
            ("cgroup.controllers", "system.slice", "memory.max", "memory.swap.max"),
            ("memory/memory.stat", "memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
        ] {
            let root = tempfile::tempdir().expect("tempdir");
            let file = |path: &str| std::fs::write(root.path().join(path), "memory\n").expect("write");
            std::fs::create_dir(root.path().join(group)).expect("mkdir");
            file(mark);
            file(&format!("{group}/{limit}"));
            let reason = check_swap(root.path()).expect_err("not counted");
            let limits = Limits { swap: Err(reason), ..Limits::read(root.path(), Uid::from_raw(0)) };
            assert!(limits.check(Limit::Memory).is_ok());
            assert!(limits.check(Limit::MemorySwap).expect_err("not counted").contains("swapaccount=1"));
            file(&format!("{group}/{swap}"));
            assert_eq!(check_swap(root.path()), Ok(()));
        }
    }

    #[test]
    fn weights_of_disks_count_where_a_scheduler_heeds_them() {
        let root = tempfile::tempdir().expect("tempdir");
        let queue = root.path().join("block/sda/queue");
        std::fs::create_dir_all(&queue).expect("mkdir");
        let check = || check_io_weight(root.path(), &root.path().join("block"));
        let scheduler = |text: &str| std::fs::write(queue.join("scheduler"), text).expect("write");
        scheduler("[mq-deadline] [bfq] none\n");
        assert!(check().expect_err("version 1").contains("boot with cgroup v2"));
        std::fs::write(root.path().join("cgroup.controllers"), "io\n").expect("write");
        scheduler("[mq-deadline] bfq none\n");
        assert!(check().expect_err("ignored").contains("bfq"));
        let limits = Limits { io: check(), controllers: vec!["io".to_owned()], ..Limits::without("") };
        assert!(limits.check(Limit::IoWeight).expect_err("ignored").contains("`io_weight` can't be enforced"));
        scheduler("mq-deadline [bfq] none\n");
        assert_eq!(check(), Ok(()));
        scheduler("[none]\n");
        std::fs::write(root.path().join("io.cost.qos"), "254:0 enable=1 ctrl=auto\n").expect("write");
        assert_eq!(check(), Ok(()));
    }
}
