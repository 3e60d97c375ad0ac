//! What the configuration has containers take from this host and is not there: podman fails the start of each of them.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use crate::config::{Isolation, Resources};

/// The CPUs that are there (Documentation/ABI/testing/sysfs-devices-system-cpu of the kernel).
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// The highest number that is looked at: kernels have at most 8192 CPUs (CONFIG_NR_CPUS), and a number may be a slip of the hand.
const HIGHEST: u32 = 8192;

/// The CPUs among these that this host does not have, in a sentence.
pub(super) fn cpus(limits: &Resources) -> Option<String> {
    beyond(limits.cpuset.as_deref()?, &std::fs::read_to_string(ONLINE).ok()?)
}

fn beyond(cpuset: &str, online: &str) -> Option<String> {
    let there = numbers(online)?;
    (!numbers(cpuset)?.is_subset(&there)).then(|| {
        format!(
            "cpuset = {cpuset:?} names CPUs that this host does not have; it has {}, and containers don't start with others",
            online.trim()
        )
    })
}

/// The numbers of a list such as `0-3,6`.
fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    let mut all = BTreeSet::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        all.extend(first.min(HIGHEST)..=last.min(HIGHEST));
    }
    Some(all)
}

/// The files, directories and devices among these that this host does not have, one sentence for each.
pub(super) fn files(isolation: &Isolation) -> Vec<String> {
    let seccomp =
        isolation.seccomp.iter().filter(|profile| *profile != "unconfined").map(|path| ("seccomp", path.as_str()));
    let of_host = |list: &'static str, entries: &'_ [String]| -> Vec<(&'static str, String)> {
        entries.iter().filter_map(|entry| Some((list, entry.split(':').next()?.to_owned()))).collect()
    };
    let devices = of_host("devices", &isolation.devices);
    let volumes = of_host("volumes", &isolation.volumes);
    let all = seccomp.chain(devices.iter().chain(&volumes).map(|(key, path)| (*key, path.as_str())));
    all.filter(|(_, path)| path.starts_with('/') && is_missing(Path::new(path)))
        .map(|(key, path)| {
            format!("{key} names {path}, which this host does not have; containers don't start without it")
        })
        .collect()
}

/// What may not be looked at may be there.
fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_are_not_there_are_named() {
        assert_eq!(beyond("0-3,6", "0-7\n"), None);
        let sentence = beyond("0-3,9", "0-1\n").expect("three are missing");
        assert!(sentence.contains("\"0-3,9\"") && sentence.contains("it has 0-1"), "{sentence}");
        assert!(beyond("0-4294967295", "0-1\n").is_some(), "a slip of the hand takes no memory");
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let isolation = Isolation {
            seccomp: Some("/nonexistent/profile.json".into()),
            devices: words(&["/dev/null", "/dev/nonexistent:/dev/x:rwm", "nvidia.com/gpu=all"]),
            volumes: words(&["/usr:/usr:ro", "/nonexistent/data:/data"]),
            ..Isolation::default()
        };
        let found = files(&isolation);
        assert_eq!(found.len(), 3, "{found:?}");
        for (sentence, start) in
            found.iter().zip(["seccomp names /none", "devices names /dev/none", "volumes names /none"])
        {
            assert!(sentence.starts_with(start), "{sentence}");
        }
        assert!(files(&Isolation { seccomp: Some("unconfined".into()), ..Isolation::default() }).is_empty());
    }
}
