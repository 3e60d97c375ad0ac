//! The image's USER, looked up in the image's own passwd and group files.
//!
//! The files belong to the image, so to whoever wrote the job: they are read with bounds, and never through NSS.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::sys::process::Identity;

/// Longest passwd or group file that is read, in bytes.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// Who a stage runs as, and where that user is at home.
#[derive(Debug, PartialEq, Eq)]
pub struct User {
    /// Ids.
    pub identity: Identity,
    /// Home directory; `/` for a user that the image does not know.
    pub home: String,
}

/// Finds USER in the container's /etc/passwd and /etc/group.
///
/// # Errors
/// A message that names the user or group that the image lacks.
pub fn find(user: &str) -> Result<User, String> {
    resolve(user, &read(Path::new("/etc/passwd")), &read(Path::new("/etc/group")))
}

/// Adds groups, by number or by name in the container's /etc/group.
///
/// # Errors
/// A message that names the group that the image lacks.
pub fn add_groups(identity: &mut Identity, groups: &[String]) -> Result<(), String> {
    if groups.is_empty() {
        return Ok(());
    }
    let known = read(Path::new("/etc/group"));
    for group in groups {
        let gid = find_group(group, &known)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(())
}

/// A file that is missing or no regular file is empty: numeric users need none.
fn read(path: &Path) -> String {
    let mut text = Vec::new();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        // What could be read before an error counts.
        let _ = file.take(FILE_MAX).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// USER as Docker reads it: a group given explicitly replaces the user's own and its supplementary groups; a number that
/// no line of passwd has is taken as it is, with group 0.
fn resolve(user: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let known = passwd.lines().filter_map(passwd_line).find(|line| line.name == user || user.parse() == Ok(line.uid));
    let (uid, gid, name, home) = match (&known, user.parse()) {
        (Some(line), _) => (line.uid, line.gid, line.name, line.home),
        (None, Ok(uid)) => (uid, 0, "", "/"),
        (None, Err(_)) => return Err(format!("the image has no user {user:?} in its /etc/passwd")),
    };
    let (gid, groups) = match wanted_group {
        None => (gid, supplementary(name, gid, group)),
        Some(wanted) => (find_group(wanted, group)?, Vec::new()),
    };
    let home = if home.is_empty() { "/" } else { home };
    Ok(User { identity: Identity { uid, gid, groups }, home: home.to_owned() })
}

fn passwd_line(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Passwd { name, uid, gid, home: fields.nth(1)? })
}

fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next().unwrap_or("")))
}

fn find_group(wanted: &str, group: &str) -> Result<u32, String> {
    let known =
        group.lines().filter_map(group_line).find(|(name, gid, _)| *name == wanted || wanted.parse() == Ok(*gid));
    match (known, wanted.parse()) {
        (Some((_, gid, _)), _) => Ok(gid),
        (None, Ok(gid)) => Ok(gid),
        (None, Err(_)) => Err(format!("the image has no group {wanted:?} in its /etc/group")),
    }
}

fn supplementary(name: &str, gid: u32, group: &str) -> Vec<u32> {
    let mut groups: Vec<u32> = group
        .lines()
        .filter_map(group_line)
        .filter(|(_, _, members)| !name.is_empty() && members.split(',').any(|member| member == name))
        .map(|(_, gid, _)| gid)
        .collect();
    groups.push(gid);
    groups.sort_unstable();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken line\napp:x:1234:100:App:/home/app:/bin/sh\nbare:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nusers:x:100:\nwheel:x:10:root,app\nadm:x:4:app\n";

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let User { identity, home } = resolve(user, PASSWD, GROUP).expect(user);
        (identity.uid, identity.gid, identity.groups, home)
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        assert_eq!(ids("app"), (1234, 100, vec![4, 10, 100], "/home/app".into()));
        assert_eq!(ids("1234"), ids("app"));
        assert_eq!(ids("bare"), (7, 7, vec![7], "/".into()));
    }

    #[test]
    fn no_user_is_root() {
        assert_eq!(ids(""), (0, 0, vec![0, 10], "/root".into()));
        assert_eq!(ids(":100"), (0, 100, vec![], "/root".into()));
    }

    #[test]
    fn an_explicit_group_replaces_the_others() {
        assert_eq!(ids("app:wheel"), (1234, 10, vec![], "/home/app".into()));
        assert_eq!(ids("app:4242"), (1234, 4242, vec![], "/home/app".into()));
    }

    #[test]
    fn an_unknown_number_is_taken_as_it_is() {
        assert_eq!(ids("4000"), (4000, 0, vec![0], "/".into()));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_it() {
        assert!(resolve("nobody2", PASSWD, GROUP).expect_err("unknown").contains("nobody2"));
        assert!(resolve("app:nogroup", PASSWD, GROUP).expect_err("unknown").contains("nogroup"));
        assert!(resolve("4294967296", PASSWD, GROUP).is_err(), "no uid has 33 bits");
    }
}
