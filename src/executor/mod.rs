//! The executor: leases, slots, and a job's life from config to cleanup.
//!
//! A lease's truth is its record in the runtime directory and the labels of its container; what is in memory can be made from
//! these two again. So a daemon that was killed at any point goes on where it was.

mod adopt;
mod auth;
mod builds;
pub(crate) mod certificates;
mod containers;
mod drain;
pub(crate) mod helper;
mod hold;
mod housekeeping;
mod image_use;
mod images;
mod init_client;
mod inputs;
mod inside;
mod keep;
mod lane;
mod lane_use;
mod lease;
mod leasing;
mod mounted;
mod observe;
mod outcome;
mod past;
mod places;
mod plan;
mod prepare;
mod purge;
mod readiness;
mod record;
mod recording;
mod reload;
mod runner_program;
mod service_logs;
mod services;
mod shell;
mod slots;
mod space;
mod stage;
mod status;
mod steps;
mod sweep;
mod teardown;
mod usage;
mod used;
mod watch;
mod work_dir;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::gitlab;
use crate::lanes::Lanes;
use crate::lanes::clock::Reading;
use crate::lanes::ranges::Ranges;
use crate::podman::{Limits, Podman, Pulls};
use crate::protocol::daemon::FailureClass;
use crate::sys::files::make_directory;

pub use inputs::Inputs;
pub use lease::Lease;
pub use places::{Place, Places};
pub use record::{LeaseId, State};
pub use recording::Observers;
pub use service_logs::ServiceLogs;
pub use shell::ShellCall;
pub use space::Space;
pub use stage::{StageCall, StageEnd};
pub use status::Load;
pub use usage::Load as Usage;

/// Where jobs work, inside their containers; the Docker executor's names.
pub const BUILDS_DIR: &str = "/builds";
/// Where their local cache is.
pub const CACHE_DIR: &str = "/cache";

/// A failure that a shim reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Whose it is.
    pub class: FailureClass,
    /// In words.
    pub message: String,
}

impl Failure {
    /// The job's own failure.
    pub fn job(message: impl Into<String>) -> Self {
        Self { class: FailureClass::Job, message: message.into() }
    }

    /// The host's or the service's failure.
    pub fn system(message: impl Into<String>) -> Self {
        Self { class: FailureClass::System, message: message.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::system(format!("{error:#}"))
    }
}

/// Lines for a job's log.
#[derive(Debug, Clone)]
pub struct JobLog {
    sender: UnboundedSender<String>,
    steps: steps::Steps,
}

impl JobLog {
    /// A log whose lines come out of the other end.
    #[must_use]
    pub fn new(sender: UnboundedSender<String>) -> Self {
        Self { sender, steps: steps::Steps::default() }
    }

    /// The same log for a job whose steps are these.
    fn with(&self, steps: &steps::Steps) -> Self {
        Self { sender: self.sender.clone(), steps: steps.clone() }
    }

    /// A log that nobody reads.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(tokio::sync::mpsc::unbounded_channel().0)
    }

    /// Adds a line.
    pub fn line(&self, text: impl Into<String>) {
        // A caller that went away reads no log.
        let _ = self.sender.send(text.into());
    }

    /// Begins a step of the job's preparation, which goes on until what comes back is dropped.
    fn step(&self, what: impl Into<String>) -> steps::Step {
        self.steps.begin(what)
    }
}

/// The executor.
#[derive(Debug)]
pub struct Executor {
    /// What is in effect; replaced as a whole.
    settings: RwLock<Arc<Settings>>,
    gitlab: Option<gitlab::Client>,
    podman: Arc<Podman>,
    /// podman's version.
    pub podman_version: String,
    pulls: Pulls,
    limits: Limits,
    ranges: Mutex<Ranges>,
    lanes: Lanes,
    housekeeping: housekeeping::Housekeeping,
    /// Held while something is chosen and removed.
    purging: tokio::sync::Mutex<()>,
    image_uses: image_use::ImageUses,
    image_gate: image_use::Gate,
    /// Cancelled when what an earlier daemon left was looked through once.
    swept: CancellationToken,
    slots: slots::Slots,
    drain: drain::Drain,
    /// Told when slots, waiting jobs or the drain have changed.
    changed: Arc<Notify>,
    /// What an administrator should know of the last reload.
    note: Mutex<Option<String>>,
    /// What of the daemon could not begin.
    missing: OnceLock<Vec<String>>,
    leases: Mutex<HashMap<LeaseId, Arc<Lease>>>,
    waiting: leasing::Waiting,
    holds: hold::Holds,
    /// Shells that may be open at once.
    shells: Arc<tokio::sync::Semaphore>,
    programs: runner_program::Programs,
    tools: helper::Tools,
    proofs: images::Proofs,
    loading: tokio::sync::Mutex<()>,
    /// Held while a lease looks for storage that no other has.
    placing: Mutex<()>,
    /// Whether containers can mount overlay here, once somebody wanted to know.
    overlay: tokio::sync::OnceCell<Result<(), String>>,
    looks: usage::Looks,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    observers: Observers,
    started_at: std::time::SystemTime,
}

impl Executor {
    /// An executor; it has adopted nothing yet and runs nothing.
    ///
    /// # Errors
    /// When its directories can't be made or read, or podman does not answer.
    pub async fn build(
        settings: Settings,
        observers: Observers,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>> {
        make_directory(&settings.run_dir.join("leases"), 0o700)?;
        // The roots of containers have to get past it, and nobody else can list it.
        make_directory(&settings.state_dir, 0o711)?;
        helper::remove_unpacked(&settings.state_dir);
        let ranges = Ranges::load(&settings.state_dir)?;
        let lanes = Lanes::load(&settings.state_dir.join("lanes"), Reading::now())?;
        Self::prepare_for(&settings)?;
        let changed = Arc::new(Notify::new());
        let slots = slots::Slots::new(&changed);
        slots.resize(settings.profiles.iter().map(|(name, profile)| (name.clone(), profile.slots)));
        let podman = Podman::new(&settings.podman).measured(&observers.metrics);
        let asked = async {
            anyhow::Ok((podman.version().await?, Limits::of_this_host().with_storage(podman.storage().await?)))
        };
        let (podman_version, limits) = asked.await.context("podman has to answer before jobs can come")?;
        // With the job's own token: the chain's may be missing.
        let verifier = match settings.gitlab.verify_jobs {
            true => gitlab::Client::without_token(&settings.gitlab)?,
            false => None,
        };
        Ok(Arc::new(Self {
            gitlab: verifier.map(|client| client.measured(&observers.metrics)),
            podman: Arc::new(podman),
            podman_version,
            pulls: Pulls::default(),
            limits,
            ranges: Mutex::new(ranges),
            lanes,
            housekeeping: housekeeping::Housekeeping::default(),
            purging: tokio::sync::Mutex::default(),
            image_uses: image_use::ImageUses::load(&settings.state_dir),
            image_gate: image_use::Gate::default(),
            swept: CancellationToken::new(),
            slots,
            drain: drain::Drain::load(&settings.state_dir)?,
            changed,
            note: Mutex::default(),
            missing: OnceLock::new(),
            leases: Mutex::default(),
            waiting: leasing::Waiting::default(),
            holds: hold::Holds::load(&settings.run_dir)?,
            shells: Arc::new(tokio::sync::Semaphore::new(shell::SHELLS_MAX)),
            programs: runner_program::Programs::default(),
            tools: helper::Tools::default(),
            proofs: images::Proofs::load(&settings.state_dir),
            loading: tokio::sync::Mutex::default(),
            placing: Mutex::default(),
            overlay: tokio::sync::OnceCell::new(),
            looks: usage::Looks::default(),
            tasks,
            shutdown,
            observers,
            started_at: std::time::SystemTime::now(),
            settings: RwLock::new(Arc::new(settings)),
        }))
    }

    /// What is in effect now. A lease has its own: what was in effect when its job came.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How podman is called.
    #[must_use]
    pub fn podman(&self) -> &Podman {
        &self.podman
    }

    /// How often a caller hears that its request is worked on: well within what it waits for a daemon that is away.
    #[must_use]
    pub fn sign_of_life(&self) -> Duration {
        (self.settings().socket.daemon_wait / 3).clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    /// The lease with this id.
    ///
    /// # Errors
    /// When there is none (any more).
    pub fn lease(&self, id: &str) -> Result<Arc<Lease>, Failure> {
        let known = LeaseId::parse(id).and_then(|id| self.leases().get(&id).cloned());
        known.ok_or_else(|| {
            Failure::system(format!(
                "no lease {:.12}: it has ended, or was never given out by this daemon",
                id.escape_debug().to_string()
            ))
        })
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<LeaseId, Arc<Lease>>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_leases(&self) -> Vec<Arc<Lease>> {
        self.leases().values().cloned().collect()
    }

    fn leases_dir(&self) -> PathBuf {
        self.settings().run_dir.join("leases")
    }

    /// By which this daemon's containers are told from another's on the same host.
    fn label(&self) -> String {
        self.settings().run_dir.display().to_string()
    }
}
