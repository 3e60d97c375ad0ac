//! Who a caller is, in words for the log: the user that the kernel names, and whoever logged in as another first (sudo, su).

use std::fmt;

use nix::unistd::{Uid, User};

/// What the kernel shows for a process that nobody has logged in for (audit's `AUDIT_UID_UNSET`).
const NOBODY: u32 = u32::MAX;

/// A caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    user: String,
    login: Option<String>,
}

impl Caller {
    /// Who a process is. Names are looked up, which may take a while.
    pub fn look_up(uid: u32, pid: Option<i32>) -> Self {
        let login = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok());
        Self::from_ids(uid, login.as_deref(), |uid| {
            User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
        })
    }

    /// `login`: the content of /proc/PID/loginuid.
    fn from_ids(uid: u32, login: Option<&str>, name: impl Fn(u32) -> Option<String>) -> Self {
        let shown = |uid: u32| match name(uid) {
            Some(name) => format!("{name} (uid {uid})"),
            None => format!("uid {uid}"),
        };
        let login = login.and_then(|text| text.trim().parse().ok()).filter(|login| *login != NOBODY && *login != uid);
        Self { user: shown(uid), login: login.map(shown) }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.login {
            Some(login) => write!(f, "{}, logged in as {login}", self.user),
            None => f.write_str(&self.user),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uid: u32, login: Option<&str>) -> String {
        let name =
            |uid| [(0, "root"), (1000, "alice")].iter().find(|(id, _)| *id == uid).map(|(_, name)| (*name).into());
        Caller::from_ids(uid, login, name).to_string()
    }

    #[test]
    fn who_is_behind_sudo_is_named() {
        assert_eq!(shown(0, Some("1000\n")), "root (uid 0), logged in as alice (uid 1000)");
        assert_eq!(shown(0, Some("7")), "root (uid 0), logged in as uid 7");
    }

    #[test]
    fn nobody_is_made_up() {
        for login in [None, Some("4294967295"), Some("0"), Some("")] {
            assert_eq!(shown(0, login), "root (uid 0)", "{login:?}");
        }
        assert_eq!(shown(77, None), "uid 77");
    }
}
