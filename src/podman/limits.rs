//! The arguments of `podman run` that limit a container.

use crate::config::Resources;

/// The arguments for these limits where cgroups are of version 2, or of version 1.
pub(super) fn arguments(limits: &Resources, unified: bool) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    let mut add = |option: &str, value: Option<String>| {
        if let Some(value) = value {
            line.extend([option.to_owned(), value]);
        }
    };
    let bytes = |size: Option<u64>| size.map(|size| format!("{size}b"));
    add("--memory", bytes(limits.memory));
    add("--memory-swap", bytes(limits.memory_swap));
    add("--cpus", limits.cpus.map(|cpus| cpus.to_string()));
    add("--cpuset-cpus", limits.cpuset.clone());
    // What runtimes make of shares on version 2 depends on their age (https://github.com/opencontainers/cgroups/pull/20).
    if unified {
        add("--cgroup-conf", limits.cpu_weight.map(|weight| format!("cpu.weight={weight}")));
    } else {
        add("--cpu-shares", limits.cpu_weight.map(|weight| shares(weight).to_string()));
    }
    add("--pids-limit", limits.pids.map(|pids| pids.to_string()));
    add("--blkio-weight", limits.io_weight.map(|weight| weight.to_string()));
    add("--shm-size", bytes(limits.shm_size));
    add("--storage-opt", limits.storage_size.map(|size| format!("size={size}")));
    for (path, options) in &limits.tmpfs {
        let options = if options.is_empty() { String::new() } else { format!(":{options}") };
        add("--tmpfs", Some(format!("{path}{options}")));
    }
    for (name, value) in &limits.ulimits {
        add("--ulimit", Some(format!("{name}={value}")));
    }
    line
}

/// Shares as cgroup v1 has them, 2 to 262144, of a weight as cgroup v2 has it, 1 to 10000: from end to end in proportion, as runtimes
/// long made the one of the other (`1 + ((shares - 2) * 9999) / 262142`), rounded up so that the same weight comes out.
fn shares(weight: u32) -> u64 {
    let above = u64::from(weight.clamp(1, 10_000) - 1) * 262_142;
    2 + above.div_ceil(9999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_survives_the_way_through_shares() {
        for weight in [1, 2, 39, 100, 1000, 9999, 10_000] {
            let shares = shares(weight);
            assert_eq!(1 + ((shares - 2) * 9999) / 262_142, u64::from(weight), "{weight}");
        }
    }

    #[test]
    fn each_limit_is_an_argument() {
        let limits = Resources {
            memory: Some(1024),
            memory_swap: Some(2048),
            cpus: Some(1.5),
            cpuset: Some("0-1".into()),
            cpu_weight: Some(100),
            pids: Some(64),
            io_weight: Some(200),
            shm_size: Some(4096),
            storage_size: Some(8192),
            tmpfs: [("/x".to_owned(), "size=1m".to_owned()), ("/y".to_owned(), String::new())].into(),
            ulimits: [("nofile".to_owned(), "10:20".to_owned())].into(),
        };
        let expected = format!(
            "--memory 1024b --memory-swap 2048b --cpus 1.5 --cpuset-cpus 0-1 --cpu-shares {} --pids-limit 64 --blkio-weight 200 \
             --shm-size 4096b --storage-opt size=8192 --tmpfs /x:size=1m --tmpfs /y --ulimit nofile=10:20",
            shares(100)
        );
        assert_eq!(arguments(&limits, false).join(" "), expected);
        let weight = format!("--cpu-shares {}", shares(100));
        assert_eq!(arguments(&limits, true).join(" "), expected.replace(&weight, "--cgroup-conf cpu.weight=100"));
        assert!(arguments(&Resources::default(), true).is_empty());
    }
}
