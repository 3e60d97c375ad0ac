//! A lease's record: all that is needed to go on with it after a restart of the daemon.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::builds::Place;
use super::hold::Hold;
use super::lane_use::LaneUse;
use super::past::{Moment, Past};
use super::used::Used;
use crate::config::JobSettings;
use crate::job::Job;
use crate::protocol::daemon::ProcessId;
use crate::sys::files;

/// The version of records; a newer daemon reads older ones.
const VERSION: u32 = 1;

/// A lease's id: 32 hex digits. Knowing it is the right to use the lease, so it is never shown whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeaseId(String);

impl LeaseId {
    /// A new one, of 128 random bits.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("read /dev/urandom")?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Reads one; nothing else than 32 hex digits is one, so it is safe as the name of a directory.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 32 && digits).then(|| Self(text.to_owned()))
    }

    /// The whole id.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Enough of it to tell leases apart.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// Where a lease is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Config was answered.
    Leased,
    /// Its container is being made.
    Preparing,
    /// Stages can run.
    Ready,
    /// It is being taken down.
    Ending,
}

/// Which of a lease's containers stages run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The job's, for user stages and, without a helper, for all.
    Job,
    /// The helper, for predefined stages.
    Helper,
}

impl Role {
    /// How it is called in names and labels.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Helper => "helper",
        }
    }
}

/// Stages that are the user's: only these need the job's own image (docs/executors/custom.md; `step_*` and `release` too).
pub fn is_user_stage(stage: &str) -> bool {
    matches!(stage, "build_script" | "after_script") || stage.starts_with("step_")
}

/// A container that stages run in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The image as the job names it.
    pub image: String,
    /// USER of its stages.
    pub user: String,
    /// ENTRYPOINT of its stages.
    pub entrypoint: Vec<String>,
    /// Environment of its stages.
    pub environment: Vec<(String, String)>,
    /// Further groups of its stages.
    #[serde(default)]
    pub groups: Vec<String>,
    /// umask of its stages.
    #[serde(default)]
    pub umask: Option<u32>,
    /// A directory behind PATH.
    #[serde(default)]
    pub path: Option<String>,
}

/// A service's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceContainer {
    /// Its name.
    pub name: String,
    /// Its first alias, for people.
    pub alias: String,
}

/// The stage that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStage {
    /// Its name.
    pub name: String,
    /// Seconds since 1970.
    pub since: u64,
    /// The same moment more precisely; none in the record of an older daemon.
    #[serde(default)]
    pub began: Option<Moment>,
}

/// A lease's record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The lease.
    pub id: LeaseId,
    /// The job.
    pub job: Job,
    /// The profile.
    pub profile: String,
    /// What the profile gave the job when it came; later changes of the configuration are not for it.
    pub settings: JobSettings,
    /// The slot.
    pub slot: u32,
    /// gitlab-runner's process.
    pub runner: ProcessId,
    /// The attempt's temporary directory, if the daemon could see it: gitlab-runner removes it after cleanup.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// When the job came, in seconds since 1970.
    pub since: u64,
    /// When nobody can need it any more, in seconds since boot: a clock that nobody sets.
    pub deadline: u64,
    /// Where it is in its life.
    pub state: State,
    /// The shim that asked for its preparation.
    #[serde(default)]
    pub prepared_by: Option<ProcessId>,
    /// How often its container was begun.
    pub attempt: u32,
    /// Its container, from the moment when podman was asked for it.
    pub container: Option<Container>,
    /// Its helper, where it has one.
    #[serde(default)]
    pub helper: Option<Container>,
    /// Its services.
    #[serde(default)]
    pub services: Vec<ServiceContainer>,
    /// Its network, when it has one of its own.
    #[serde(default)]
    pub network: Option<String>,
    /// The ids of the images of its containers.
    #[serde(default)]
    pub images: Vec<String>,
    /// Whether it has a directory for builds and cache.
    #[serde(default)]
    pub work_dir: bool,
    /// What it has of its project's lanes.
    #[serde(default)]
    pub lane: Option<LaneUse>,
    /// Whether its sources were brought up to date; none: it did not come to that.
    #[serde(default)]
    pub sources: Option<bool>,
    /// Where images that it builds are stored.
    #[serde(default)]
    pub builds: Option<Place>,
    /// Names of the job's variables that are files.
    #[serde(default)]
    pub file_variables: Vec<String>,
    /// Whether the job log gets what its services say (CI_DEBUG_SERVICES).
    #[serde(default)]
    pub debug_services: bool,
    /// Whether it is to be kept, or is kept, after its end.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// The stage that runs.
    pub stage: Option<RunningStage>,
    /// What its container has used so far.
    #[serde(default)]
    pub used: Used,
    /// What the history will have of it.
    #[serde(default)]
    pub past: Past,
}

impl Record {
    /// The record of a new lease.
    #[must_use]
    pub fn new(id: LeaseId, job: Job, profile: &str, settings: &JobSettings, slot: u32, runner: ProcessId) -> Self {
        let lifetime = job.timeout + settings.timeout_margin;
        Self {
            version: VERSION,
            id,
            profile: profile.to_owned(),
            settings: settings.clone(),
            slot,
            runner,
            directory: None,
            since: unix_time(),
            deadline: boot_time() + lifetime.as_secs(),
            state: State::Leased,
            prepared_by: None,
            attempt: 0,
            container: None,
            helper: None,
            services: Vec::new(),
            network: None,
            images: Vec::new(),
            work_dir: false,
            lane: None,
            sources: None,
            builds: None,
            file_variables: Vec::new(),
            debug_services: false,
            hold: None,
            stage: None,
            used: Used::default(),
            past: Past::default(),
            job,
        }
    }

    /// The name of the attempt's container, network or secret for this purpose; each attempt has its own, since a podman that
    /// outlived a daemon may still be making the last.
    #[must_use]
    pub fn name_of(&self, what: &str) -> String {
        crate::podman::name_of(self.id.short(), what, self.attempt)
    }

    /// Forgets what an attempt to prepare has made. It has names that no other attempt uses.
    pub fn forget_containers(&mut self) {
        self.container = None;
        self.helper = None;
        self.services = Vec::new();
        self.network = None;
    }

    /// The name of its slot.
    #[must_use]
    pub fn slot_name(&self) -> String {
        format!("{}/{}", self.profile, self.slot)
    }

    /// Whether its job has ended, and its containers are kept for somebody to look at.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.kept)
    }

    /// The names of all its containers.
    #[must_use]
    pub fn container_names(&self) -> Vec<String> {
        let stages = [&self.container, &self.helper].into_iter().flatten().map(|container| container.name.clone());
        stages.chain(self.services.iter().map(|service| service.name.clone())).collect()
    }

    /// Whether builds and cache are in a directory of the host that goes with the job: where containers share them, or could not write
    /// their own, and no lane has them.
    #[must_use]
    pub fn shares_work_dir(&self) -> bool {
        self.lane.is_none() && (self.helper.is_some() || self.settings.isolation.read_only)
    }

    /// Which container a stage runs in.
    #[must_use]
    pub fn role_of(&self, stage: &str) -> Role {
        if self.helper.is_some() && !is_user_stage(stage) { Role::Helper } else { Role::Job }
    }

    /// The container in this role.
    #[must_use]
    pub fn in_role(&self, role: Role) -> Option<&Container> {
        match role {
            Role::Job => self.container.as_ref(),
            Role::Helper => self.helper.as_ref(),
        }
    }

    /// Writes it into the lease's directory.
    ///
    /// # Errors
    /// When that fails.
    pub fn save(&self, directory: &Path) -> Result<()> {
        let path = file(directory);
        let bytes = serde_json::to_vec(self).context("encode a lease's record")?;
        files::write_atomically(&path, &bytes, 0o600, files::Survives::Crash)
            .with_context(|| format!("write {}", path.display()))
    }

    /// Reads it from a lease's directory.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn load(directory: &Path) -> Result<Self> {
        let path = file(directory);
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("understand {}", path.display()))
    }
}

/// Whether a lease's directory holds the record of a later release, which this one may misunderstand.
pub fn is_of_later_release(directory: &Path) -> bool {
    let bytes = std::fs::read(file(directory)).unwrap_or_default();
    files::version_in(&bytes).is_some_and(|version| version > VERSION)
}

fn file(directory: &Path) -> PathBuf {
    directory.join("lease.json")
}

/// Seconds since 1970.
#[must_use]
pub fn unix_time() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since boot, time asleep included.
#[must_use]
pub fn boot_time() -> u64 {
    boot_millis() / 1000
}

/// Milliseconds since boot, time asleep included.
#[must_use]
pub fn boot_millis() -> u64 {
    crate::sys::process::boot_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_stages_are_the_users() {
        for stage in ["build_script", "step_script", "step_release", "after_script"] {
            assert!(is_user_stage(stage), "{stage}");
        }
        for stage in [
            "prepare_script",
            "get_sources",
            "clear_worktree",
            "restore_cache",
            "archive_cache",
            "upload_artifacts_on_failure",
            "cleanup_file_variables",
            "",
        ] {
            assert!(!is_user_stage(stage), "{stage}");
        }
    }

    #[test]
    fn an_id_is_32_hex_digits_and_nothing_else() {
        let id = LeaseId::random().expect("random");
        assert_eq!(LeaseId::parse(id.secret()), Some(id));
        for text in ["", "..", "0123", &"g".repeat(32), &"A".repeat(32), &format!("{}/", "a".repeat(31))] {
            assert_eq!(LeaseId::parse(text), None, "{text}");
        }
    }
}
