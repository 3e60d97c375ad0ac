//! What a running daemon takes over of a changed configuration, and what of it has to wait for a restart.

use std::collections::BTreeMap;

use super::settings::{Settings, SocketSettings, UserNamespace};
use super::tree::show_key;

/// The keys and tables that a running daemon takes over. All others need a restart: what runs depends on them.
const TAKEN_OVER: [&str; 11] = [
    "slots",
    "slot_wait",
    "socket.allowed_users",
    "socket.max_connections",
    "socket.daemon_wait",
    "lanes",
    "purge",
    "hold",
    "job",
    "policy",
    "profile",
];

/// A configuration that has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is in effect from now on.
    pub settings: Settings,
    /// The keys that are taken over.
    pub taken_over: Vec<String>,
    /// The keys that have changed too, and wait for a restart.
    pub waiting: Vec<String>,
}

impl Change {
    /// For a daemon that has no part that runs jobs: it gets one at a start.
    pub fn without_jobs(&mut self) {
        if self.settings.runs_jobs() {
            let is_slots = |key: &String| key == "slots" || key.ends_with(".slots");
            self.waiting.extend(self.taken_over.extract_if(.., |key| is_slots(key)));
            self.settings.profiles.values_mut().for_each(|profile| profile.slots = 0);
        }
    }
}

/// Compares what is in effect with what was read.
///
/// # Errors
/// Why nothing of it can be taken over, in words.
pub fn change(now: &Settings, read: Settings) -> Result<Change, String> {
    let (waiting, taken_over) = different(now, &read).into_iter().partition(|key| !is_taken_over(key));
    let settings = Settings {
        profiles: read.profiles,
        lanes: read.lanes,
        purge: read.purge,
        hold: read.hold,
        socket: SocketSettings {
            allowed_users: read.socket.allowed_users,
            max_connections: read.socket.max_connections,
            daemon_wait: read.socket.daemon_wait,
            ..now.socket.clone()
        },
        ..now.clone()
    };
    let slots: u32 = settings.profiles.values().map(|profile| profile.slots).sum();
    if let UserNamespace::Separate { ranges, .. } = settings.podman.user_namespace
        && ranges < slots
    {
        return Err(format!(
            "there are {slots} slots in all but podman.user_namespace_ranges is {ranges} until windlassd is restarted"
        ));
    }
    Ok(Change { settings, taken_over, waiting })
}

fn is_taken_over(key: &str) -> bool {
    let mut tables = TAKEN_OVER.into_iter();
    tables.any(|table| key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The keys that have another value in one than in the other.
fn different(one: &Settings, other: &Settings) -> Vec<String> {
    let (one, other) = (keys(one), keys(other));
    let mut names: Vec<&String> =
        one.keys().chain(other.keys()).filter(|key| one.get(*key) != other.get(*key)).collect();
    names.sort();
    names.dedup();
    names.into_iter().cloned().collect()
}

/// All keys with their values, as `windlass check` shows them.
fn keys(settings: &Settings) -> BTreeMap<String, toml::Value> {
    let mut found = BTreeMap::new();
    let text = super::to_toml(settings).unwrap_or_default();
    walk("", text.parse().unwrap_or_default(), &mut found);
    found
}

fn walk(header: &str, table: toml::Table, found: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        let key = super::schema::join(header, &show_key(&name));
        match value {
            toml::Value::Table(inner) => walk(&key, inner, found),
            value => drop(found.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use std::path::Path;

    use super::*;

    fn settings(text: &str) -> Settings {
        crate::config::parse(Path::new("w.toml"), text).unwrap()
    }

    #[test]
    fn what_is_for_new_jobs_is_taken_over_and_the_rest_named() {
        let now = settings("slots = 3\n[job]\nmemory = '1 GiB'\n");
        let read = settings(
            "slots = 4\nstate_dir = '/x'\n[socket]\nallowed_users = ['a']\ngroup = 'g'\n[podman]\ntimeout = '5m'\n[profile.big]\n",
        );
        let change = change(&now, read.clone()).unwrap();
        assert_eq!(change.waiting, ["podman.timeout", "socket.group", "state_dir"]);
        for key in ["job.memory", "slots", "socket.allowed_users", "profile.big.slots"] {
            assert!(change.taken_over.iter().any(|taken| taken == key), "{key} in {:?}", change.taken_over);
        }
        assert_eq!(change.settings.profiles, read.profiles);
        assert_eq!((&change.settings.state_dir, &change.settings.podman), (&now.state_dir, &now.podman));
        assert_eq!((change.settings.socket.allowed_users, change.settings.socket.group), (vec!["a".to_owned()], None));
    }

    #[test]
    fn what_is_said_to_be_taken_over_is_exactly_what_changes() {
        let now = settings("");
        let text = crate::config::tests::uncommented();
        let change = change(&now, settings(&text)).unwrap();
        assert!(change.taken_over.len() > 50 && !change.waiting.is_empty(), "{change:?}");
        assert_eq!(different(&now, &change.settings), change.taken_over);
    }

    #[test]
    fn a_daemon_without_jobs_gets_slots_at_a_restart() {
        let chain = "[gitlab]\nurl = 'https://gitlab.example.com'\n[chain]\ngroups = ['images']\n";
        let now = settings(&format!("slots = 0\n{chain}"));
        let read = || settings(&format!("slots = 3\nsocket.allowed_users = ['a']\n{chain}"));
        let mut change = change(&now, read()).unwrap();
        change.without_jobs();
        assert_eq!(
            (change.taken_over, change.waiting),
            (vec!["socket.allowed_users".to_owned()], vec!["slots".to_owned()])
        );
        let mut again = super::change(&change.settings, read()).unwrap();
        again.without_jobs();
        assert_eq!(
            (again.taken_over, again.waiting),
            (vec![], vec!["slots".to_owned()]),
            "it is said as long as it is so"
        );
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let now = settings("slots = 3\n");
        let change = change(&now, now.clone()).unwrap();
        assert_eq!((change.settings, change.taken_over, change.waiting), (now, vec![], vec![]));
    }

    #[test]
    fn more_slots_than_ranges_of_user_ids_wait_for_a_restart() {
        let now = settings("podman.user_namespace_ranges = 4\n");
        let refused = change(&now, settings("slots = 5\n")).unwrap_err();
        assert!(refused.contains("5 slots") && refused.contains("user_namespace_ranges is 4"), "{refused}");
    }
}
