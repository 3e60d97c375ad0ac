//! podman, by its command line: the stable interface, and the only one that can pass descriptors into a container.
//!
//! One file per operation. Arguments are built by pure functions; [`Podman::call`] is the one place that runs processes.

mod container;
mod controllers;
mod exec;
mod image;
mod list;
mod message;
mod pull;
mod remove;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::config::PodmanSettings;
use crate::sys::process::inherit_as;

pub use container::{ContainerSpec, UserMap};
pub use controllers::{Limit, Limits};
pub use image::Image;
pub use list::{Found, Labels};
pub use message::{Explained, explain_pull};
pub use pull::Pulls;

/// podman processes at once. Each is some ten megabytes and half a core while it lives.
const CALLS_MAX: usize = 8;
/// What is kept of a call's output, in bytes; the rest is thrown away.
const OUTPUT_MAX: u64 = 4 * 1024 * 1024;

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

/// Calls podman.
#[derive(Debug)]
pub struct Podman {
    settings: PodmanSettings,
    environment: Vec<(OsString, OsString)>,
    calls: Semaphore,
    /// Whether this process is root on the host.
    pub rootful: bool,
}

impl Podman {
    /// A caller with these settings.
    #[must_use]
    pub fn new(settings: &PodmanSettings) -> Self {
        // Not TMPDIR, NOTIFY_SOCKET or LISTEN_FDS: podman would act on them.
        let inherited = ["HOME", "PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
        let mut environment: Vec<(OsString, OsString)> =
            inherited.into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect();
        environment.extend(settings.environment.iter().map(|(name, value)| (name.into(), value.into())));
        Self {
            settings: settings.clone(),
            environment,
            calls: Semaphore::new(CALLS_MAX),
            rootful: nix::unistd::geteuid().is_root(),
        }
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &PodmanSettings {
        &self.settings
    }

    /// A podman process with a clean environment that nobody talks to.
    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.settings.command);
        command.args(arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs podman and returns what it printed.
    ///
    /// # Errors
    /// [`PodmanError`] with podman's own words.
    pub async fn call(&self, arguments: &[String]) -> Result<String, PodmanError> {
        self.call_for(arguments, self.settings.timeout, None).await
    }

    /// As [`Podman::call`], within `limit`, and with a descriptor that the process inherits as number 3.
    async fn call_for(
        &self,
        arguments: &[String],
        limit: Duration,
        inherited: Option<&OwnedFd>,
    ) -> Result<String, PodmanError> {
        let operation = operation(arguments);
        let error = |message: String, code| PodmanError { operation: operation.clone(), message, code };
        let run = async {
            // The semaphore is never closed.
            let _turn = self.calls.acquire().await.ok();
            let mut command = self.command(arguments);
            if let Some(fd) = inherited {
                inherit_as(command.as_std_mut(), fd, crate::init::LISTENER);
            }
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|reason| {
                error(
                    format!(
                        "cannot start {}: {reason}; is podman installed? [podman] command says which",
                        self.settings.command.display()
                    ),
                    None,
                )
            })?;
            let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
            let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), child.wait());
            let status = status.map_err(|reason| error(reason.to_string(), None))?;
            tracing::debug!(operation, %status, "podman");
            if status.success() { Ok(stdout) } else { Err(error(message::said(&stderr), status.code())) }
        };
        match tokio::time::timeout(limit, run).await {
            Ok(result) => result,
            Err(_) => Err(error(format!("no answer within {}", humantime::format_duration(limit)), None)),
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

/// Reads a stream to its end and keeps the beginning.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut text = Vec::new();
    // What was read before an error counts.
    let _ = (&mut stream).take(OUTPUT_MAX).read_to_end(&mut text).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// The words before the first option: what podman was asked to do.
fn operation(arguments: &[String]) -> String {
    let words: Vec<&str> =
        arguments.iter().map(String::as_str).take(2).take_while(|word| !word.starts_with('-')).collect();
    match words.as_slice() {
        [first @ ("image" | "network" | "volume" | "container"), second] => format!("{first} {second}"),
        [first, ..] => (*first).to_owned(),
        [] => String::new(),
    }
}

/// Owned strings of literals.
fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}
