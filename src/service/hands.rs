//! What an administrator does to one job: a shell in its container, and keeping it when it fails. Both are logged with who did it.

use std::sync::Arc;

use tracing::Instrument;

use super::caller::Caller;
use super::channel::Channel;
use super::connection::{reply, unreadable};
use crate::executor::{Executor, Failure, ShellCall};
use crate::protocol::daemon::{Reply, Request};
use crate::protocol::hold::HoldRequest;
use crate::protocol::shell::{ShellRequest, Target};
use tokio_util::sync::CancellationToken;

/// Who calls, if it is somebody who may do `what`.
async fn administrator(channel: &Channel, what: &str) -> Result<Caller, Failure> {
    let refused = || Failure::system(format!("only root and the daemon's own user may {what}"));
    if !channel.is_administrator() {
        return Err(refused());
    }
    let (uid, pid) = channel.peer().map_err(unreadable)?;
    let look_up = tokio::task::spawn_blocking(move || Caller::look_up(uid, pid)).await;
    look_up.map_err(|_| refused())
}

/// `windlass shell`: the shell is the caller's own; here its beginning and its end are noted.
pub async fn shell(
    channel: &mut Channel,
    executor: &Arc<Executor>,
    shutdown: &CancellationToken,
    request: &ShellRequest,
) -> Result<(), Failure> {
    let caller = administrator(channel, "open a shell in a job's container").await?;
    let mut call = executor.open_shell(request).await?;
    let span = call.lease.span.clone();
    watch(channel, shutdown, request, &caller, &mut call).instrument(span).await
}

async fn watch(
    channel: &mut Channel,
    shutdown: &CancellationToken,
    request: &ShellRequest,
    caller: &Caller,
    call: &mut ShellCall,
) -> Result<(), Failure> {
    let container = call.container.clone();
    let user = request.user.as_deref().unwrap_or("the container's usual user");
    let place = match &request.target {
        Target::Job => "the job's container".to_owned(),
        Target::Helper => "the helper".to_owned(),
        Target::Service(alias) => format!("service {alias}"),
    };
    tracing::info!(by = %caller, container, "a shell is opened in {place}, as {user}: {}", what(&request.command));
    let ready = Reply::Shell { notes: call.notes.clone() };
    // The caller's alone once it is sent: when that lets go of it, the shell ends.
    let Some(connection) = call.connection.take() else { return Ok(()) };
    if channel.send_with(&ready, &connection).await.is_err() {
        tracing::info!(by = %caller, container, "the shell was not taken");
        return Ok(());
    }
    drop(connection);
    let mut gone = None;
    loop {
        let words = tokio::select! {
            request = channel.request() => {
                let end = match request {
                    Ok(Request::ShellDone { code: Some(code) }) => format!("with exit code {code}"),
                    Ok(Request::ShellDone { code: None }) => "early: its processes were ended".to_owned(),
                    _ => "with its caller, who is gone".to_owned(),
                };
                tracing::info!(by = %caller, container, "the shell has ended {end}");
                return Ok(());
            }
            words = call.ended(), if gone.is_none() => words,
            () = shutdown.cancelled() => {
                tracing::info!(by = %caller, container, "the shell goes on while windlassd is restarted; its end will not be noted");
                return Ok(());
            }
        };
        // Of a shell that began, the caller knows more than podman; one that did not begin is waiting for these words.
        if let Some(message) = words.clone() {
            tracing::debug!(container, "{message}");
            let _ =
                channel.send(&Reply::Failed { class: crate::protocol::daemon::FailureClass::System, message }).await;
        }
        gone = Some(words);
    }
}

/// A command in words; its arguments may be long, and have line ends in them.
fn what(command: &[String]) -> String {
    if command.is_empty() {
        return "the image's shell".to_owned();
    }
    command.join(" ").escape_debug().take(200).collect()
}

/// `windlass hold`.
pub async fn hold(channel: &mut Channel, executor: &Arc<Executor>, request: HoldRequest) -> Result<(), Failure> {
    let caller = administrator(channel, "hold a failed job").await?;
    let row = executor.hold(request, caller.to_string())?;
    reply(channel, Reply::Holds { holds: vec![row] }).await
}

/// `windlass release`.
pub async fn release(channel: &mut Channel, executor: &Arc<Executor>, what: &str) -> Result<(), Failure> {
    let caller = administrator(channel, "release a job that is held").await?;
    let holds = executor.release(what, &caller.to_string())?;
    reply(channel, Reply::Holds { holds }).await
}
