//! Which images from before are kept, and which go. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the names of kept images begin with. Under any other name nothing is ever removed.
pub const PREFIX: &str = "localhost/windlass-update/";

/// An image that ran before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Of which container.
    pub container: String,
    /// The name that it is kept by.
    pub name: String,
    /// Its id.
    pub image: String,
    /// Since when.
    pub since: Timestamp,
}

/// The name that an image of a container is kept by.
#[must_use]
pub fn name_for(container: &str, image: &str) -> String {
    let plain = |character: char| match character.to_ascii_lowercase() {
        character if character.is_ascii_alphanumeric() => character,
        _ => '-',
    };
    let container: String = container.chars().map(plain).collect();
    let container = container.trim_matches('-');
    let id: String = image.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    format!("{PREFIX}{}:{id}", if container.is_empty() { "container" } else { container })
}

/// Notes one more, as the newest.
pub fn keep(all: &mut Vec<Kept>, new: Kept) {
    all.retain(|kept| kept.name != new.name);
    all.push(new);
}

/// Those that go, where `most` are kept for each container.
#[must_use]
pub fn surplus(all: &[Kept], most: usize) -> Vec<Kept> {
    let newer =
        |kept: &Kept| all.iter().filter(|other| other.container == kept.container && other.since > kept.since).count();
    all.iter().filter(|kept| newer(kept) >= most).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(container: &str, image: &str, since: i64) -> Kept {
        Kept {
            container: container.to_owned(),
            name: name_for(container, image),
            image: image.to_owned(),
            since: Timestamp::from_second(since).expect("a time"),
        }
    }

    #[test]
    fn the_newest_of_each_container_stay() {
        let all = [kept("a", "1", 1), kept("a", "2", 2), kept("b", "3", 1), kept("a", "4", 3)];
        assert_eq!(surplus(&all, 1), [all[0].clone(), all[1].clone()]);
        assert_eq!(surplus(&all, 2), [all[0].clone()]);
        assert_eq!(surplus(&all, 0).len(), 4);
    }

    #[test]
    fn an_image_that_ran_before_once_more_is_kept_once() {
        let mut all = vec![kept("a", "1", 1), kept("a", "2", 2)];
        keep(&mut all, kept("a", "1", 3));
        assert_eq!(surplus(&all, 1), [kept("a", "2", 2)]);
    }

    #[test]
    fn the_name_of_a_kept_image_is_one_that_podman_takes() {
        assert_eq!(name_for("My_Web.1", "0123456789abcdef"), "localhost/windlass-update/my-web-1:0123456789ab");
        assert_eq!(name_for("___", "01"), "localhost/windlass-update/container:01");
    }
}
