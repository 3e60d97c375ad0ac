//! What podman finds in its environment: little of the daemon's own, and what a user's session would have.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid};

use super::Account;

/// What podman gets of the daemon's environment. Not TMPDIR, NOTIFY_SOCKET or LISTEN_FDS: podman would act on them.
const INHERITED: [&str; 4] = ["HOME", "PATH", RUNTIME_DIRECTORY, BUS];
const RUNTIME_DIRECTORY: &str = "XDG_RUNTIME_DIR";
const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";

/// podman's environment, before what the configuration adds.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    complete(|name| std::env::var_os(name), own_directory(geteuid()))
}

/// The same for a podman that runs as another user: of this process's environment only PATH means anything to it.
pub(super) fn environment_of(account: &Account) -> Vec<(OsString, OsString)> {
    let get = |name: &str| match name {
        "HOME" => Some(account.home.clone().into_os_string()),
        "PATH" => std::env::var_os(name),
        _ => None,
    };
    complete(get, own_directory(account.uid))
}

/// The runtime directory of an ordinary user whose manager runs.
fn own_directory(user: Uid) -> Option<PathBuf> {
    let own = Path::new("/run/user").join(user.to_string());
    let is_own = std::fs::metadata(&own).is_ok_and(|about| about.uid() == user.as_raw());
    (is_own && !user.is_root()).then_some(own)
}

/// `own`: the runtime directory of an ordinary user whose manager runs. A system service has no variables that name it, and without
/// it podman would keep its state elsewhere and find no systemd that makes cgroups.
fn complete(get: impl Fn(&str) -> Option<OsString>, own: Option<PathBuf>) -> Vec<(OsString, OsString)> {
    let mut found: Vec<(OsString, OsString)> =
        INHERITED.into_iter().filter_map(|name| Some((name.into(), get(name)?))).collect();
    let Some(own) = own.filter(|_| get(RUNTIME_DIRECTORY).is_none()) else { return found };
    if get(BUS).is_none() {
        let mut address = OsString::from("unix:path=");
        address.push(own.join("bus"));
        found.push((BUS.into(), address));
    }
    found.push((RUNTIME_DIRECTORY.into(), own.into()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(set: &[(&str, &str)], own: Option<&str>) -> Vec<String> {
        let get = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let found = complete(get, own.map(PathBuf::from)).into_iter();
        found.map(|(key, value)| format!("{}={}", key.display(), value.display())).collect()
    }

    #[test]
    fn a_system_service_finds_its_users_manager() {
        let found = given(&[("PATH", "/bin"), ("NOTIFY_SOCKET", "/x")], Some("/run/user/7"));
        let expected =
            ["PATH=/bin", "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/7/bus", "XDG_RUNTIME_DIR=/run/user/7"];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_set_counts() {
        assert_eq!(given(&[("XDG_RUNTIME_DIR", "/y")], Some("/run/user/7")), ["XDG_RUNTIME_DIR=/y"]);
        assert_eq!(given(&[("HOME", "/root")], None), ["HOME=/root"]);
    }
}
