//! What is remembered between runs: a record of each unit, who holds it, and the history.
//!
//! ```text
//! <state directory>/lock                 held by the run that works
//! <state directory>/units/<unit>.json    the unit's record
//! <state directory>/held/<unit>          there while somebody holds it
//! <state directory>/history.jsonl        what was done, one report of a unit in a line
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::record::Record;
use super::report::UnitReport;
use super::units::UnitName;
use crate::sys::files::{Survives, make_directory, write_atomically};

/// Reports that the history keeps; it has twice as many before it is cut.
const HISTORY_MAX: usize = 1000;
/// A larger file is none of ours, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// The directory with all that.
#[derive(Debug, Clone)]
pub struct State {
    directory: PathBuf,
}

/// Another run is at work.
#[derive(Debug, thiserror::Error)]
#[error("another `windlass update` is at work (it has {}); try again when it is done", .0.display())]
pub struct AtWork(PathBuf);

/// Held while a run works.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "closing it ends the lock")] File);

impl State {
    /// What is in this directory, which is made when something is written.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn make(&self) -> Result<()> {
        for part in ["", "units", "held"] {
            make_directory(&self.directory.join(part), 0o700)?;
        }
        Ok(())
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// When another run has it.
    pub fn lock(&self) -> Result<Lock> {
        self.make()?;
        let path = self.directory.join("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(AtWork(path).into()),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
        }
    }

    fn record_path(&self, unit: &UnitName) -> PathBuf {
        self.directory.join("units").join(format!("{unit}.json"))
    }

    /// The record of a unit; a new one where there is none.
    ///
    /// # Errors
    /// When it can't be read or understood.
    pub fn record(&self, unit: &UnitName) -> Result<Record> {
        let path = self.record_path(unit);
        let Some(text) = read(&path)? else { return Ok(Record::default()) };
        serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged; remove it, and what it says of the unit is forgotten", path.display())
        })
    }

    /// Writes the record of a unit: whole, or not at all.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn save(&self, unit: &UnitName, record: &Record) -> Result<()> {
        self.make()?;
        let path = self.record_path(unit);
        let text = serde_json::to_vec_pretty(record)?;
        write_atomically(&path, &text, 0o600, Survives::PowerLoss).with_context(|| format!("write {}", path.display()))
    }

    /// All units that there is a record of.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn units(&self) -> Result<Vec<UnitName>> {
        self.names("units", ".json")
    }

    /// The units that somebody holds.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn held(&self) -> Result<Vec<UnitName>> {
        self.names("held", "")
    }

    fn names(&self, part: &str, ending: &str) -> Result<Vec<UnitName>> {
        let directory = self.directory.join(part);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("list {}", directory.display()))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let file = entry.with_context(|| format!("list {}", directory.display()))?.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(ending));
            found.extend(name.and_then(|name| UnitName::try_from(name.to_owned()).ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Holds a unit.
    ///
    /// # Errors
    /// When that can't be noted.
    pub fn hold(&self, unit: &UnitName) -> Result<()> {
        self.make()?;
        let path = self.directory.join("held").join(unit.as_str());
        write_atomically(&path, b"", 0o600, Survives::PowerLoss).with_context(|| format!("write {}", path.display()))
    }

    /// Whether somebody holds a unit.
    #[must_use]
    pub fn is_held(&self, unit: &UnitName) -> bool {
        self.directory.join("held").join(unit.as_str()).exists()
    }

    /// Ends that; whether it was held.
    ///
    /// # Errors
    /// When that can't be noted.
    pub fn end_hold(&self, unit: &UnitName) -> Result<bool> {
        let path = self.directory.join("held").join(unit.as_str());
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            answer => answer.map(|()| true).with_context(|| format!("remove {}", path.display())),
        }
    }

    fn history_path(&self) -> PathBuf {
        self.directory.join("history.jsonl")
    }

    /// Adds to the history.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn remember(&self, report: &UnitReport) -> Result<()> {
        self.make()?;
        let path = self.history_path();
        let all = self.history()?;
        if all.len() >= 2 * HISTORY_MAX {
            let mut text = Vec::new();
            for old in &all[all.len() - HISTORY_MAX..] {
                serde_json::to_writer(&mut text, old)?;
                text.push(b'\n');
            }
            write_atomically(&path, &text, 0o600, Survives::PowerLoss)
                .with_context(|| format!("write {}", path.display()))?;
        }
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(&line)).with_context(|| format!("write {}", path.display()))
    }

    /// The history, the oldest first. A line that a crash has torn is left out.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn history(&self) -> Result<Vec<UnitReport>> {
        let text = read(&self.history_path())?.unwrap_or_default();
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => {
            if about.with_context(|| format!("read {}", path.display()))?.len() > FILE_MAX {
                bail!("{} is larger than any file of this program; remove it", path.display());
            }
        }
    }
    fs::read_to_string(path).map(Some).with_context(|| format!("read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::report::Outcome;
    use super::*;

    fn unit() -> UnitName {
        UnitName::try_from(r"a-b@x\x2dy.service".to_owned()).expect("a name")
    }

    fn state() -> (tempfile::TempDir, State) {
        let directory = tempfile::tempdir().expect("tempdir");
        let state = State::new(&directory.path().join("state"));
        (directory, state)
    }

    #[test]
    fn a_record_comes_back_and_its_unit_is_listed() {
        let (_directory, state) = state();
        assert_eq!(state.record(&unit()).expect("none"), Record::default());
        let mut record = Record::default();
        record.know("sha256:1", "2");
        state.save(&unit(), &record).expect("saved");
        assert_eq!(state.record(&unit()).expect("read"), record);
        assert_eq!(state.units().expect("listed"), [unit()]);
    }

    #[test]
    fn two_runs_do_not_meet() {
        let (_directory, state) = state();
        let lock = state.lock().expect("free");
        assert!(state.lock().expect_err("taken").to_string().contains("is at work"));
        drop(lock);
        state.lock().expect("free again");
    }

    #[test]
    fn a_unit_is_held_until_it_is_released() {
        let (_directory, state) = state();
        assert!(!state.is_held(&unit()));
        state.hold(&unit()).expect("held");
        assert!(state.is_held(&unit()));
        assert_eq!(state.held().expect("listed"), [unit()]);
        assert!(state.end_hold(&unit()).expect("released"));
        assert!(!state.end_hold(&unit()).expect("released"));
    }

    #[test]
    fn the_history_is_bounded_and_survives_a_torn_line() {
        let (_directory, state) = state();
        let report = UnitReport::new(&unit(), Outcome::Updated);
        state.remember(&report).expect("written");
        fs::write(state.history_path(), "{\"torn\n".repeat(3)).expect("written");
        for _ in 0..2 * HISTORY_MAX + 1 {
            state.remember(&report).expect("written");
        }
        assert_eq!(state.history().expect("read").len(), HISTORY_MAX + 1);
    }
}
