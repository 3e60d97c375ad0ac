//! The lanes of this host: a record in each directory, and all of them in memory, so that no question walks the disk.
//!
//! `<directory>/<instance>/<project>-<kind>/` is a home, with `home.json`; each part in it is a directory with `lane.json` and
//! `files/`, which jobs mount. What has no such record is not ours and is never touched.

mod load;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::Serialize;

use super::Key;
use super::clock::{Clock, Reading};
use super::names::{Home, LaneId, Part};
use super::record::{Record, VERSION};
use crate::protocol::files::Measured;
use crate::sys::files::{Survives, make_directory, write_atomically};

/// The directory in a lane that jobs mount.
pub const FILES: &str = "files";
/// Where lanes go before they are removed; no instance is called like this.
const TRASH: &str = ".trash";
/// How the name of a lane begins that is being made.
const NEW: &str = ".new-";

/// A lane in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The lane.
    pub id: LaneId,
    /// Whose it is.
    pub home: Home,
    /// What is known of it.
    pub record: Record,
    /// The leases that use it.
    pub holders: Vec<String>,
}

/// What was put into the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded {
    /// Bytes that its removal gives back, as far as known.
    pub bytes: u64,
    /// Seconds since a job used it.
    pub age: u64,
}

/// All lanes.
#[derive(Debug)]
pub struct Lanes {
    directory: PathBuf,
    boot: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    clock: Clock,
    homes: HashMap<PathBuf, Home>,
    lanes: BTreeMap<LaneId, Record>,
    /// Leases by the lane that they use; a lane may be used before it is there.
    holders: BTreeMap<LaneId, BTreeSet<String>>,
    /// What is in the trash, as far as known; removing it gives this back.
    trash: Measured,
    serial: u64,
}

impl Lanes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lanes' own time. It is written down now and then, so that ages last.
    pub fn now(&self) -> u64 {
        self.state().clock.advance(Reading::now())
    }

    /// Writes the lanes' time down.
    ///
    /// # Errors
    /// When that fails.
    pub fn save_clock(&self) -> io::Result<()> {
        let mut state = self.state();
        state.clock.advance(Reading::now());
        let bytes = serde_json::to_vec(&state.clock).map_err(io::Error::other)?;
        write_atomically(&clock_file(&self.directory), &bytes, 0o600, Survives::Crash)
    }

    /// Where a lane is.
    #[must_use]
    pub fn path(&self, id: &LaneId) -> PathBuf {
        self.directory.join(id.directory())
    }

    /// The directory of a lane that jobs mount.
    #[must_use]
    pub fn files(&self, id: &LaneId) -> PathBuf {
        self.path(id).join(FILES)
    }

    /// Where what is to be removed goes.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.directory.join(TRASH)
    }

    /// Whose lanes are at this home.
    #[must_use]
    pub fn home(&self, path: &Path) -> Option<Home> {
        self.state().homes.get(path).cloned()
    }

    /// The numbered build directories of a home, those in use and not yet there included: number, and who holds it.
    #[must_use]
    pub fn builds(&self, home: &Path) -> Vec<(u32, Option<String>)> {
        let state = self.state();
        let range = LaneId { home: home.to_owned(), part: Part::Builds(0) }..=LaneId {
            home: home.to_owned(),
            part: Part::Builds(u32::MAX),
        };
        let number = |id: &LaneId| match id.part {
            Part::Builds(number) => Some(number),
            _ => None,
        };
        let mut builds: BTreeMap<u32, Option<String>> =
            state.lanes.range(range.clone()).filter_map(|(id, _)| Some((number(id)?, None))).collect();
        for (id, holders) in state.holders.range(range) {
            builds.extend(number(id).map(|number| (number, holders.first().cloned())));
        }
        builds.into_iter().collect()
    }

    /// Notes that a lease uses lanes: until it lets go, they are not removed.
    pub fn hold(&self, lanes: &[LaneId], lease: &str) {
        let mut state = self.state();
        for id in lanes {
            state.holders.entry(id.clone()).or_default().insert(lease.to_owned());
        }
    }

    /// Notes that a lease uses lanes no more.
    pub fn let_go(&self, lease: &str) {
        self.state().holders.retain(|_, holders| {
            holders.remove(lease);
            !holders.is_empty()
        });
    }

    /// Who uses a lane.
    #[must_use]
    pub fn holders(&self, id: &LaneId) -> Vec<String> {
        self.state().holders.get(id).into_iter().flatten().cloned().collect()
    }

    /// Whether there is something in a lane's place that is none of ours.
    #[must_use]
    pub fn is_foreign(&self, id: &LaneId) -> bool {
        // Under the lock: one that is just being published is there, and ours.
        let state = self.state();
        !state.lanes.contains_key(id) && self.path(id).symlink_metadata().is_ok()
    }

    /// The homes of other keys whose files have these ids.
    #[must_use]
    pub fn others_with_ids(&self, ids: &str, key: &Key) -> Vec<PathBuf> {
        let state = self.state();
        let others = state.homes.iter().filter(|(_, home)| home.ids == ids && home.key() != *key);
        others.map(|(path, _)| path.clone()).collect()
    }

    /// Puts a directory of this daemon's into the trash; one that is not there is no error.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn throw_away(&self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Ok(());
        }
        self.throw(&mut self.state(), path)
    }

    /// Whether a lease uses a lane.
    #[must_use]
    pub fn is_held(&self, id: &LaneId, lease: &str) -> bool {
        self.state().holders.get(id).is_some_and(|holders| holders.contains(lease))
    }

    /// The directory of a home that is not known yet, or of which something has changed; its group and mode are the caller's to set.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn begin_home(&self, home: &Home) -> Result<Option<PathBuf>> {
        let path = home.directory();
        if self.state().homes.get(&path) == Some(home) {
            return Ok(None);
        }
        let directory = self.directory.join(&path);
        if let Some(instance) = directory.parent() {
            make_directory(instance, 0o711)?;
        }
        make_directory(&directory, 0o700)?;
        Ok(Some(directory))
    }

    /// Makes that directory a home.
    ///
    /// # Errors
    /// When it can't be written down.
    pub fn finish_home(&self, home: &Home) -> Result<()> {
        let path = home.directory();
        let mut state = self.state();
        write_json(&self.directory.join(&path).join("home.json"), home, Survives::PowerLoss)?;
        state.homes.insert(path, home.clone());
        Ok(())
    }

    /// A record of a lane, if it is there.
    #[must_use]
    pub fn record(&self, id: &LaneId) -> Option<Record> {
        self.state().lanes.get(id).cloned()
    }

    /// A directory for a lane in the making, with nothing in it yet.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn begin(&self, id: &LaneId) -> Result<PathBuf> {
        let mut state = self.state();
        state.serial += 1;
        let path = self.directory.join(&id.home).join(format!("{NEW}{}-{}", id.part, state.serial));
        make_directory(&path, 0o711)?;
        Ok(path)
    }

    /// Makes what was made at `new` a lane. One that is there already stays, and `new` goes.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn publish(&self, id: &LaneId, new: &Path) -> Result<()> {
        let mut state = self.state();
        if state.lanes.contains_key(id) {
            return self.throw(&mut state, new);
        }
        let record = Record { version: VERSION, last_use: state.clock.advance(Reading::now()), ..Record::default() };
        write_json(&new.join("lane.json"), &record, Survives::PowerLoss)?;
        let path = self.path(id);
        fs::rename(new, &path).with_context(|| format!("make the directory {}", path.display()))?;
        state.lanes.insert(id.clone(), record);
        Ok(())
    }

    /// Notes that a job begins to use a lane; returns what was known of it. From now on nobody knows what it is like.
    ///
    /// # Errors
    /// When it is not there, or that can't be written down.
    pub fn begin_use(&self, id: &LaneId) -> Result<Record> {
        let mut state = self.state();
        let now = state.clock.advance(Reading::now());
        let before = state.lanes.get(id).with_context(|| format!("lane {id} is not there"))?.clone();
        let record = Record {
            in_use: Some(self.boot.clone()),
            fits: None,
            last_use: now,
            uses: before.uses + 1,
            ..before.clone()
        };
        // On disk first: a job that can't begin has changed nothing.
        write_json(&self.path(id).join("lane.json"), &record, Survives::Crash)?;
        state.lanes.insert(id.clone(), record);
        Ok(before)
    }

    /// Notes that a job has ended its use of a lane.
    ///
    /// # Errors
    /// As of [`Lanes::begin_use`].
    pub fn end_use(&self, id: &LaneId, lease: &str, failures: u32) -> Result<()> {
        let others = self.holders(id).iter().any(|holder| holder != lease);
        self.change(id, |record, now| {
            record.last_use = now;
            if matches!(id.part, Part::Builds(_)) {
                record.failures = failures;
            }
            if !others {
                record.in_use = None;
            }
        })
    }

    /// Notes the size of a lane, and who can work on all of it, unless a job has begun to use it since.
    ///
    /// # Errors
    /// As of [`Lanes::begin_use`].
    pub fn measured(&self, id: &LaneId, size: Measured, uses: u64, fits: Option<String>) -> Result<()> {
        self.change(id, |record, _| {
            record.size = Some(size);
            // What a job does meanwhile, nobody knows.
            if record.uses == uses && record.in_use.is_none() {
                (record.fits, record.measured) = (fits, uses);
            }
        })
    }

    /// Changes a record here and then on disk: what a full disk does not take, is at least known as long as this daemon lives.
    fn change(&self, id: &LaneId, change: impl FnOnce(&mut Record, u64)) -> Result<()> {
        let mut state = self.state();
        let now = state.clock.advance(Reading::now());
        let record = state.lanes.get_mut(id).with_context(|| format!("lane {id} is not there"))?;
        change(record, now);
        write_json(&self.path(id).join("lane.json"), record, Survives::Crash)
    }

    /// Every lane.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let state = self.state();
        let listed = state.lanes.iter().filter_map(|(id, record)| {
            Some(Listed {
                id: id.clone(),
                home: state.homes.get(&id.home)?.clone(),
                record: record.clone(),
                holders: state.holders.get(id).into_iter().flatten().cloned().collect(),
            })
        });
        listed.collect()
    }

    /// Puts a lane into the trash, unless it is in use or not there. It takes one step: a crash leaves it where it was, or there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn discard(&self, id: &LaneId) -> Result<Option<Discarded>> {
        let mut state = self.state();
        if state.holders.contains_key(id) {
            return Ok(None);
        }
        let Some(record) = state.lanes.get(id).cloned() else { return Ok(None) };
        self.throw(&mut state, &self.path(id))?;
        state.lanes.remove(id);
        let size = record.size.unwrap_or_default();
        state.trash.bytes += size.bytes;
        state.trash.inodes += size.inodes;
        let age = state.clock.advance(Reading::now()).saturating_sub(record.last_use);
        self.forget_empty_home(&mut state, &id.home);
        Ok(Some(Discarded { bytes: size.bytes, age }))
    }

    fn throw(&self, state: &mut State, path: &Path) -> Result<()> {
        state.serial += 1;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let to = self.trash().join(format!("{}-{}", state.serial, name.trim_start_matches('.')));
        fs::rename(path, &to).with_context(|| format!("move {} to {}", path.display(), to.display()))
    }

    fn forget_empty_home(&self, state: &mut State, home: &Path) {
        let of_home = |id: &LaneId| id.home == home;
        if state.lanes.keys().any(of_home) || state.holders.keys().any(of_home) {
            return;
        }
        let directory = self.directory.join(home);
        state.homes.remove(home);
        // Where something of somebody else's is in it, it stays.
        let _ = fs::remove_file(directory.join("home.json"));
        let _ = fs::remove_dir(&directory);
        if let Some(instance) = directory.parent() {
            let _ = fs::remove_dir(instance);
        }
    }

    /// What the trash holds, as far as known.
    #[must_use]
    pub fn in_trash(&self) -> Measured {
        self.state().trash
    }

    /// Notes that this much of the trash is gone.
    pub fn emptied(&self, gone: Measured) {
        let trash = &mut self.state().trash;
        trash.bytes = trash.bytes.saturating_sub(gone.bytes);
        trash.inodes = trash.inodes.saturating_sub(gone.inodes);
    }
}

fn clock_file(directory: &Path) -> PathBuf {
    directory.join("clock.json")
}

fn write_json(path: &Path, value: &impl Serialize, survives: Survives) -> Result<()> {
    let bytes = serde_json::to_vec(value)?;
    write_atomically(path, &bytes, 0o600, survives).with_context(|| format!("write {}", path.display()))
}
