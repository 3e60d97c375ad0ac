//! Which ulimits this process may give to containers: podman's runtime fails the start of a container with more.

use std::fs;

use crate::config::Resources;

/// Bit of CAP_SYS_RESOURCE, which may raise hard limits (capabilities(7)).
const CAP_SYS_RESOURCE: u32 = 24;

/// Names as podman has them, and as proc(5) has them in `/proc/PID/limits`.
const NAMES: [(&str, &str); 15] = [
    ("core", "Max core file size"),
    ("cpu", "Max cpu time"),
    ("data", "Max data size"),
    ("fsize", "Max file size"),
    ("locks", "Max file locks"),
    ("memlock", "Max locked memory"),
    ("msgqueue", "Max msgqueue size"),
    ("nice", "Max nice priority"),
    ("nofile", "Max open files"),
    ("nproc", "Max processes"),
    ("rss", "Max resident set"),
    ("rtprio", "Max realtime priority"),
    ("rttime", "Max realtime timeout"),
    ("sigpending", "Max pending signals"),
    ("stack", "Max stack size"),
];

/// The ulimits among these that can't be given, one sentence for each.
pub(super) fn beyond_this_host(limits: &Resources) -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if may_raise(&status) {
        return Vec::new();
    }
    beyond(limits, &fs::read_to_string("/proc/self/limits").unwrap_or_default())
}

fn may_raise(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits & (1 << CAP_SYS_RESOURCE) != 0)
}

fn beyond(limits: &Resources, own: &str) -> Vec<String> {
    let hard = |name: &str| {
        let (_, long) = NAMES.iter().find(|(short, _)| *short == name)?;
        // Name, soft limit, hard limit, unit. "unlimited" is no number, and bounds nothing.
        let line = own.lines().find_map(|line| line.strip_prefix(long))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let wanted = |value: &str| {
        let most = value.rsplit(':').next().unwrap_or(value);
        if most == "-1" { Some(u64::MAX) } else { most.parse::<u64>().ok() }
    };
    let sentence = |(name, value): (&String, &String)| {
        let (wanted, hard) = (wanted(value)?, hard(name)?);
        (wanted > hard).then(|| {
            format!(
                "the ulimit {name} = \"{value}\" is above the daemon's own hard limit, {hard}, which it may not raise: \
                 containers will not start; set a higher Limit{} for the service, or a lower ulimit",
                name.to_uppercase()
            )
        })
    };
    limits.ulimits.iter().filter_map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                       Max processes             4096                 8192                 processes \n\
                       Max open files            1024                 1024                 files     \n\
                       Max core file size        0                    unlimited            bytes     \n";

    #[test]
    fn what_is_above_the_hard_limit_is_named() {
        let of = |name: &str, value: &str| {
            let limits = Resources { ulimits: [(name.to_owned(), value.to_owned())].into(), ..Resources::default() };
            beyond(&limits, OWN)
        };
        assert!(of("nofile", "512:1024").is_empty() && of("nproc", "8192").is_empty() && of("core", "-1").is_empty());
        assert!(of("nofile", "512:2048")[0].contains("nofile = \"512:2048\"") && !of("nproc", "-1").is_empty());
        assert!(of("stack", "1").is_empty(), "unknown here");
    }

    #[test]
    fn a_process_with_the_capability_may_raise_them() {
        assert!(may_raise("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_raise("CapEff:\t00000000a80425fb\n") && !may_raise(""));
    }

    #[test]
    fn every_name_is_one_of_this_kernels() {
        let own = fs::read_to_string("/proc/self/limits").expect("proc");
        for (_, long) in NAMES {
            assert!(own.contains(long), "{long} in {own}");
        }
    }
}
