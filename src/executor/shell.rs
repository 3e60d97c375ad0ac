//! `windlass shell`: which container is meant, and a connection to a shell in it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::OwnedSemaphorePermit;

use super::record::{Record, Role, State};
use super::stage::stage_as;
use super::{BUILDS_DIR, Executor, Failure, Lease, keep};
use crate::protocol::frame::encode_message;
use crate::protocol::shell::{ShellRequest, Start, Target};

/// Shells at once. Each is a podman process, some ten megabytes.
pub const SHELLS_MAX: usize = 16;
/// How long podman may take to read what is to run.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// What is kept of what podman itself has to say, in bytes.
const WORDS_MAX: u64 = 4096;

/// A shell for somebody.
#[derive(Debug)]
pub struct ShellCall {
    /// Whose container it is in.
    pub lease: Arc<Lease>,
    /// The container.
    pub container: String,
    /// Lines for whoever opened it.
    pub notes: Vec<String>,
    /// For the caller: a connection to it. It ends with the connection.
    pub connection: Option<OwnedFd>,
    child: Child,
    _place: OwnedSemaphorePermit,
}

impl ShellCall {
    /// Waits until podman has let go of it; podman's words if that could not do it.
    pub async fn ended(&mut self) -> Option<String> {
        let mut words = Vec::new();
        if let Some(stderr) = &mut self.child.stderr {
            // What was read before an error counts.
            let _ = stderr.take(WORDS_MAX).read_to_end(&mut words).await;
        }
        let status = self.child.wait().await.ok()?;
        let words = super::containers::printable(&String::from_utf8_lossy(&words));
        (!status.success()).then(|| format!("podman exec ended with {status}: {words}"))
    }
}

impl Executor {
    /// Starts a shell in a container.
    ///
    /// # Errors
    /// When there is no such job or container, or too many shells are open.
    pub async fn open_shell(&self, request: &ShellRequest) -> Result<ShellCall, Failure> {
        let lease = self.named(&request.job)?;
        let record = lease.record();
        let (container, start, podman_user) = plan(&record, request).map_err(Failure::system)?;
        let place = Arc::clone(&self.shells).try_acquire_owned().map_err(|_| {
            Failure::system(format!("{SHELLS_MAX} shells are open already, which is as many as there may be"))
        })?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().context("make a socket pair")?;
        let child = self.podman.exec_shell(&container, podman_user.as_deref(), theirs)?;
        ours.set_nonblocking(true).context("set up a socket pair")?;
        let mut stream = tokio::net::UnixStream::from_std(ours).context("set up a socket pair")?;
        match tokio::time::timeout(TOLD_WITHIN, stream.write_all(&encode_message(&start))).await {
            Ok(Ok(())) => {}
            // The caller sees the connection end, and hears podman's words.
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Ok(Err(error)) => return Err(anyhow::Error::from(error).context("tell the shell what to run").into()),
            Err(_) => return Err(Failure::system("podman exec takes no orders")),
        }
        let connection = stream.into_std().and_then(|stream| {
            stream.set_nonblocking(false)?;
            Ok(stream.into())
        });
        let connection = Some(connection.context("hand the connection over")?);
        Ok(ShellCall { notes: notes(&record), lease, container, connection, child, _place: place })
    }

    /// The lease that is meant.
    fn named(&self, name: &str) -> Result<Arc<Lease>, Failure> {
        let mut found: Vec<Arc<Lease>> =
            self.all_leases().into_iter().filter(|lease| is_named(&lease.record(), name)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(lease), true) => Ok(lease),
            (None, _) => Err(Failure::system(format!(
                "no job {name:?} has a container here; `windlass status` shows the jobs and slots that there are"
            ))),
            (Some(last), false) => {
                found.push(last);
                let ids: Vec<&str> = found.iter().map(|lease| lease.id.short()).collect();
                Err(Failure::system(format!(
                    "several GitLab instances have a job {name}; say which lease is meant: {}",
                    ids.join(" or ")
                )))
            }
        }
    }
}

/// Whether that is how somebody calls this job.
fn is_named(record: &Record, name: &str) -> bool {
    let slot = || record.slot_name() == name && !record.is_kept();
    record.state != State::Ending && (record.job.id.to_string() == name || record.id.short() == name || slot())
}

/// The container, what runs in it, and as whom podman begins.
fn plan(record: &Record, request: &ShellRequest) -> Result<(String, Start, Option<String>), String> {
    if record.state != State::Ready {
        return Err(format!("the containers of job {} are not ready yet", record.job.id));
    }
    let mut start = Start { command: request.command.clone(), terminal: request.terminal, ..Start::default() };
    let term = request.term.iter().map(|term| ("TERM".to_owned(), term.clone()));
    let role = match &request.target {
        Target::Service(alias) => {
            let service = record.services.iter().find(|service| service.alias == *alias).ok_or_else(|| {
                let known: Vec<&str> = record.services.iter().map(|service| service.alias.as_str()).collect();
                format!("job {} has no service {alias:?}; there are: {}", record.job.id, known.join(", "))
            })?;
            start.environment = term.collect();
            return Ok((service.name.clone(), start, request.user.clone()));
        }
        Target::Job => Role::Job,
        Target::Helper => Role::Helper,
    };
    let container = record
        .in_role(role)
        .ok_or_else(|| format!("job {} has no helper: all its stages run in its own container", record.job.id))?;
    let stage = stage_as(container, record);
    start.environment = stage.environment.into_iter().chain(term).collect();
    // The groups that the administrator adds are the job's user's, not somebody else's.
    start.groups = if request.user.is_none() { stage.groups } else { Vec::new() };
    start.user = Some(request.user.clone().unwrap_or(stage.user));
    (start.path, start.umask) = (stage.path, stage.umask);
    start.directories = vec![keep::project_directory(record).into(), PathBuf::from(BUILDS_DIR)];
    Ok((container.name.clone(), start, Some("0:0".to_owned())))
}

fn notes(record: &Record) -> Vec<String> {
    let mut notes = vec!["The environment is the image's: the job's variables are kept nowhere.".to_owned()];
    notes.push(match &record.hold {
        Some(hold) if hold.kept => format!("The job is held until {}.", keep::date(hold.until)),
        _ => {
            "At the end of the job's current stage every process in this container is ended, this shell too.".to_owned()
        }
    });
    notes
}
