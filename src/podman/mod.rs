//! podman, by its command line: the stable interface, and the only one that can pass descriptors into a container.
//!
//! One file per operation. Arguments are built by pure functions; [`Podman::call`] is the one place that starts processes.

mod cgroup;
mod container;
mod controllers;
pub(crate) mod environment;
mod exec;
#[cfg(test)]
mod fake;
mod files;
mod forget;
mod image;
mod images;
mod info;
mod isolation;
mod limits;
mod list;
mod load;
mod log_file;
mod logs;
pub(crate) mod message;
mod missing;
mod network;
mod probe;
pub(crate) mod process;
mod pull;
mod remove;
mod service;
mod shell;
mod storage;
mod ulimits;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid};
use thiserror::Error;
use tokio::process::Command;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::PodmanSettings;
use crate::job::Secret;
use crate::loops;
use crate::metrics::Metrics;
use crate::sys::process::inherit_as;
use process::{End, supervise};

pub use container::{ContainerSpec, Mount, UserMap};
pub use controllers::{Limit, Limits};
pub use image::Image;
pub use images::ListedImage;
pub use info::Info;
pub use list::{Found, Labels, name_of};
pub use log_file::{LINE_MAX, LogFile, Said};
pub use message::{Explained, PullFailure, explain_pull};
pub use network::{JobNetwork, Place};
pub use probe::Probe;
pub use pull::{Came, Pull, PullOptions, Pulled, Pulls};
pub use service::{ServiceSpec, ServiceState};
pub use storage::Storage;

/// podman processes at once. Each is some ten megabytes and half a core while it lives.
const CALLS_MAX: usize = 8;
/// Pulls at once, beside those: a registry that trickles must not hinder what makes and ends containers.
const PULLS_MAX: usize = 4;
/// Checks of services' health at once, beside both: one that hangs must not hinder them either.
const CHECKS_MAX: usize = 16;

/// How long a podman that was silent may take to answer whoever asks whether it is, and between two looks.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_LOOK: Duration = Duration::from_millis(50);

/// Prefix of every label.
pub const LABEL: &str = "io.windlass";

/// A podman call that failed.
#[derive(Debug, Clone, Error)]
#[error("podman {operation}: {message}")]
pub struct PodmanError {
    /// The operation, such as `run`.
    pub operation: String,
    /// What podman said, in one line.
    pub message: String,
    /// podman's exit code; none when it could not be started, was killed, or took too long.
    pub code: Option<i32>,
}

/// The user that podman runs as, where that is another than this process's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its uid.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// Its home, where a rootless podman keeps its storage.
    pub home: std::path::PathBuf,
}

/// Calls podman.
#[derive(Debug)]
pub struct Podman {
    settings: PodmanSettings,
    /// Whom its processes run as; none: this process's user.
    account: Option<Account>,
    environment: Vec<(OsString, OsString)>,
    /// Never closed, as are the next two.
    calls: Arc<Semaphore>,
    pulls: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    /// Where its images are, once it was asked.
    storage: OnceLock<Storage>,
    /// Whether systemd makes the cgroups of its containers, once it was asked.
    cgroups_by_systemd: OnceLock<bool>,
    known: image::Known,
    metrics: Arc<Metrics>,
    /// Whether its last call got no answer.
    silent: AtomicBool,
    /// Whether it is being asked whether it does now.
    asking: AtomicBool,
    /// Whether this process is root on the host.
    pub rootful: bool,
}

impl Podman {
    /// A caller with these settings.
    #[must_use]
    pub fn new(settings: &PodmanSettings) -> Self {
        let mut environment = environment::environment();
        environment.extend(settings.environment.iter().map(|(name, value)| (name.into(), value.into())));
        Self {
            settings: settings.clone(),
            account: None,
            environment,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            pulls: Arc::new(Semaphore::new(PULLS_MAX)),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            storage: OnceLock::new(),
            cgroups_by_systemd: OnceLock::new(),
            known: image::Known::default(),
            metrics: Arc::default(),
            silent: AtomicBool::new(false),
            asking: AtomicBool::new(false),
            rootful: nix::unistd::geteuid().is_root(),
        }
    }

    /// A caller whose podman runs as another user, which only root can have.
    #[must_use]
    pub fn of_account(settings: &PodmanSettings, account: Account) -> Self {
        let mut environment = environment::environment_of(&account);
        environment.extend(settings.environment.iter().map(|(name, value)| (name.into(), value.into())));
        let rootful = account.uid.is_root();
        Self { environment, rootful, account: Some(account), ..Self::new(settings) }
    }

    /// One whose calls are counted there.
    #[must_use]
    pub fn measured(mut self, metrics: &Arc<Metrics>) -> Self {
        self.metrics = Arc::clone(metrics);
        self
    }

    /// Whether podman answers: its last call did, or it does now.
    pub async fn answers(self: &Arc<Self>) -> bool {
        let is_silent = || self.silent.load(Ordering::Relaxed);
        if !is_silent() {
            return true;
        }
        // One question at a time: a podman that hangs must not take the turns of those that make and end containers.
        if !self.asking.swap(true, Ordering::Relaxed) {
            let podman = Arc::clone(self);
            tokio::spawn(async move {
                // What it answers is noted as with every call.
                let _ = podman.version().await;
                podman.asking.store(false, Ordering::Relaxed);
            });
        }
        let until = Instant::now() + ANSWER_WITHIN;
        while is_silent() && self.asking.load(Ordering::Relaxed) && Instant::now() < until {
            tokio::time::sleep(ANSWER_LOOK).await;
        }
        !is_silent()
    }

    /// Where its images are, once it was asked.
    #[must_use]
    pub fn storage_root(&self) -> Option<std::path::PathBuf> {
        self.storage.get().map(|storage| storage.root.clone())
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &PodmanSettings {
        &self.settings
    }

    /// A podman process with a clean environment that nobody talks to, and that outlives this daemon if need be.
    fn command(&self, arguments: &[String]) -> Command {
        self.command_of(&self.settings.command, arguments)
    }

    fn command_of(&self, program: &std::path::Path, arguments: &[String]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(Stdio::null()).process_group(0).kill_on_drop(false);
        if let Some(account) = &self.account {
            // Without root's groups too: std takes them away with the uid.
            command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
        }
        command
    }

    /// Runs podman and returns what it printed. Who stops waiting for it leaves it running to its end.
    ///
    /// # Errors
    /// [`PodmanError`] with podman's own words.
    pub async fn call(&self, arguments: &[String]) -> Result<String, PodmanError> {
        self.call_with(arguments, self.settings.timeout, None).await
    }

    /// As [`Podman::call`], within `limit`, and with a descriptor that the process inherits as number 3.
    async fn call_with(
        &self,
        arguments: &[String],
        limit: Duration,
        inherited: Option<&OwnedFd>,
    ) -> Result<String, PodmanError> {
        let never = CancellationToken::new();
        // Waiting for a turn is not podman's time.
        let turn = Arc::clone(&self.calls).acquire_owned().await;
        self.run(arguments, limit, Io { inherited, ..Io::default() }, turn.ok(), never).await
    }

    /// As [`Podman::call`], within `limit`, with these variables in podman's own environment, for a check of a service's health.
    async fn call_for_check(
        &self,
        arguments: &[String],
        variables: &[(String, Secret)],
        limit: Duration,
    ) -> Result<String, PodmanError> {
        let turn = Arc::clone(&self.checks).acquire_owned().await;
        let never = CancellationToken::new();
        self.run(arguments, limit, Io { variables, ..Io::default() }, turn.ok(), never).await
    }

    /// As [`Podman::call`], but what podman printed on stderr comes too.
    async fn call_for_both(&self, arguments: &[String]) -> Result<String, PodmanError> {
        let turn = Arc::clone(&self.calls).acquire_owned().await;
        let never = CancellationToken::new();
        self.run(arguments, self.settings.timeout, Io { both: true, ..Io::default() }, turn.ok(), never).await
    }

    /// As [`Podman::call`], for a pull, which ends early when `stop` comes.
    async fn call_for_pull(&self, arguments: &[String], stop: CancellationToken) -> Result<String, PodmanError> {
        let turn = Arc::clone(&self.pulls).acquire_owned().await;
        self.run(arguments, self.settings.pull_timeout, Io::default(), turn.ok(), stop).await
    }

    async fn run(
        &self,
        arguments: &[String],
        limit: Duration,
        io: Io<'_>,
        turn: Option<OwnedSemaphorePermit>,
        stop: CancellationToken,
    ) -> Result<String, PodmanError> {
        let operation = if io.program.is_some() { "files".to_owned() } else { operation(arguments) };
        let error = |message: String, code| PodmanError { operation: operation.clone(), message, code };
        let program = io.program.unwrap_or(&self.settings.command);
        let mut command = self.command_of(program, arguments);
        if let Some(fd) = io.inherited {
            inherit_as(command.as_std_mut(), fd, crate::init::LISTENER);
        }
        command.envs(io.variables.iter().map(|(name, value)| (name, value.expose())));
        let since = Instant::now();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|reason| {
            self.count(&operation, since, &Err(io::Error::from(reason.kind())));
            let hint = if io.program.is_none() { "; is podman installed? [podman] command says which" } else { "" };
            error(format!("cannot start {}: {reason}{hint}", program.display()), None)
        })?;
        let both = io.both;
        let task = tokio::spawn(async move {
            let end = supervise(child, limit, stop).await;
            drop(turn);
            end
        });
        let end = task.await.map_err(io::Error::other).and_then(|end| end);
        loops::step();
        self.count(&operation, since, &end);
        match end {
            Ok(End::Exited(status, stdout, stderr)) => {
                tracing::debug!(operation, %status, "podman");
                if status.success() {
                    Ok(if both { stdout + &stderr } else { stdout })
                } else {
                    Err(error(message::said(&stderr), status.code()))
                }
            }
            Ok(End::TimedOut) => Err(error(format!("no answer within {}", humantime::format_duration(limit)), None)),
            Ok(End::Stopped) => Err(error("nobody waits for it any more".to_owned(), None)),
            Err(reason) => Err(error(reason.to_string(), None)),
        }
    }

    /// Counts a call of podman's, and notes whether it answers.
    fn count(&self, operation: &str, since: Instant, end: &io::Result<End>) {
        let result = match end {
            Ok(End::Exited(status, ..)) if status.success() => "success",
            Ok(End::Exited(..)) => "failed",
            // Nobody wanted its answer any more.
            Ok(End::Stopped) => "stopped",
            Ok(End::TimedOut) | Err(_) => "silent",
        };
        self.metrics.podman_called(operation, result, since.elapsed());
        // A pull is silent for its registry's sake.
        if operation != "files" && operation != "pull" && result != "stopped" {
            self.silent.store(result == "silent", Ordering::Relaxed);
        }
    }

    /// Checks that podman answers; returns its version.
    ///
    /// # Errors
    /// When it does not.
    pub async fn version(&self) -> Result<String> {
        let version = self.call(&strings(["version", "--format", "{{.Client.Version}}"])).await?;
        let version = version.trim();
        let major: u32 = version
            .split('.')
            .next()
            .and_then(|major| major.parse().ok())
            .with_context(|| format!("podman calls its version {version:?}"))?;
        if major < 4 {
            bail!("podman {version} is too old: 4.0 or later is needed");
        }
        Ok(version.to_owned())
    }
}

/// What goes into a podman process and what is wanted of what comes out.
#[derive(Debug, Default)]
struct Io<'a> {
    /// Another program, of Windlass's own, instead of podman.
    program: Option<&'a std::path::Path>,
    /// A descriptor that it inherits as number 3.
    inherited: Option<&'a OwnedFd>,
    /// Variables beside those that every podman gets.
    variables: &'a [(String, Secret)],
    /// Whether stderr is wanted too.
    both: bool,
}

/// The words before the first option: what podman was asked to do.
fn operation(arguments: &[String]) -> String {
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).take(2).take_while(|word| !word.starts_with('-')).collect();
    match words.as_slice() {
        [first @ ("image" | "network" | "volume" | "container"), second] => {
            format!("{first} {second}")
        }
        [first, ..] => (*first).to_owned(),
        [] => String::new(),
    }
}

/// Owned strings of literals.
fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
