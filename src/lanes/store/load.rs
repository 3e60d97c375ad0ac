//! What is there when the daemon starts.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::{Lanes, NEW, State, TRASH, clock_file};
use crate::lanes::clock::{Clock, Reading};
use crate::lanes::names::{Home, LaneId, Part};
use crate::lanes::record::{self, Record};
use crate::protocol::files::Measured;
use crate::sys::files::make_directory;
use crate::sys::selinux::{Containers, make_directory_for_containers};

impl Lanes {
    /// Reads the records. What a crash of the host has left in doubt goes to the trash.
    ///
    /// # Errors
    /// When the directory can't be read or written.
    pub fn load(directory: &Path, reading: Reading) -> Result<Self> {
        make_directory_for_containers(directory, 0o711, Containers::Write)?;
        make_directory(&directory.join(TRASH), 0o700)?;
        let boot = reading.boot.clone();
        let known = fs::read(clock_file(directory)).ok().and_then(|bytes| serde_json::from_slice::<Clock>(&bytes).ok());
        let lost = known.is_none();
        let clock = known.unwrap_or_else(|| Clock::new(reading.clone()));
        let state = State {
            clock,
            homes: HashMap::new(),
            lanes: BTreeMap::new(),
            holders: BTreeMap::new(),
            trash: Measured::default(),
            serial: now_in_nanoseconds(),
        };
        let lanes = Self { directory: directory.to_owned(), boot, state: Mutex::new(state) };
        let mut doubtful = Vec::new();
        {
            let mut state = lanes.state();
            for instance in directories(directory)? {
                for home in directories(&directory.join(&instance))? {
                    lanes.load_home(&mut state, &Path::new(&instance).join(home), &mut doubtful)?;
                }
            }
            if lost {
                let newest = state.lanes.values().map(|record| record.last_use).max();
                newest.into_iter().for_each(|time| state.clock.at_least(time));
            }
            state.clock.advance(reading);
        }
        lanes.count_trash()?;
        for id in doubtful {
            tracing::info!(lane = %id, "a job used it when the host went down: it is removed");
            lanes.discard(&id)?;
        }
        Ok(lanes)
    }

    /// What an earlier daemon did not come to remove is on its way to be free.
    fn count_trash(&self) -> Result<()> {
        let trash = self.trash();
        for name in directories(&trash)? {
            let record = read_json::<Record>(&trash.join(name).join("lane.json"));
            if let Some(size) = record.and_then(|record| record.size) {
                let mut state = self.state();
                state.trash.bytes += size.bytes;
                state.trash.inodes += size.inodes;
            }
        }
        Ok(())
    }

    fn load_home(&self, state: &mut State, path: &Path, doubtful: &mut Vec<LaneId>) -> Result<()> {
        let directory = self.directory.join(path);
        let Some(home) = read_json::<Home>(&directory.join("home.json")).filter(|home| home.directory() == path) else {
            tracing::warn!("{} is no lane of ours and is left alone", directory.display());
            return Ok(());
        };
        for name in directories(&directory)? {
            let at = directory.join(&name);
            if name.starts_with(NEW) {
                self.throw(state, &at)?;
                continue;
            }
            let Some(part) = Part::parse(&name) else {
                tracing::warn!("{} is no lane of ours and is left alone", at.display());
                continue;
            };
            let file = at.join("lane.json");
            if record::is_of_later_release(&fs::read(&file).unwrap_or_default()) {
                tracing::warn!(
                    "{} was written by a later release of Windlass: the lane is left alone, and no job of this one uses it",
                    file.display()
                );
                continue;
            }
            let Some(record) = read_json::<Record>(&file) else {
                // A record that is damaged was lost with the host's power; what never had one is somebody else's.
                if file.exists() {
                    tracing::warn!("{} can't be read: the lane is removed", file.display());
                    self.throw(state, &at)?;
                } else {
                    tracing::warn!("{} is no lane of ours and is left alone", at.display());
                }
                continue;
            };
            let id = LaneId { home: path.to_owned(), part };
            // An archive is whole or not there; a clone, or storage of images, may be anything.
            if record.in_use.as_ref().is_some_and(|boot| *boot != self.boot) && part != Part::Cache {
                doubtful.push(id.clone());
            }
            state.lanes.insert(id, record);
        }
        state.homes.insert(path.to_owned(), home);
        Ok(())
    }
}

/// Where names in the trash begin to count: two daemons, before and after a reboot, must not use the same.
fn now_in_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// The names of directories in a directory; links are none, and hidden ones are ours only where they are being made.
fn directories(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let entry = entry.with_context(|| format!("read {}", path.display()))?;
        let name = entry.file_name().into_string().unwrap_or_default();
        let hidden = name.starts_with('.') && !name.starts_with(NEW);
        if !name.is_empty() && !hidden && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.push(name);
        }
    }
    Ok(names)
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
