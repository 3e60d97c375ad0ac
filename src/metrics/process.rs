//! The figures that Prometheus knows of every process.

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// They have names of their own, the same for all programs.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let mut add = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    };
    add("process_resident_memory_bytes", "Resident memory of the daemon", resident_memory());
    add("process_open_fds", "Open file descriptors of the daemon", open_files());
    add("process_max_fds", "How many file descriptors the daemon may have", most_files());
    add("process_start_time_seconds", "When the daemon started, since 1970", start_time());
    registry
}

/// As kB in /proc/self/status (proc(5)).
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

#[allow(clippy::cast_precision_loss, reason = "a process has no 2^52 descriptors")]
fn open_files() -> Option<f64> {
    // One of them is the one that reads this.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[allow(clippy::cast_precision_loss, reason = "whatever loses precision here is no bound")]
fn most_files() -> Option<f64> {
    use nix::sys::resource::{Resource, getrlimit};
    Some(getrlimit(Resource::RLIMIT_NOFILE).ok()?.0 as f64)
}

/// Field 22 of /proc/self/stat is in clock ticks since boot; `btime` of /proc/stat is when that was.
#[allow(clippy::cast_precision_loss, reason = "a host is not up for 2^52 clock ticks")]
fn start_time() -> Option<f64> {
    let since_boot = crate::sys::process::start_time(nix::unistd::getpid())? as f64;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()?? as f64;
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + since_boot / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        assert!(resident_memory().is_some_and(|bytes| bytes > 100_000.0));
        assert!(open_files().is_some_and(|count| count >= 3.0));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now").as_secs_f64();
        assert!(start_time().is_some_and(|start| start <= now + 1.0 && start > now - 3600.0), "{:?}", start_time());
    }
}
