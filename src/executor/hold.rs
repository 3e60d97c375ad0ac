//! Wishes to keep the next failed job of a project, until a job has come that one is for. They outlast the daemon, but no boot of the host.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::record::{LeaseId, boot_time, is_user_stage};
use crate::job::Job;
use crate::protocol::admin::is_project;
use crate::sys::files;

/// How long a job is waited for that fails, in seconds.
pub const WAITS: u64 = 24 * 3600;

/// A wish to keep a job that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Tells it from all others.
    id: LeaseId,
    /// The project, as somebody named it.
    pub project: String,
    /// Only this job of it.
    pub job: Option<i64>,
    /// For how long the job is kept, in seconds.
    pub for_s: u64,
    /// Who wants that.
    pub by: String,
    /// When it is waited for no longer, in seconds since boot.
    pub until: u64,
}

impl Wish {
    /// A new one.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new(project: String, job: Option<i64>, for_s: u64, by: String) -> Result<Self> {
        Ok(Self { id: LeaseId::random()?, project, job, for_s, by, until: boot_time() + WAITS })
    }

    /// Whether this job is one that it is for.
    fn fits(&self, job: &Job) -> bool {
        self.job.is_none_or(|id| id == job.id)
            && is_project(&self.project, &job.instance, job.project_id, &job.project_path)
    }
}

/// What a lease's record says of its hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose wish it is.
    pub wish: Wish,
    /// When it is over, in seconds since boot: a clock that nobody sets.
    pub until: u64,
    /// Whether the job has ended, and its containers are kept.
    pub kept: bool,
}

/// The wishes that wait.
#[derive(Debug)]
pub struct Holds {
    file: PathBuf,
    wishes: Mutex<Vec<Wish>>,
}

impl Holds {
    /// Those that the last daemon knew of.
    ///
    /// # Errors
    /// When the file is there and can't be read.
    pub fn load(run_dir: &Path) -> Result<Self> {
        let file = run_dir.join("holds.json");
        let wishes: Vec<Wish> = match std::fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("{} is damaged, so no job is waited for that is to be held: {error}", file.display());
                Vec::new()
            }),
        };
        Ok(Self { file, wishes: Mutex::new(wishes) })
    }

    /// The list, without those that have waited long enough. After another boot all have.
    fn wishes(&self) -> MutexGuard<'_, Vec<Wish>> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = boot_time();
        wishes.retain(|wish| wish.until > now && wish.until <= now + WAITS);
        wishes
    }

    /// All of them.
    pub fn list(&self) -> Vec<Wish> {
        self.wishes().clone()
    }

    /// Changes the list, on disk first.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Wish>) -> T) -> Result<T> {
        let mut wishes = self.wishes();
        let mut changed = wishes.clone();
        let result = change(&mut changed);
        if changed != *wishes {
            let bytes = serde_json::to_vec(&changed).context("encode the list of holds")?;
            files::write_atomically(&self.file, &bytes, 0o600, files::Survives::Crash)
                .with_context(|| format!("write {}", self.file.display()))?;
            *wishes = changed;
        }
        Ok(result)
    }

    /// Adds one, or puts one back.
    ///
    /// # Errors
    /// When it can't be written down; then all is as before.
    pub fn add(&self, wish: Wish) -> Result<()> {
        self.change(|wishes| wishes.push(wish))
    }

    /// The first that is for this job.
    pub fn find(&self, job: &Job) -> Option<Wish> {
        self.wishes().iter().find(|wish| wish.fits(job)).cloned()
    }

    /// Takes this one off the list; false when it was not on it any more.
    ///
    /// # Errors
    /// When that can't be written down; then all is as before.
    pub fn take(&self, wish: &Wish) -> Result<bool> {
        self.change(|wishes| {
            let before = wishes.len();
            wishes.retain(|other| other.id != wish.id);
            wishes.len() < before
        })
    }

    /// Takes those off that were for this project or job.
    ///
    /// # Errors
    /// When that can't be written down; then all is as before.
    pub fn take_named(&self, what: &str) -> Result<Vec<Wish>> {
        self.change(|wishes| {
            let named = |wish: &Wish| {
                wish.project.eq_ignore_ascii_case(what) || wish.job.is_some_and(|job| job.to_string() == what)
            };
            wishes.extract_if(.., |wish| named(wish)).collect()
        })
    }
}

/// What the end of a stage means for a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The script has failed: the job is one to be held.
    Failed,
    /// Somebody wanted it to end: nobody is going to look at it.
    Ended,
    /// Neither.
    Nothing,
}

/// Judges a stage by its name and exit code, which is none when a signal ended it. What after_script ends with fails no job.
pub fn judge(stage: &str, code: Option<i32>) -> Verdict {
    match code {
        None => Verdict::Ended,
        Some(code) if code != 0 && is_user_stage(stage) && stage != "after_script" => Verdict::Failed,
        Some(_) => Verdict::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(project: &str, job: Option<i64>) -> Wish {
        Wish::new(project.to_owned(), job, 60, "root".to_owned()).expect("wish")
    }

    #[test]
    fn only_a_script_that_fails_by_itself_is_held() {
        assert_eq!(judge("build_script", Some(1)), Verdict::Failed);
        assert_eq!(judge("step_script", Some(255)), Verdict::Failed);
        assert_eq!(judge("build_script", Some(0)), Verdict::Nothing);
        assert_eq!(judge("after_script", Some(1)), Verdict::Nothing);
        assert_eq!(judge("get_sources", Some(1)), Verdict::Nothing);
        assert_eq!(judge("build_script", None), Verdict::Ended);
        assert_eq!(judge("after_script", None), Verdict::Ended);
    }

    #[test]
    fn a_wish_outlasts_the_daemon_and_is_taken_once() {
        let directory = tempfile::tempdir().expect("tempdir");
        let (one, two) = (wish("g/p", None), wish("g/q", Some(5)));
        {
            let holds = Holds::load(directory.path()).expect("load");
            holds.add(one.clone()).expect("add");
            holds.add(two.clone()).expect("add");
        }
        let holds = Holds::load(directory.path()).expect("load");
        assert_eq!(holds.list(), [one.clone(), two.clone()]);
        assert!(holds.take(&one).expect("take") && !holds.take(&one).expect("take"));
        assert!(holds.take_named("g/p").expect("take").is_empty());
        assert_eq!(holds.take_named("5").expect("take"), [two]);
        assert!(Holds::load(directory.path()).expect("load").list().is_empty());
    }

    #[test]
    fn a_wish_ends_with_its_time_and_with_the_boot() {
        let directory = tempfile::tempdir().expect("tempdir");
        let holds = Holds::load(directory.path()).expect("load");
        for until in [boot_time(), boot_time() + WAITS + 1000] {
            holds.add(Wish { until, ..wish("g/p", None) }).expect("add");
            assert!(holds.list().is_empty(), "{until}");
        }
    }
}
