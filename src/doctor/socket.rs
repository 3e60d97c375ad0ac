//! The socket: whether it is there, who may connect to it, and whom the daemon answers. Whoever may call may claim to be any project's job.

use std::ffi::CString;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::unistd::{Gid, Group, User, getgrouplist};

use super::runner_unit;
use super::{Finding, Host};

/// Makes the socket anew, with the owner, group and mode of its unit (SocketMode=).
const AGAIN: &str = "systemctl restart windlass.socket windlass.service";

/// Owner, group and mode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owned {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// What one user may do with the socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Whether the host has this user.
    pub is_known: bool,
    /// Whether the user is in the socket's group.
    pub is_member: bool,
    /// Whether the kernel lets the user connect.
    pub connects: bool,
    /// Whether the daemon answers the user.
    pub is_allowed: bool,
    /// Whether gitlab-runner's process, which runs, is from before the user was put into the group.
    pub is_older: bool,
}

impl Access {
    /// That of a user of this host, with these groups beside its own.
    pub fn of(host: &Host, name: &str, groups: &[String]) -> Self {
        let Some(user) = User::from_name(name).ok().flatten() else { return Self::default() };
        let mut all: Vec<u32> = CString::new(name)
            .ok()
            .and_then(|name| getgrouplist(&name, user.gid).ok())
            .unwrap_or_default()
            .into_iter()
            .map(Gid::as_raw)
            .collect();
        all.extend(groups.iter().filter_map(|name| Some(Group::from_name(name).ok()??.gid.as_raw())));
        let socket = owned(&host.socket);
        let configured = host.settings.socket.group.as_ref();
        let group = socket.map(|socket| socket.gid).or_else(|| Some(Group::from_name(configured?).ok()??.gid.as_raw()));
        let passes = |path: &Path| owned(path).is_none_or(|directory| may(directory, user.uid.as_raw(), &all, 0o1));
        let is_privileged = user.uid.is_root() || user.uid == host.user.uid;
        Self {
            is_known: true,
            // root's own group is no group that anybody is put into for the socket.
            is_member: group.is_some_and(|group| group != 0 && all.contains(&group)),
            connects: socket.is_some_and(|socket| may(socket, user.uid.as_raw(), &all, 0o2))
                && host.socket.ancestors().skip(1).all(passes),
            is_older: false,
            is_allowed: is_privileged || host.settings.socket.allowed_users.iter().any(|allowed| allowed == name),
        }
    }

    /// That of gitlab-runner's unit: of its process, where that runs.
    fn of_unit(host: &Host, unit: &runner_unit::Unit) -> Self {
        let access = Self::of(host, &unit.user, &unit.groups);
        let by_group = access.connects && access.is_member && unit.user != "root";
        let group = owned(&host.socket).map(|socket| socket.gid);
        let lacks = |groups: &Vec<u32>| group.is_some_and(|group| !groups.contains(&group));
        // Without the group only a socket for all lets it in.
        let needs_it = owned(&host.socket).is_some_and(|socket| socket.mode & 0o002 == 0);
        Self { is_older: by_group && needs_it && unit.process_groups.as_ref().is_some_and(lacks), ..access }
    }

    /// Whether the user's calls are answered.
    pub fn may_call(self) -> bool {
        self.connects && self.is_allowed
    }
}

fn owned(path: &Path) -> Option<Owned> {
    let about = std::fs::metadata(path).ok()?;
    Some(Owned { uid: about.uid(), gid: about.gid(), mode: about.mode() })
}

/// Whether a user with these groups has a permission (1, 2 or 4) on something.
fn may(what: Owned, uid: u32, groups: &[u32], permission: u32) -> bool {
    let shift = match () {
        () if uid == 0 => return true,
        () if uid == what.uid => 6,
        () if groups.contains(&what.gid) => 3,
        () => 0,
    };
    (what.mode >> shift) & permission == permission
}

/// What the judge needs.
struct Facts {
    path: String,
    about: Option<Owned>,
    is_socket: bool,
    service: String,
    /// Whether the socket's owner is one of the service's own.
    is_own: bool,
    /// The name of the socket's group and of its members.
    group: Option<(String, Vec<String>)>,
    /// Whether a group of callers is meant to bound who connects.
    wants_group: bool,
    /// Whether it is systemd that makes the socket.
    by_unit: bool,
    allowed: Vec<String>,
    /// Whom gitlab-runner's executables run as.
    callers: Vec<(String, Access)>,
}

/// Looks at it.
pub async fn check(host: &Host) -> Vec<Finding> {
    let settings = &host.settings.socket;
    let unit = match host.systemd {
        true => runner_unit::look().await,
        false => None,
    };
    let callers = match unit {
        Some(unit) => vec![(unit.user.clone(), Access::of_unit(host, &unit))],
        None => settings.allowed_users.iter().map(|name| (name.clone(), Access::of(host, name, &[]))).collect(),
    };
    let about = owned(&host.socket);
    let group = about.and_then(|about| Group::from_gid(Gid::from_raw(about.gid)).ok().flatten());
    let by_unit = host.files.has("/usr/lib/systemd/system/windlass.socket");
    judge(&Facts {
        path: host.socket.display().to_string(),
        about,
        is_socket: std::fs::metadata(&host.socket).is_ok_and(|about| about.file_type().is_socket()),
        service: host.user.name.clone(),
        is_own: about.is_some_and(|about| host.is_own(about.uid)),
        group: group.map(|group| (group.name, group.mem)),
        wants_group: settings.group.is_some() || by_unit,
        by_unit,
        allowed: settings.allowed_users.clone(),
        callers,
    })
}

fn judge(facts: &Facts) -> Vec<Finding> {
    let path = &facts.path;
    let Some(about) = facts.about.filter(|_| facts.is_socket) else {
        return vec![Finding::error(
            "socket",
            format!("there is no socket {path}"),
            "gitlab-runner's executables wait for it up to daemon_wait, and the job fails then",
            "systemctl enable --now windlass.socket windlass.service",
        )];
    };
    let mode = about.mode & 0o777;
    let mut findings = Vec::new();
    if about.uid != 0 && !facts.is_own {
        findings.push(Finding::error(
            "socket",
            format!("{path} belongs to user {}, and the service runs as {}", about.uid, facts.service),
            "another daemon answers there, or somebody else who gets the jobs' secrets",
            "systemctl restart windlass.socket windlass.service; --user says whom the service runs as",
        ));
    } else {
        findings.push(Finding::ok("socket", format!("{path} is there, with mode {mode:04o}")));
    }
    if mode & 0o002 != 0 && facts.wants_group {
        findings.push(Finding::warning(
            "socket-mode",
            format!("every user may connect to {path} (mode {mode:04o})"),
            "only [socket] allowed_users keeps others from claiming to be any project's job",
            if facts.by_unit { AGAIN } else { "[socket] group in windlass.toml; then systemctl restart windlass" },
        ));
    }
    let members = match (&facts.group, mode & 0o002) {
        (_, 0o002) => "every user of the host".to_owned(),
        (Some((name, members)), _) if mode & 0o020 != 0 => {
            let members = if members.is_empty() { "nobody but by their units".to_owned() } else { members.join(", ") };
            format!("group {name} ({members})")
        }
        _ => "nobody".to_owned(),
    };
    let (service, allowed) = (&facts.service, facts.allowed.join(", "));
    let allowed = if allowed.is_empty() { "nobody else".to_owned() } else { allowed };
    let what = format!("beside root and {service}: {members} may connect, {allowed} is answered");
    findings.push(Finding::ok("socket-users", what));
    for (name, access) in &facts.callers {
        findings.push(caller(path, name, *access));
    }
    findings
}

fn caller(path: &str, name: &str, access: Access) -> Finding {
    let fails = "each job of gitlab-runner's under this user fails";
    match access {
        Access { is_known: false, .. } => {
            Finding::skipped("socket-caller", format!("this host has no user {name}"), None)
        }
        Access { connects: false, .. } => Finding::error(
            "socket-caller",
            format!("user {name} can't connect to {path}"),
            fails,
            match access.is_member {
                // Its group is right, so its mode is not.
                true => AGAIN.to_owned(),
                false => {
                    format!("usermod -aG windlass-callers {name}; {AGAIN}; systemctl try-restart gitlab-runner.service")
                }
            },
        ),
        Access { is_older: true, .. } => Finding::error(
            "socket-caller",
            format!("user {name} may connect to {path}, and gitlab-runner, which runs since before that, may not"),
            fails,
            "systemctl restart gitlab-runner.service (it lets its jobs end first)",
        ),
        Access { is_allowed: false, .. } => Finding::error(
            "socket-caller",
            format!("user {name}, as whom gitlab-runner runs, is not answered"),
            fails,
            format!("add \"{name}\" to [socket] allowed_users in windlass.toml; then systemctl reload windlass"),
        ),
        _ => Finding::ok("socket-caller", format!("user {name} may call the daemon")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::{expect_remedies, level};
    use super::*;

    fn facts(mode: u32) -> Facts {
        let access = Access { is_known: true, is_member: true, connects: true, is_allowed: true, is_older: false };
        Facts {
            path: "/run/windlass/windlass.sock".into(),
            about: Some(Owned { uid: 7, gid: 8, mode }),
            is_socket: true,
            service: "w".into(),
            is_own: true,
            group: Some(("callers".into(), vec!["gitlab-runner".into()])),
            wants_group: true,
            by_unit: true,
            allowed: vec!["gitlab-runner".into()],
            callers: vec![("gitlab-runner".into(), access)],
        }
    }

    #[test]
    fn permissions_are_the_kernels() {
        let of = |mode| Owned { uid: 7, gid: 8, mode };
        assert!(may(of(0o660), 7, &[], 2) && may(of(0o660), 9, &[8], 2) && may(of(0), 0, &[], 2));
        assert!(!may(of(0o660), 9, &[], 2) && may(of(0o666), 9, &[], 2));
        assert!(!may(of(0o606), 9, &[8], 2), "a group that may not keeps its members out");
    }

    #[test]
    fn a_socket_for_its_group_alone_is_ok() {
        let findings = judge(&facts(0o660));
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:#?}");
        assert!(findings[1].what.contains("group callers (gitlab-runner) may connect"), "{findings:#?}");
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        let open = judge(&facts(0o666));
        assert_eq!(level(&open, "socket-mode"), Level::Warning);
        let meant = judge(&Facts { wants_group: false, ..facts(0o666) });
        assert!(meant.iter().all(|finding| finding.level == Level::Ok), "without a group allowed_users decides");
        let gone = judge(&Facts { about: None, ..facts(0) });
        let other = judge(&Facts { is_own: false, ..facts(0o660) });
        assert_eq!((level(&gone, "socket"), level(&other, "socket")), (Level::Error, Level::Error));
        let out = |access| judge(&Facts { callers: vec![("r".into(), access)], ..facts(0o660) });
        let known = Access { is_known: true, ..Access::default() };
        let refused = [out(known), out(Access { connects: true, ..known })].concat();
        let older = out(Access { is_member: true, connects: true, is_allowed: true, is_older: true, ..known });
        assert_eq!(level(&older, "socket-caller"), Level::Error);
        let member = out(Access { is_member: true, ..known });
        let words = |findings: &[Finding]| {
            let found = findings.iter().find(|finding| finding.check == "socket-caller");
            found.and_then(|finding| finding.remedy.clone()).unwrap_or_default()
        };
        assert_eq!(words(&member), AGAIN, "who is in the group stays in it");
        assert!(words(&refused).contains("usermod -aG windlass-callers r"), "{refused:#?}");
        assert_eq!(refused.iter().filter(|finding| finding.level == Level::Error).count(), 2);
        assert_eq!(level(&out(Access::default()), "socket-caller"), Level::Skipped);
        expect_remedies(&[open, gone, other, refused].concat());
    }
}
