//! Where this host is in the feed, over restarts: `<state directory>/feed.json`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::sys::files::{Survives, write_atomically};
use crate::update::state::State;

/// Where it is, and in which feed: another's ids mean nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    feed: String,
    id: String,
}

fn path(state: &State) -> PathBuf {
    state.directory().join("feed.json")
}

/// From where to go on; none: from now on.
#[must_use]
pub fn read(state: &State, feed: &str) -> Option<String> {
    let text = std::fs::read_to_string(path(state)).ok()?;
    // A file that can't be read is a host that has heard nothing yet: everything is looked at once.
    let place: Place = serde_json::from_str(&text).ok()?;
    (place.feed == feed).then_some(place.id)
}

/// Notes from where to go on.
///
/// # Errors
/// When it can't be written.
pub fn write(state: &State, feed: &str, id: &str) -> Result<()> {
    state.make()?;
    let text = serde_json::to_vec(&Place { feed: feed.to_owned(), id: id.to_owned() })?;
    let path = path(state);
    write_atomically(&path, &text, 0o600, Survives::PowerLoss).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_of_one_feed() {
        let directory = tempfile::tempdir().expect("tempdir");
        let state = State::new(&directory.path().join("state"));
        assert_eq!(read(&state, "https://a/feed"), None);
        write(&state, "https://a/feed", "ab-7").expect("written");
        assert_eq!(read(&state, "https://a/feed").as_deref(), Some("ab-7"));
        assert_eq!(read(&state, "https://b/feed"), None);
        std::fs::write(path(&state), "{").expect("torn");
        assert_eq!(read(&state, "https://a/feed"), None);
    }
}
