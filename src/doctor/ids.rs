//! Subordinate user and group ids: who a job's users are on the host.

use std::io;

use super::{Finding, Host, ids_in_use};
use crate::config::UserNamespace;

/// How many a user needs: images have files of ids up to 65535.
pub const NEEDED: u64 = 65_536;

/// A line of /etc/subuid or /etc/subgid (subuid(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// A user's name or number.
    pub owner: String,
    /// The first of the ids.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

impl Range {
    fn overlaps(&self, other: &Self) -> bool {
        self.first < other.first.saturating_add(other.count) && other.first < self.first.saturating_add(self.count)
    }

    fn words(&self) -> String {
        format!("{}-{}", self.first, self.first.saturating_add(self.count).saturating_sub(1))
    }
}

/// One of the two files.
pub struct Kind {
    check: &'static str,
    /// The file.
    pub file: &'static str,
    /// usermod's option that adds a range.
    pub option: &'static str,
}

/// Those of users, and those of groups.
pub const KINDS: [Kind; 2] = [
    Kind { check: "subuids", file: "/etc/subuid", option: "--add-subuids" },
    Kind { check: "subgids", file: "/etc/subgid", option: "--add-subgids" },
];

/// Looks at them.
pub fn check(host: &Host) -> Vec<Finding> {
    // A directory service gives the ids, and then the files count for nothing.
    let elsewhere = host.files.read("/etc/nsswitch.conf").is_ok_and(|text| from_elsewhere(&text));
    if elsewhere {
        let command = format!("getsubids {0} && getsubids -g {0}", host.user.name);
        let what = "/etc/nsswitch.conf takes subordinate ids from a directory service";
        return vec![Finding::skipped("subuids", what, Some(&command))];
    }
    let uid = host.user.uid.as_raw().to_string();
    let mut findings = Vec::new();
    for kind in &KINDS {
        let text = host.files.read(kind.file);
        match (host.is_rootful(), host.settings.podman.user_namespace) {
            (false, _) => findings.push(rootless(kind, text, [&host.user.name, &uid])),
            (true, UserNamespace::Separate { first, size, ranges }) => {
                let own = Range {
                    owner: "[podman] user_namespace".to_owned(),
                    first: first.into(),
                    count: u64::from(size) * u64::from(ranges),
                };
                findings.push(rootful(kind, &text.unwrap_or_default(), &own));
            }
            (true, UserNamespace::Host) => findings.push(Finding::warning(
                kind.check,
                "jobs run in root's podman without a user namespace",
                "root in a container is root on the host, kept from it by little",
                "user_namespace = \"separate\" in [podman], unless you trust jobs as much as the host",
            )),
        }
    }
    if !host.is_rootful() {
        findings.extend(ids_in_use::check(host));
        findings.push(helpers(["newuidmap", "newgidmap"].map(|name| (name, is_on_path(name)))));
    }
    findings
}

fn from_elsewhere(nsswitch: &str) -> bool {
    let line = nsswitch.lines().find_map(|line| line.trim().strip_prefix("subid:"));
    line.is_some_and(|sources| !sources.split_whitespace().all(|source| source == "files"))
}

/// The lines of one of the files; what is none is left out.
pub fn parse(text: &str) -> Vec<Range> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let read = |line: &str| {
        let mut parts = line.split(':');
        let (owner, first, count) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Range { owner: owner.to_owned(), first, count })
    };
    lines.filter_map(read).collect()
}

fn rootless(kind: &Kind, text: io::Result<String>, owners: [&String; 2]) -> Finding {
    let name = owners[0];
    let text = text.unwrap_or_default();
    let all = parse(&text);
    let is_own = |range: &&Range| owners.contains(&&range.owner);
    let (own, others): (Vec<&Range>, Vec<&Range>) = all.iter().partition(is_own);
    let count: u64 = own.iter().map(|range| range.count).sum();
    let behind = all.iter().map(|range| range.first.saturating_add(range.count)).max().unwrap_or(0).max(524_288);
    let give = format!("usermod {} {behind}-{} {name}", kind.option, behind + NEEDED - 1);
    let meaning =
        "containers of the user's podman have no, or too few, ids: images can't be unpacked, and jobs don't start";
    if count == 0 {
        return Finding::error(kind.check, format!("user {name} has no ids in {}", kind.file), meaning, give);
    }
    if count < NEEDED {
        let what = format!("user {name} has {count} ids in {}, {NEEDED} are needed", kind.file);
        return Finding::error(kind.check, what, meaning, give);
    }
    let overlap = own.iter().find_map(|own| Some((own, others.iter().find(|other| other.overlaps(own))?)));
    if let Some((own, other)) = overlap {
        return Finding::error(
            kind.check,
            format!("{} of {name} and {} of {} in {} overlap", own.words(), other.words(), other.owner, kind.file),
            format!(
                "jobs have the same ids on the host as what belongs to {}: they can reach each other's files",
                other.owner
            ),
            format!("give one of them another range in {}; then, when no job runs: podman system migrate", kind.file),
        );
    }
    Finding::ok(kind.check, format!("user {name} has {count} ids in {}", kind.file))
}

fn rootful(kind: &Kind, text: &str, own: &Range) -> Finding {
    match parse(text).iter().find(|other| other.overlaps(own)) {
        Some(other) => Finding::error(
            kind.check,
            format!("the ids of jobs, {}, and those of {} in {} overlap", own.words(), other.owner, kind.file),
            format!("jobs have the same ids on the host as containers of {}", other.owner),
            "user_namespace_first in [podman]: another first id, before the first job",
        ),
        None => {
            Finding::ok(kind.check, format!("the ids of jobs, {}, are nobody else's in {}", own.words(), kind.file))
        }
    }
}

fn helpers(programs: [(&'static str, bool); 2]) -> Finding {
    let missing: Vec<&str> = programs.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Finding::ok("id-maps", "newuidmap and newgidmap are there");
    }
    Finding::error(
        "id-maps",
        format!("{} is missing", missing.join(" and ")),
        "a rootless podman can't give containers their ids",
        "apt-get install uidmap, or dnf install shadow-utils",
    )
}

/// Whether a program is there for a service, which has no more than the usual PATH.
fn is_on_path(name: &str) -> bool {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"].iter().any(|dir| std::path::Path::new(dir).join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::expect_remedies;
    use super::*;

    fn of(text: &str) -> Finding {
        rootless(&KINDS[0], Ok(text.to_owned()), [&"w".to_owned(), &"990".to_owned()])
    }

    #[test]
    fn a_user_needs_enough_ids_of_its_own() {
        assert_eq!(of("w:100000:65536\n").level, Level::Ok);
        assert_eq!(of("990:100000:32768\nw:200000:32768\n").level, Level::Ok, "by number, in two parts");
        let none = of("other:100000:65536\n");
        assert_eq!(none.remedy.as_deref(), Some("usermod --add-subuids 524288-589823 w"));
        let few = of("w:100000:1000\nx:600000:65536\n");
        assert_eq!(few.remedy.as_deref(), Some("usermod --add-subuids 665536-731071 w"));
        let shared = of("w:100000:65536\nx:165535:10\n");
        assert!(shared.what.contains("165535-165544 of x"), "{shared:?}");
        let missing = rootless(&KINDS[1], Err(io::ErrorKind::NotFound.into()), [&"w".to_owned(), &"990".to_owned()]);
        let all = [none, few, shared, missing];
        assert!(all.iter().all(|finding| finding.level == Level::Error));
        expect_remedies(&all);
    }

    #[test]
    fn roots_ranges_are_nobody_elses() {
        let own = Range { owner: String::new(), first: 1_000_000, count: 65_536 * 4 };
        assert_eq!(rootful(&KINDS[0], "w:100000:65536\n", &own).level, Level::Ok);
        assert_eq!(rootful(&KINDS[0], "w:1200000:65536\n", &own).level, Level::Error);
    }

    #[test]
    fn a_directory_service_and_missing_programs_are_noticed() {
        assert!(from_elsewhere("passwd: files\nsubid: sss\n") && !from_elsewhere("subid: files\n"));
        assert!(!from_elsewhere("passwd: sss\n"));
        assert_eq!(helpers([("newuidmap", true), ("newgidmap", false)]).level, Level::Error);
    }
}
