//! What the container's cgroup says of memory, CPU time and processes, on cgroup v1 and v2 alike.
//!
//! The container sees its own cgroup, read-only, below /sys/fs/cgroup; in the host's network it sees the host's, of which only its own
//! counts. What is not there stays unknown.

mod gauge;

use std::path::{Path, PathBuf};

pub use gauge::Gauge;

use crate::protocol::init::Usage;

/// Limits above this many bytes or processes mean "none" on cgroup v1.
const UNLIMITED: u64 = 1 << 60;

/// The cgroup namespace that a host begins with (`PROC_CGROUP_INIT_INO` of the kernel's linux/proc_ns.h).
const INITIAL_NAMESPACE: &str = "cgroup:[4026531835]";

/// A look at the counters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Snapshot {
    oom_kills: Option<u64>,
    memory_limit: Option<u64>,
    memory_peak: Option<u64>,
    cpu_us: Option<u64>,
    pids_hits: Option<u64>,
    pids_limit: Option<u64>,
    written: Option<u64>,
}

impl Snapshot {
    /// Reads the counters of this container.
    #[must_use]
    pub fn take() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
        let places = Places {
            own: read("/proc/self/cgroup"),
            mounts: read("/proc/self/mountinfo"),
            of_host: namespace.as_os_str() == INITIAL_NAMESPACE,
        };
        match places.find(None) {
            // On a hybrid host the hierarchy of version 2 is there too, but has no controller.
            Some(directory) if places.find(Some("memory")).is_none() => Self::version_2(&directory),
            _ => Self::version_1(|controller| places.find(Some(controller))),
        }
    }

    fn version_2(root: &Path) -> Self {
        Self {
            oom_kills: field(root.join("memory.events"), "oom_kill"),
            memory_limit: number(root.join("memory.max")),
            memory_peak: number(root.join("memory.peak")),
            cpu_us: field(root.join("cpu.stat"), "usage_usec"),
            pids_hits: field(root.join("pids.events"), "max"),
            pids_limit: number(root.join("pids.max")),
            written: written(root.join("io.stat"), "wbytes="),
        }
    }

    fn version_1(find: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let file = |controller: &str, name: &str| Some(find(controller)?.join(name));
        Self {
            oom_kills: file("memory", "memory.oom_control").and_then(|path| field(path, "oom_kill")),
            memory_limit: file("memory", "memory.limit_in_bytes").and_then(number),
            memory_peak: file("memory", "memory.max_usage_in_bytes").and_then(number),
            cpu_us: file("cpuacct", "cpuacct.usage").and_then(number).map(|nanoseconds| nanoseconds / 1000),
            pids_hits: file("pids", "pids.events").and_then(|path| field(path, "max")),
            pids_limit: file("pids", "pids.max").and_then(number),
            written: file("blkio", "blkio.throttle.io_service_bytes").and_then(|path| written(path, "Write ")),
        }
    }

    /// What happened between `before` and now.
    #[must_use]
    pub fn since(self, before: Self) -> Usage {
        let grown = |now: Option<u64>, then: Option<u64>| now.map(|now| now.saturating_sub(then.unwrap_or(0)));
        Usage {
            oom_kills: grown(self.oom_kills, before.oom_kills).unwrap_or(0),
            memory_limit: self.memory_limit,
            memory_peak: self.memory_peak,
            cpu_us: grown(self.cpu_us, before.cpu_us),
            cpu_total_us: self.cpu_us,
            written: self.written,
            pids_hits: grown(self.pids_hits, before.pids_hits).unwrap_or(0),
            pids_limit: self.pids_limit,
        }
    }
}

/// Where this process's cgroups are (cgroups(7), proc(5)).
struct Places {
    /// /proc/self/cgroup
    own: String,
    /// /proc/self/mountinfo
    mounts: String,
    /// Whether paths of cgroups are the host's.
    of_host: bool,
}

impl Places {
    /// The directory of this process's own cgroup in the hierarchy of a controller of version 1, or (none) in that of version 2.
    fn find(&self, controller: Option<&str>) -> Option<PathBuf> {
        let own = self.own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let is_it = controller.map_or(controllers.is_empty(), |name| controllers.split(',').any(|it| it == name));
            is_it.then_some(path)
        })?;
        // A rootless container on version 1 has no cgroup of its own: what it is in is the daemon's, or the whole host's. Its own has its
        // name (podman's libpod/container_internal_common.go, `libpod-<id>`).
        if self.of_host && !own.split('/').any(|part| part.starts_with("libpod-")) {
            return None;
        }
        self.mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
            let (root, point) = (left.next()?, left.next()?);
            let (kind, options) = (right.next()?, right.nth(1)?);
            let is_it = match controller {
                None => kind == "cgroup2",
                Some(name) => kind == "cgroup" && options.split(',').any(|it| it == name),
            };
            // Seen from elsewhere, the way from the mount to the cgroup is not known.
            let below = Path::new(own).strip_prefix(root).ok().filter(|_| is_it)?;
            Some(Path::new(point).join(below))
        })
    }
}

/// A file with one number; "max" and v1's huge values are no limit.
fn number(path: PathBuf) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok().filter(|value| *value < UNLIMITED)
}

/// The number behind `key` in a file of `key value` lines.
fn field(path: PathBuf, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum of the numbers behind `key`, of all devices: `8:0 rbytes=1 wbytes=2 ...` on v2, `8:0 Write 2` on v1.
fn written(path: PathBuf, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let numbers = text.lines().filter_map(|line| {
        let rest = &line[line.find(key)? + key.len()..];
        rest.split_whitespace().next()?.parse::<u64>().ok()
    });
    Some(numbers.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("tempdir");
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(path, text).expect("write");
        }
        root
    }

    #[test]
    fn version_2_is_read() {
        let root = tree(&[
            ("cgroup.controllers", "memory pids\n"),
            ("memory.events", "low 0\noom 3\noom_kill 2\n"),
            ("memory.max", "67108864\n"),
            ("memory.peak", "67100000\n"),
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("pids.events", "max 4\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=7 wbytes=5 rios=1\n8:16 rbytes=1 wbytes=6\n253:0 \n"),
        ]);
        let before = Snapshot { cpu_us: Some(500), pids_hits: Some(1), ..Snapshot::default() };
        let usage = Snapshot::version_2(root.path()).since(before);
        assert_eq!(
            usage,
            Usage {
                oom_kills: 2,
                memory_limit: Some(67_108_864),
                memory_peak: Some(67_100_000),
                cpu_us: Some(1000),
                cpu_total_us: Some(1500),
                written: Some(11),
                pids_hits: 3,
                pids_limit: None
            }
        );
    }

    #[test]
    fn version_1_is_read() {
        let root = tree(&[
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/memory.max_usage_in_bytes", "4096\n"),
            ("cpuacct/cpuacct.usage", "5000000\n"),
            ("pids/pids.max", "64\n"),
            ("blkio/blkio.throttle.io_service_bytes", "8:0 Read 1\n8:0 Write 9\nTotal 10\n"),
        ]);
        let usage = Snapshot::version_1(|controller| Some(root.path().join(controller))).since(Snapshot::default());
        assert_eq!(
            usage,
            Usage {
                oom_kills: 1,
                memory_limit: None,
                memory_peak: Some(4096),
                cpu_us: Some(5000),
                cpu_total_us: Some(5000),
                written: Some(9),
                pids_hits: 0,
                pids_limit: Some(64)
            }
        );
    }

    #[test]
    fn without_a_cgroup_nothing_is_known() {
        assert_eq!(Snapshot::version_2(Path::new("/nonexistent")).since(Snapshot::default()), Usage::default());
        assert_eq!(Snapshot::version_1(|_| None).since(Snapshot::default()), Usage::default());
    }

    #[test]
    fn only_its_own_cgroup_counts_however_it_is_seen() {
        let places = |own: &str, mounts: &str| Places { own: own.into(), mounts: mounts.into(), of_host: false };
        let memory = |own: &str, mounts: &str| places(own, mounts).find(Some("memory"));
        let mount = |root: &str| format!("1 2 0:32 {root} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
        assert_eq!(memory("4:memory:/pod/x\n", &mount("/pod/x")), Some("/sys/fs/cgroup/memory/".into()));
        assert_eq!(memory("4:memory:/pod/x\n", &mount("/")), Some("/sys/fs/cgroup/memory/pod/x".into()));
        assert_eq!(memory("4:memory:/\n", &mount("/../..")), None);
        assert_eq!(memory("4:memory:/pod/x\n", &mount("/pod/y")), None);
        assert_eq!(memory("4:cpu,cpuacct:/\n", &mount("/")), None);
        let two = "1 2 0:38 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        assert_eq!(places("0::/\n", two).find(None), Some("/sys/fs/cgroup/".into()));
        assert_eq!(Places { of_host: true, ..places("0::/\n", two) }.find(None), None);
        let below = |own: &str| Places { of_host: true, ..places(own, two) }.find(None);
        assert_eq!(below("0::/pod/libpod-12\n"), Some("/sys/fs/cgroup/pod/libpod-12".into()));
        assert_eq!(below("0::/system.slice/windlassd.service\n"), None);
    }
}
