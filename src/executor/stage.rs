//! run: a connection to the container's init for the shim, and an eye on the stage until both have let go of it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedMutexGuard;
use tracing::Instrument;

use super::past::stage_result;
use super::record::{Container, Record, Role, RunningStage, State, is_user_stage, unix_time};
use super::used::LAST_STAGE;
use super::{Executor, Failure, Lease, certificates, init_client, keep};
use crate::config::ExecMode;
use crate::protocol::daemon::{StageReady, StageStop};
use crate::protocol::frame::encode_message;
use crate::protocol::history::StageResult;
use crate::protocol::init::{Reply, Request, Stage, Usage};

/// How long podman may take to say what became of a container before it is killed anyway.
const FATE_WITHIN: Duration = Duration::from_secs(5);
/// What podman itself may take on top, for a stage that came by `podman exec`.
const PODMAN_TAKES: Duration = Duration::from_secs(10);
/// Between two looks at whether a stage that came by `podman exec` has gone.
const LOOK: Duration = Duration::from_millis(200);

/// The stage that brings the clone up to date.
const GET_SOURCES: &str = "get_sources";

/// A stage that a shim runs.
#[derive(Debug)]
pub struct StageCall {
    /// The lease.
    pub lease: Arc<Lease>,
    /// For the shim.
    pub ready: StageReady,
    /// For the shim: a connection to the init, which knows what to run.
    pub connection: Option<OwnedFd>,
    role: Role,
    _gate: OwnedMutexGuard<()>,
}

/// How a shim let go of its stage.
#[derive(Debug)]
pub enum StageEnd {
    /// It says that the stage is over and its output complete.
    Done {
        /// What the container has used.
        usage: Option<Usage>,
        /// The script's exit code; none when it was ended.
        code: Option<i32>,
        /// How it ended, where that is no exit code of its own.
        stop: Option<StageStop>,
    },
    /// Its connection ended before that: it was killed.
    Gone,
    /// It can't get on with the init.
    Lost(String),
}

impl Executor {
    /// Opens a stage; one at a time for each lease.
    ///
    /// # Errors
    /// When the lease is in no state to run one.
    pub async fn open_stage(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        name: &str,
        attach: bool,
    ) -> Result<StageCall, Failure> {
        let record = lease.record();
        let bound = record.settings.grace + record.settings.margin;
        // The stage before this one may still be on its way out, for example one whose shim was killed.
        let gate = tokio::select! {
            () = lease.ended.cancelled() => return Err(ended(lease)),
            gate = tokio::time::timeout(bound * 2, Arc::clone(&lease.gate).lock_owned()) => gate,
        };
        let gate = gate.map_err(|_| Failure::system(format!("the stage before {name} has not ended yet")))?;
        if let Some(reason) = lease.broken() {
            self.note_not_begun(lease, name, &reason);
            return Err(Failure::system(reason));
        }
        let record = lease.record();
        if record.is_kept() {
            return Err(Failure::system(format!("the job of lease {} is over, and its containers are kept", lease.id)));
        }
        let role = record.role_of(name);
        let container = match (record.state, record.in_role(role)) {
            (State::Ready, Some(container)) => container.clone(),
            (State::Ending, _) => return Err(ended(lease)),
            _ => {
                return Err(Failure::system(format!(
                    "lease {} is not prepared: prepare_exec in the runner's config.toml has to be windlass-prepare",
                    lease.id
                )));
            }
        };
        let connection = if attach {
            None
        } else {
            match self.connect(lease, &record, name, &container).await {
                Ok(connection) => Some(connection),
                Err(error) => {
                    let message = self.give_up(lease, role, &format!("{error:#}")).await;
                    self.note_not_begun(lease, name, &message);
                    return Err(Failure::system(message));
                }
            }
        };
        if !attach {
            // One of which nobody has told the end.
            self.note_stage(lease, StageResult::Unknown, None, None);
        }
        lease.update(|record| {
            let going_on = record.stage.take().filter(|_| attach);
            record.stage = Some(going_on.unwrap_or_else(|| RunningStage::begins(name)));
        })?;
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let ready = StageReady {
            pass_pipes: record.settings.exec == ExecMode::Init,
            grace_ms: milliseconds(record.settings.grace),
            margin_ms: milliseconds(record.settings.margin),
            service_logs: record.debug_services && !record.services.is_empty(),
            closing: (name == LAST_STAGE).then(|| closing(&record)).flatten(),
        };
        tracing::debug!(attach, "stage {name} begins");
        Ok(StageCall { lease: Arc::clone(lease), ready, connection, role, _gate: gate })
    }

    /// A connection to the init, which is told what the stage is: the shim decides nothing of that.
    async fn connect(&self, lease: &Lease, record: &Record, name: &str, container: &Container) -> Result<OwnedFd> {
        let role = record.role_of(name);
        let mut stage = Stage {
            entrypoint: container.entrypoint.clone(),
            files: record.file_variables.clone(),
            ..stage_as(container, record)
        };
        if !is_user_stage(name) {
            stage.environment.extend(certificates::variables(record));
        }
        let bytes = encode_message(&Request::Stage(stage));
        let mut stream = match record.settings.exec {
            ExecMode::Init => init_client::connect(&lease.init_socket(role)).await?,
            ExecMode::Podman => {
                let (ours, theirs) = std::os::unix::net::UnixStream::pair().context("make a socket pair")?;
                let mut child = self.podman.exec_init(&container.name, theirs)?;
                // It ends when its socket does; somebody has to reap it, and nobody has to wait for that.
                tokio::spawn(async move { drop(child.wait().await) });
                ours.set_nonblocking(true).context("set up a socket pair")?;
                tokio::net::UnixStream::from_std(ours).context("set up a socket pair")?
            }
        };
        let bound = record.settings.grace + record.settings.margin;
        match tokio::time::timeout(bound, stream.write_all(&bytes)).await {
            Ok(written) => written.context("tell the container's init what to run")?,
            Err(_) => anyhow::bail!("the container's init takes no orders"),
        }
        Ok(stream.into_std().context("hand the connection to the init over")?.into())
    }

    /// Closes a stage. A shim that is not there any more may have left it running.
    pub async fn close_stage(self: &Arc<Self>, call: StageCall, end: StageEnd) -> Option<String> {
        let lease = Arc::clone(&call.lease);
        match end {
            StageEnd::Done { usage, code, stop } => {
                let usage = usage.filter(|_| call.role == Role::Job);
                let ended = self.note_stage_with(&lease, stage_result(code, stop), |record, stage| {
                    if let (Some(code), GET_SOURCES) = (code, stage.name.as_str()) {
                        record.sources = Some(code == 0);
                    }
                    usage.iter().for_each(|usage| record.used.add(usage));
                });
                if let Some(stage) = &ended {
                    say_ended(stage, code);
                    self.consider(&lease, &stage.name, code);
                }
                None
            }
            StageEnd::Gone => {
                self.consider(&lease, "", None);
                let executor = Arc::clone(self);
                let settling = async move {
                    // Its shim was killed: gitlab-runner gave it up.
                    executor.settle(&call.lease, call.role, StageResult::Terminated).await;
                    drop(call);
                };
                self.tasks.spawn(settling.in_current_span());
                None
            }
            StageEnd::Lost(reason) => Some(self.give_up(&lease, call.role, &reason).await),
        }
    }

    /// Waits until no stage runs in this container of a lease, and kills it if that takes longer than grace and margin.
    pub(super) async fn settle(&self, lease: &Lease, role: Role, end: StageResult) {
        let record = lease.record();
        let bound = record.settings.grace + record.settings.margin;
        let Some(container) = record.in_role(role) else { return };
        let idle = async {
            match record.settings.exec {
                ExecMode::Init => match init_client::ask(&lease.init_socket(role), &Request::WaitIdle, bound).await {
                    Ok(Reply::Idle) => Ok(()),
                    Ok(_) => Err("the container's init talks nonsense".to_owned()),
                    Err(error) => Err(format!("{error:#}")),
                },
                ExecMode::Podman => {
                    match tokio::time::timeout(bound + PODMAN_TAKES, self.only_init_left(&container.name)).await {
                        Ok(result) => result,
                        Err(_) => Err(format!(
                            "the stage's processes have not ended within {}",
                            humantime::format_duration(bound)
                        )),
                    }
                }
            }
        };
        tokio::select! {
            () = lease.ended.cancelled() => {}
            result = idle => match result {
                Ok(()) => drop(self.note_stage(lease, end, None, None)),
                Err(reason) => drop(self.give_up(lease, role, &reason).await),
            }
        }
    }

    async fn only_init_left(&self, container: &str) -> Result<(), String> {
        loop {
            match self.podman.process_count(container).await {
                Ok(0 | 1) => return Ok(()),
                Ok(_) => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Ends a container that can't be talked to; returns what is to be said about it.
    async fn give_up(&self, lease: &Lease, role: Role, reason: &str) -> String {
        let record = lease.record();
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(300).collect();
        let Some(container) = record.in_role(role) else { return reason };
        if lease.ended.is_cancelled() {
            return lease.reason();
        }
        let fate = tokio::time::timeout(FATE_WITHIN, self.podman.fate(&container.name)).await;
        let fate = fate.unwrap_or_else(|_| "podman does not say what became of it".to_owned());
        let message = format!("{reason}; {fate}");
        lease.set_broken(&message);
        tracing::warn!(container = container.name, "container given up: {message}");
        // gitlab-runner waits for pipes that this container may hold, so a kill that fails is followed by more force.
        if let Err(error) = self.podman.kill(&container.name).await {
            tracing::debug!("{error}");
            if let Err(error) = self.podman.remove_container(&container.name).await {
                tracing::error!("a container that was given up can't be ended: {error}");
            }
        }
        self.note_stage(lease, StageResult::Lost, None, Some(&message));
        message
    }
}

/// A stage with a container's user and environment, and nothing to run yet.
pub(super) fn stage_as(container: &Container, record: &Record) -> Stage {
    let mut environment = container.environment.clone();
    environment.push(("HOSTNAME".to_owned(), format!("windlass-job-{}", record.job.id)));
    // As podman sets it: some programs look whether they are in a container.
    environment.push(("container".to_owned(), "podman".to_owned()));
    environment.extend(record.settings.environment.clone());
    Stage {
        user: container.user.clone(),
        entrypoint: Vec::new(),
        environment,
        command: Vec::new(),
        groups: container.groups.clone(),
        files: Vec::new(),
        umask: container.umask,
        path: container.path.clone(),
        grace_ms: u64::try_from(record.settings.grace.as_millis()).unwrap_or(u64::MAX),
    }
}

/// What the job log ends with.
fn closing(record: &Record) -> Option<String> {
    let lines: Vec<String> = [record.used.line(), keep::line(record)].into_iter().flatten().collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Says how a stage has ended: of the user's own always, of the others to those who want to know all.
fn say_ended(stage: &RunningStage, code: Option<i32>) {
    let code = code.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
    let took = humantime::format_duration(Duration::from_secs(unix_time().saturating_sub(stage.since)));
    if is_user_stage(&stage.name) {
        tracing::info!("stage {} has ended with {code} after {took}", stage.name);
    } else {
        tracing::debug!("stage {} has ended with {code} after {took}", stage.name);
    }
}

fn ended(lease: &Lease) -> Failure {
    Failure::system(format!("lease {} has ended: {}", lease.id, lease.reason()))
}
