//! The subordinate ids that a rootless podman has: those of its first call, since it keeps that call's user namespace, whatever
//! /etc/subuid and /etc/subgid say by now.

use super::ids::{KINDS, Kind, NEEDED, Range, parse};
use super::{Finding, Host};

/// Looks at them; none where no podman of the user has run since the boot.
pub fn check(host: &Host) -> Vec<Finding> {
    look(host).unwrap_or_default()
}

fn look(host: &Host) -> Option<Vec<Finding>> {
    let uid = host.user.uid.as_raw();
    let pause = host.files.read(&format!("/run/user/{uid}/libpod/tmp/pause.pid")).ok()?;
    let pause: u32 = pause.trim().parse().ok()?;
    let owners = [host.user.name.clone(), uid.to_string()];
    let mut findings = Vec::new();
    for (kind, map, own) in [(&KINDS[0], "uid_map", uid), (&KINDS[1], "gid_map", host.user.gid.as_raw())] {
        let map = host.files.read(&format!("/proc/{pause}/{map}")).ok()?;
        let has = mapped(&map, own)?;
        let given = parse(&host.files.read(kind.file).unwrap_or_default());
        let given = merged(given.into_iter().filter(|range| owners.contains(&range.owner)).collect());
        // Too few in a file is what the checks of the files say.
        if count(&given) < NEEDED {
            return None;
        }
        findings.extend(judge(kind, [&owners[0], &owners[1]], &merged(has), &given));
    }
    if findings.is_empty() {
        findings.push(Finding::ok("ids-in-use", "podman has the ids that these files give"));
    }
    Some(findings)
}

/// The ids of a map of /proc (user_namespaces(7)) beside the user's own; none where it is that of another process than podman's.
fn mapped(map: &str, own: u32) -> Option<Vec<Range>> {
    let mut lines = map.lines().map(|line| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        Some((numbers.next()?, numbers.next()?, numbers.next()?))
    });
    if lines.next()?? != (0, own.into(), 1) {
        return None;
    }
    let range =
        |line: Option<(u64, u64, u64)>| line.map(|(_, first, count)| Range { owner: String::new(), first, count });
    lines.map(range).collect()
}

/// The same ids in as few ranges as can be.
fn merged(mut ranges: Vec<Range>) -> Vec<(u64, u64)> {
    ranges.sort_by_key(|range| range.first);
    let mut all: Vec<(u64, u64)> = Vec::new();
    for range in ranges {
        let end = range.first.saturating_add(range.count);
        match all.last_mut() {
            Some((_, last)) if range.first <= *last => *last = end.max(*last),
            _ => all.push((range.first, end)),
        }
    }
    all
}

fn count(ranges: &[(u64, u64)]) -> u64 {
    ranges.iter().map(|(first, end)| end - first).sum()
}

/// Both as beginnings and ends, the ends not among them.
fn judge(kind: &Kind, [name, uid]: [&str; 2], has: &[(u64, u64)], given: &[(u64, u64)]) -> Option<Finding> {
    if has == given {
        return None;
    }
    let words = |ranges: &[(u64, u64)]| {
        let shown: Vec<String> = ranges.iter().map(|(first, end)| format!("{first}-{}", end - 1)).collect();
        if shown.is_empty() { "none".to_owned() } else { shown.join(" and ") }
    };
    let what =
        format!("podman of user {name} goes on with the ids {}, and {} gives {}", words(has), kind.file, words(given));
    if count(has) < NEEDED {
        return Some(Finding::error(
            "ids-in-use",
            what,
            "images can't be unpacked, and jobs don't start, until podman makes its user namespace anew",
            format!(
                "windlass drain --wait && systemd-run --pipe --uid={name} podman system migrate && windlass undrain"
            ),
        ));
    }
    // usermod takes none away from a user with processes.
    let back: String = has.iter().map(|(first, end)| format!(" {} {first}-{}", kind.option, end - 1)).collect();
    Some(Finding::warning(
        "ids-in-use",
        what,
        "images and what jobs have kept belong to the ids that podman has now: after the next boot it can't read them",
        format!("sed -i -E '/^({name}|{uid}):/d' {} && usermod{back} {name}", kind.file),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::expect_remedies;
    use super::*;

    fn of(map: &str, file: &str) -> Option<Finding> {
        judge(&KINDS[0], ["w", "990"], &merged(mapped(map, 990).expect("podman's")), &merged(parse(file)))
    }

    #[test]
    fn the_ids_that_podman_has_are_those_of_the_files() {
        let map = "         0        990          1\n         1     100000      65536\n";
        assert_eq!(of(map, "w:100000:65536\n"), None);
        assert_eq!(of(map, "w:100000:32768\nw:132768:32768\n"), None, "in two parts");
        let moved = of(map, "w:524288:65536\n").expect("a finding");
        assert_eq!(moved.level, Level::Warning);
        let back = "sed -i -E '/^(w|990):/d' /etc/subuid && usermod --add-subuids 100000-165535 w";
        assert_eq!(moved.remedy.as_deref(), Some(back));
        let none = of("0 990 1\n", "w:524288:65536\n").expect("a finding");
        assert!(none.level == Level::Error && none.what.contains("goes on with the ids none"), "{none:?}");
        expect_remedies(&[moved, none]);
    }

    #[test]
    fn another_process_with_that_number_is_not_podmans() {
        assert_eq!(mapped("0 0 4294967295\n", 990), None);
        assert_eq!(mapped("", 990), None);
    }
}
