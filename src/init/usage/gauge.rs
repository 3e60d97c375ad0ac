//! What a cgroup uses at the moment, of a container that is seen from outside.

use std::path::{Path, PathBuf};

use super::{Places, field, number};

/// A look at a container's cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gauge {
    /// Bytes of memory now.
    pub memory: Option<u64>,
    /// Bytes of memory at most, so far.
    pub memory_peak: Option<u64>,
    /// Bytes of memory that it may have.
    pub memory_limit: Option<u64>,
    /// CPU time so far, in microseconds.
    pub cpu_us: Option<u64>,
    /// CPUs that it may have.
    pub cpus_limit: Option<f64>,
}

impl Gauge {
    /// Of the container of which this is the first process; none once it is gone.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        // Paths are as this process sees them, and only a container's own cgroup counts.
        let places = Places { own, mounts, of_host: true };
        Some(match places.find(None) {
            Some(directory) if places.find(Some("memory")).is_none() => Self::version_2(&directory),
            _ => Self::version_1(|controller| places.find(Some(controller))),
        })
    }

    fn version_2(root: &Path) -> Self {
        Self {
            memory: number(root.join("memory.current")),
            memory_peak: number(root.join("memory.peak")),
            memory_limit: number(root.join("memory.max")),
            cpu_us: field(root.join("cpu.stat"), "usage_usec"),
            cpus_limit: std::fs::read_to_string(root.join("cpu.max")).ok().and_then(|text| quota(&text)),
        }
    }

    fn version_1(find: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let file = |controller: &str, name: &str| Some(find(controller)?.join(name));
        let text = |name: &str| std::fs::read_to_string(file("cpu", name)?).ok();
        let of_two = |quota: String, period: String| format!("{} {}", quota.trim(), period.trim());
        Self {
            memory: file("memory", "memory.usage_in_bytes").and_then(number),
            memory_peak: file("memory", "memory.max_usage_in_bytes").and_then(number),
            memory_limit: file("memory", "memory.limit_in_bytes").and_then(number),
            cpu_us: file("cpuacct", "cpuacct.usage").and_then(number).map(|nanoseconds| nanoseconds / 1000),
            cpus_limit: text("cpu.cfs_quota_us")
                .zip(text("cpu.cfs_period_us"))
                .and_then(|(own, period)| quota(&of_two(own, period))),
        }
    }
}

/// CPUs of a quota and its period; "max", and -1 on version 1, is none.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_a_number_of_cpus() {
        assert_eq!((quota("150000 100000\n"), quota("max 100000\n")), (Some(1.5), None));
        assert_eq!((quota("-1 100000"), quota("")), (None, None));
    }

    #[test]
    fn version_2_is_read() {
        let root = tempfile::tempdir().expect("tempdir");
        for (name, text) in [
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("cpu.stat", "usage_usec 1500\n"),
            ("cpu.max", "200000 100000\n"),
        ] {
            std::fs::write(root.path().join(name), text).expect("write");
        }
        let expected = Gauge { memory: Some(4096), cpu_us: Some(1500), cpus_limit: Some(2.0), ..Gauge::default() };
        assert_eq!(Gauge::version_2(root.path()), expected);
    }
}
