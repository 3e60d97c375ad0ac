//! Which images jobs used when, and which of them Windlass pulled: only those may it remove.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::lanes::decide::Stays;
use crate::podman::ListedImage;
use crate::sys::files;

/// A use this much later than the one on record is written down, in seconds.
const RECORD_EVERY: u64 = 600;

/// Uses of images.
#[derive(Debug)]
pub struct ImageUses {
    file: PathBuf,
    table: Mutex<Table>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Table {
    images: BTreeMap<String, ImageUse>,
}

/// What is known of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageUse {
    /// By the lanes' clock.
    pub last_use: u64,
    /// The names under which Windlass pulled it; empty where somebody else did.
    pulled: BTreeSet<String>,
}

impl ImageUse {
    /// Whether it is Windlass's own: it came by Windlass, and nobody has given it another name.
    fn owns(&self, names: &[String]) -> bool {
        // Names by digest come with each look at whether a project may have it.
        let mut tags = names.iter().filter(|name| !name.contains('@'));
        !self.pulled.is_empty() && tags.all(|name| self.pulled.contains(name))
    }
}

/// How an image came to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    There,
    /// Windlass pulled it, or made it of an archive.
    Brought,
}

impl ImageUses {
    /// Reads what is on record; images of which nothing can be read are nobody's, and stay.
    pub fn load(state_dir: &Path) -> Self {
        let file = state_dir.join("images.json");
        let table = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { file, table: Mutex::new(table.unwrap_or_default()) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a use.
    pub fn note(&self, id: &str, name: &str, origin: Origin, now: u64) {
        let mut table = self.table();
        let known = table.images.get(id).cloned();
        let mut image = known.clone().unwrap_or_default();
        match origin {
            Origin::There => {}
            Origin::Brought => drop(image.pulled.insert(name.to_owned())),
        }
        let written =
            known.is_some_and(|known| known.pulled == image.pulled && now.abs_diff(known.last_use) < RECORD_EVERY);
        if !written {
            image.last_use = now;
            table.images.insert(id.to_owned(), image);
            self.write(&table);
        }
    }

    /// What is known of an image.
    pub fn get(&self, id: &str) -> Option<ImageUse> {
        self.table().images.get(id).cloned()
    }

    /// Forgets images that are not there any more. `since`: when they were listed; what was used after that may have come after it.
    pub fn retain(&self, there: &[ListedImage], since: u64) {
        let mut table = self.table();
        let before = table.images.len();
        table.images.retain(|id, image| image.last_use >= since || there.iter().any(|there| there.id == *id));
        if table.images.len() != before {
            self.write(&table);
        }
    }

    fn write(&self, table: &Table) {
        let bytes = serde_json::to_vec(table).unwrap_or_default();
        if let Err(error) = files::write_atomically(&self.file, &bytes, 0o600, files::Survives::Crash) {
            tracing::warn!("write {}: {error}", self.file.display());
        }
    }
}

/// Why an image stays whatever the rules say. `used`: whether a job is about to use it.
pub fn stays(image: &ListedImage, known: Option<&ImageUse>, pinned: bool, used: bool) -> Option<Stays> {
    if image.containers > 0 || used {
        return Some(Stays::InUse);
    }
    if !known.is_some_and(|known| known.owns(&image.names)) {
        return Some(Stays::Foreign);
    }
    pinned.then_some(Stays::Pinned)
}

/// Keeps removals off images that jobs are about to use, by repository: which image a name stands for, a pull may change.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    removed: Notify,
}

#[derive(Debug, Default)]
struct GateState {
    preparing: HashMap<String, usize>,
    removing: BTreeSet<String>,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps these repositories from removal; waits for one that is under way.
    pub async fn reserve(&self, repositories: Vec<String>) -> Reserved<'_> {
        loop {
            let removed = self.removed.notified();
            {
                let mut state = self.state();
                if !repositories.iter().any(|name| state.removing.contains(name)) {
                    for name in &repositories {
                        *state.preparing.entry(name.clone()).or_default() += 1;
                    }
                    return Reserved { gate: self, repositories };
                }
            }
            removed.await;
        }
    }

    /// Whether a job is about to use one of these.
    pub fn is_reserved<'a>(&self, mut repositories: impl Iterator<Item = &'a str>) -> bool {
        let state = self.state();
        repositories.any(|name| state.preparing.contains_key(name))
    }

    /// Begins a removal, unless a job is about to use one of these.
    pub fn remove<'a>(&self, repositories: impl Iterator<Item = &'a str>) -> Option<Removal<'_>> {
        let repositories: Vec<String> = repositories.map(str::to_owned).collect();
        let mut state = self.state();
        if repositories.iter().any(|name| state.preparing.contains_key(name)) {
            return None;
        }
        state.removing.extend(repositories.iter().cloned());
        drop(state);
        Some(Removal { gate: self, repositories })
    }
}

/// Repositories that a job is about to use.
#[derive(Debug)]
pub struct Reserved<'a> {
    gate: &'a Gate,
    repositories: Vec<String>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        for name in &self.repositories {
            if let Some(count) = state.preparing.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    state.preparing.remove(name);
                }
            }
        }
    }
}

/// Repositories of an image that is being removed.
#[derive(Debug)]
pub struct Removal<'a> {
    gate: &'a Gate,
    repositories: Vec<String>,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        for name in &self.repositories {
            state.removing.remove(name);
        }
        drop(state);
        self.gate.removed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(names: &[&str], containers: u64) -> ListedImage {
        ListedImage {
            id: "a".into(),
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            repo_digests: vec![],
            bytes: 1,
            containers,
        }
    }

    #[test]
    fn only_what_windlass_brought_and_nobody_else_named_may_go() {
        let directory = tempfile::tempdir().expect("tempdir");
        let uses = ImageUses::load(directory.path());
        uses.note("a", "r/x:1", Origin::There, 5);
        let known = |uses: &ImageUses| uses.get("a");
        assert_eq!(stays(&image(&["r/x:1"], 0), known(&uses).as_ref(), false, false), Some(Stays::Foreign));
        uses.note("a", "r/x:1", Origin::Brought, 6);
        let known = known(&ImageUses::load(directory.path()));
        assert_eq!(known.as_ref().map(|known| known.last_use), Some(6));
        assert_eq!(stays(&image(&["r/x:1"], 0), known.as_ref(), false, false), None);
        assert_eq!(stays(&image(&[], 0), known.as_ref(), false, false), None, "its tag moved on");
        let by_digest = image(&["r/x:1", "r/x@sha256:0"], 0);
        assert_eq!(stays(&by_digest, known.as_ref(), false, false), None);
        uses.retain(&[], 6);
        assert!(uses.get("a").is_some(), "used since it was listed");
        uses.retain(&[], 7);
        assert!(uses.get("a").is_none());
        assert_eq!(stays(&image(&["r/x:1", "mine:1"], 0), known.as_ref(), false, false), Some(Stays::Foreign));
        assert_eq!(stays(&image(&["r/x:1"], 1), known.as_ref(), false, false), Some(Stays::InUse));
        assert_eq!(stays(&image(&["r/x:1"], 0), known.as_ref(), true, false), Some(Stays::Pinned));
        assert_eq!(stays(&image(&["r/x:1"], 0), known.as_ref(), false, true), Some(Stays::InUse));
        assert_eq!(stays(&image(&["r/x:1"], 0), None, false, false), Some(Stays::Foreign));
    }

    #[tokio::test]
    async fn a_job_and_a_removal_keep_out_of_each_others_way() {
        let gate = Gate::default();
        let job = gate.reserve(vec!["r/x".into(), "r/y".into()]).await;
        assert!(gate.remove(["r/y"].into_iter()).is_none());
        assert!(gate.is_reserved(["r/z", "r/x"].into_iter()));
        drop(job);
        let removal = gate.remove(["r/y"].into_iter()).expect("nobody uses it");
        let waiting = gate.reserve(vec!["r/y".into()]);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(removal);
        drop(waiting.await);
        assert!(!gate.is_reserved(["r/y"].into_iter()));
    }
}
