//! What valid settings name that this host does not have. Warnings, since it may come later, or through a directory
//! service that is away for the moment.

use nix::unistd::{Group, User};

use super::Settings;

/// What to tell the administrator, one sentence for each.
#[must_use]
pub fn warnings(settings: &Settings) -> Vec<String> {
    let user = |name: &str| User::from_name(name).map(|user| user.is_some()).map_err(|error| error.to_string());
    let group = |name: &str| Group::from_name(name).map(|group| group.is_some()).map_err(|error| error.to_string());
    missing(settings, &user, &group)
}

/// Says whether there is such a name, or why that can't be said.
type Lookup<'a> = &'a dyn Fn(&str) -> Result<bool, String>;

fn missing(settings: &Settings, user: Lookup<'_>, group: Lookup<'_>) -> Vec<String> {
    let users = settings.socket.allowed_users.iter().filter_map(|name| {
        sentence("socket.allowed_users", "user", name, user(name), "nobody can call the daemon under that name")
    });
    let of_callers = settings.socket.group.iter().filter_map(|name| {
        sentence("socket.group", "group", name, group(name), "the daemon can't give its socket to that group")
    });
    let readers = settings.metrics.group.iter().filter_map(|name| {
        sentence(
            "metrics.group",
            "group",
            name,
            group(name),
            "the daemon can't give the socket of its figures to that group",
        )
    });
    users.chain(of_callers).chain(readers).collect()
}

fn sentence(key: &str, kind: &str, name: &str, found: Result<bool, String>, effect: &str) -> Option<String> {
    match found {
        Ok(true) => None,
        Ok(false) => Some(format!("{key}: this host has no {kind} {name:?}, so {effect}")),
        Err(error) => Some(format!("{key}: the {kind} {name:?} can't be looked up: {error}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn names_that_the_host_does_not_have_are_reported() {
        let text = "[socket]\nallowed_users = [\"here\", \"gone\", \"ask\"]\ngroup = \"nogroup-here\"\n[metrics]\ngroup = \"readers\"\n";
        let settings = super::super::parse(std::path::Path::new("x.toml"), text).unwrap();
        let user = |name: &str| if name == "ask" { Err("no route".to_owned()) } else { Ok(name == "here") };
        let found = missing(&settings, &user, &|_| Ok(false));
        assert_eq!(
            found,
            [
                "socket.allowed_users: this host has no user \"gone\", so nobody can call the daemon under that name",
                "socket.allowed_users: the user \"ask\" can't be looked up: no route",
                "socket.group: this host has no group \"nogroup-here\", so the daemon can't give its socket to that group",
                "metrics.group: this host has no group \"readers\", so the daemon can't give the socket of its figures to that group",
            ]
        );
    }

    #[test]
    fn the_host_is_asked_for_users_and_groups() {
        let text = "[socket]\nallowed_users = [\"root\", \"no-such-user-0\"]\ngroup = \"root\"\n";
        let settings = super::super::parse(std::path::Path::new("x.toml"), text).unwrap();
        let found = warnings(&settings);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("no-such-user-0"), "{found:?}");
    }
}
