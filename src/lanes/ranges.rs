//! Which range of user ids on the host a key's jobs get (rootful podman): one each, the same for every job, so that files
//! that one leaves mean the same to the next and nothing to other projects.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::Key;
use crate::sys::files;

/// A use this much later than the one on record is written down, in seconds.
const RECORD_EVERY: u64 = 3600;

/// The ranges given out.
#[derive(Debug)]
pub struct Ranges {
    file: PathBuf,
    table: Table,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    ranges: BTreeMap<String, Range>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    index: u32,
    /// Seconds since 1970.
    last_use: u64,
}

impl Ranges {
    /// Reads the ranges from the state directory.
    ///
    /// # Errors
    /// When the file is there and can't be read: then nobody knows whose files are whose.
    pub fn load(state_dir: &Path) -> Result<Self> {
        let file = state_dir.join("user-ranges.json");
        let table = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("read {}: it is damaged; remove it together with the lanes", file.display())
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::default(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        Ok(Self { file, table })
    }

    /// The number of a key's range, out of `count`, and who had it before. When all are taken, the one that was unused longest
    /// changes hands, but none of `busy`.
    ///
    /// # Errors
    /// When all are busy, or the choice can't be written down.
    pub fn index(&mut self, key: &Key, count: u32, busy: &BTreeSet<Key>) -> Result<(u32, Option<String>)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let busy: BTreeSet<String> = busy.iter().map(Key::to_string).collect();
        let before = self.table.clone();
        let Some((index, changed)) = self.table.choose(&key.to_string(), count, &busy, now) else {
            bail!("all {count} user id ranges are in use; [podman] user_namespace_ranges sets how many there are");
        };
        if changed
            && let Err(error) = files::write_atomically(
                &self.file,
                &serde_json::to_vec(&self.table)?,
                0o600,
                files::Survives::PowerLoss,
            )
        {
            self.table = before;
            return Err(error).with_context(|| format!("write {}", self.file.display()));
        }
        let range =
            |table: &Table| table.ranges.iter().find(|(_, range)| range.index == index).map(|(owner, _)| owner.clone());
        Ok((index, range(&before).filter(|owner| *owner != key.to_string())))
    }
}

impl Table {
    /// The index, and whether the table has changed.
    fn choose(&mut self, key: &str, count: u32, busy: &BTreeSet<String>, now: u64) -> Option<(u32, bool)> {
        if let Some(range) = self.ranges.get_mut(key)
            && range.index < count
        {
            let changed = now.abs_diff(range.last_use) >= RECORD_EVERY;
            if changed {
                range.last_use = now;
            }
            return Some((range.index, changed));
        }
        let taken: BTreeSet<u32> = self.ranges.values().map(|range| range.index).collect();
        let free = (0..count).find(|index| !taken.contains(index));
        let index = free.or_else(|| {
            let idle = self.ranges.iter().filter(|(owner, range)| range.index < count && !busy.contains(*owner));
            let (owner, range) = idle.min_by_key(|(_, range)| range.last_use)?;
            let (owner, index) = (owner.clone(), range.index);
            self.ranges.remove(&owner);
            Some(index)
        })?;
        self.ranges.insert(key.to_owned(), Range { index, last_use: now });
        Some((index, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(project: i64) -> Key {
        Key { instance: "gitlab.example.com".into(), project, protected: false }
    }

    #[test]
    fn a_key_keeps_its_range_over_restarts() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut ranges = Ranges::load(directory.path()).expect("load");
        let none = BTreeSet::new();
        assert_eq!(ranges.index(&key(7), 8, &none).expect("index").0, 0);
        assert_eq!(ranges.index(&key(8), 8, &none).expect("index").0, 1);
        let protected = Key { protected: true, ..key(7) };
        assert_eq!(ranges.index(&protected, 8, &none).expect("index").0, 2);
        let mut again = Ranges::load(directory.path()).expect("load");
        assert_eq!(again.index(&key(8), 8, &none).expect("index").0, 1);
    }

    #[test]
    fn the_range_unused_longest_changes_hands_but_never_a_busy_one() {
        let mut table = Table::default();
        let busy: BTreeSet<String> = ["a".to_owned()].into();
        for (time, owner) in ["a", "b", "c"].into_iter().enumerate() {
            table.choose(owner, 3, &busy, time as u64);
        }
        assert_eq!(table.choose("d", 3, &busy, 10), Some((1, true)), "b's");
        let all: BTreeSet<String> = ["a", "c", "d"].map(str::to_owned).into();
        assert_eq!(table.choose("e", 3, &all, 11), None);
    }

    #[test]
    fn whose_a_range_was_is_told() {
        let directory = tempfile::tempdir().expect("tempdir");
        let mut ranges = Ranges::load(directory.path()).expect("load");
        let none = BTreeSet::new();
        assert_eq!(ranges.index(&key(7), 1, &none).expect("index"), (0, None));
        assert_eq!(ranges.index(&key(7), 1, &none).expect("index"), (0, None));
        assert_eq!(ranges.index(&key(8), 1, &none).expect("index"), (0, Some(key(7).to_string())));
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let directory = tempfile::tempdir().expect("tempdir");
        std::fs::write(directory.path().join("user-ranges.json"), "{").expect("write");
        assert!(format!("{:#}", Ranges::load(directory.path()).expect_err("damaged")).contains("damaged"));
    }
}
