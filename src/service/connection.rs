//! What happens on one caller's connection.

use std::io;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use super::channel::Channel;
use crate::executor::{Executor, Failure, JobLog, Lease, StageCall, StageEnd};
use crate::job::Job;
use crate::protocol::daemon::{ProcessId, Reply, Request};

/// Job responses in memory at once: a bound on what many large ones can take.
static JOB_RESPONSES: Semaphore = Semaphore::const_new(8);

/// Serves one caller. What goes wrong on the way to an answer is told to the caller, and noted here.
pub async fn serve(stream: UnixStream, refusal: Option<String>, executor: Arc<Executor>, shutdown: CancellationToken) {
    let mut channel = Channel::new(stream);
    let result = match refusal {
        Some(message) => Err(Failure::system(message)),
        None => answer(&mut channel, &executor, &shutdown).await,
    };
    if let Err(Failure { class, message }) = result {
        tracing::debug!("caller refused: {message}");
        // A caller that is gone needs no answer.
        let _ = channel.send(&Reply::Failed { class, message }).await;
    }
}

async fn answer(channel: &mut Channel, executor: &Arc<Executor>, shutdown: &CancellationToken) -> Result<(), Failure> {
    let request = tokio::select! {
        // Not begun yet: the caller asks the next daemon.
        () = shutdown.cancelled() => return Ok(()),
        request = channel.first_request() => request.map_err(unreadable)?,
    };
    match request {
        Request::Status => reply(channel, Reply::Status(Box::new(executor.status()))).await,
        Request::Config { profile, runner } => {
            let job = job(channel).await?;
            config(channel, executor, shutdown, profile.as_deref(), job, runner).await
        }
        Request::Prepare { lease, profile } => {
            let lease = executor.lease(&lease)?;
            prepare(channel, executor, &lease, profile.as_deref()).await
        }
        Request::Stage { lease, stage, attach } => {
            let lease = executor.lease(&lease)?;
            let call = executor.open_stage(&lease, &stage, attach).await?;
            watch_stage(channel, executor, shutdown, call).await
        }
        Request::Cleanup { lease: Some(id), runner: _ } => {
            // One that is not there has been cleaned up already.
            if let Ok(lease) = executor.lease(&id) {
                executor.end(&lease, "the job is over");
            }
            reply(channel, Reply::Done).await
        }
        Request::Cleanup { lease: None, runner } => {
            let job = job(channel).await?;
            executor.end_leases_of(&job, runner, "the job is over before it began");
            reply(channel, Reply::Done).await
        }
        Request::Confirm | Request::StageDone | Request::StageLost { .. } => {
            Err(Failure::system("this request comes without what it belongs to"))
        }
    }
}

fn unreadable(error: io::Error) -> Failure {
    Failure::system(format!("windlassd can't read this request: {error}"))
}

/// A caller that is gone gets no reply, and that is no error of anybody's.
async fn reply(channel: &mut Channel, reply: Reply) -> Result<(), Failure> {
    if let Err(error) = channel.send(&reply).await {
        tracing::debug!("a reply was not taken: {error}");
    }
    Ok(())
}

async fn job(channel: &mut Channel) -> Result<Job, Failure> {
    // The semaphore is never closed.
    let _place = JOB_RESPONSES.acquire().await;
    let bytes = channel.job_response().await.map_err(unreadable)?;
    Job::parse(&bytes).map_err(Failure::system)
}

/// A lease, unless the caller goes away before it has passed the answer on.
async fn config(
    channel: &mut Channel,
    executor: &Arc<Executor>,
    shutdown: &CancellationToken,
    profile: Option<&str>,
    job: Job,
    runner: ProcessId,
) -> Result<(), Failure> {
    let (log, mut lines) = unbounded_channel();
    let log = JobLog::new(log);
    let mut leasing = std::pin::pin!(executor.lease_for(profile, job, runner, &log));
    let lease = loop {
        tokio::select! {
            lease = &mut leasing => break lease?,
            Some(text) = lines.recv() => reply(channel, Reply::Log { text }).await?,
            // Nothing is expected of the caller now: this is its end.
            _ = channel.request() => return Ok(()),
            // It asks the next daemon again.
            () = shutdown.cancelled() => return Ok(()),
        }
    };
    while let Ok(text) = lines.try_recv() {
        reply(channel, Reply::Log { text }).await?;
    }
    reply(channel, Reply::Configured(executor.configured(&lease))).await?;
    if !matches!(channel.first_request().await, Ok(Request::Confirm)) {
        executor.end(&lease, "gitlab-runner did not take the lease");
    }
    Ok(())
}

async fn prepare(
    channel: &mut Channel,
    executor: &Arc<Executor>,
    lease: &Arc<Lease>,
    profile: Option<&str>,
) -> Result<(), Failure> {
    let (log, mut lines) = unbounded_channel();
    let log = JobLog::new(log);
    let mut preparing = std::pin::pin!(executor.prepare(lease, profile, &log));
    let result = loop {
        tokio::select! {
            result = &mut preparing => break result,
            Some(text) = lines.recv() => reply(channel, Reply::Log { text }).await?,
            // The caller was ended, and so is what was done for it.
            _ = channel.request() => return Ok(()),
            () = lease.ended.cancelled() => break Err(Failure::system(format!("the lease has ended: {}", lease.reason()))),
        }
    };
    while let Ok(text) = lines.try_recv() {
        reply(channel, Reply::Log { text }).await?;
    }
    result?;
    reply(channel, Reply::Done).await
}

/// Keeps an eye on a stage for as long as its shim does.
async fn watch_stage(
    channel: &mut Channel,
    executor: &Arc<Executor>,
    shutdown: &CancellationToken,
    mut call: StageCall,
) -> Result<(), Failure> {
    let ready = Reply::StageReady(call.ready.clone());
    let sent = match call.connection.take() {
        Some(connection) => channel.send_with(&ready, &connection).await,
        None => channel.send(&ready).await,
    };
    let lease = Arc::clone(&call.lease);
    let end = tokio::select! {
        request = channel.request(), if sent.is_ok() => match request {
            Ok(Request::StageDone) => StageEnd::Done,
            Ok(Request::StageLost { reason }) => StageEnd::Lost(reason),
            _ => StageEnd::Gone,
        },
        () = lease.ended.cancelled() => return Err(Failure::system(format!("the job was ended: {}", lease.reason()))),
        // The shim finds the next daemon; the stage does not notice.
        () = shutdown.cancelled() => return Ok(()),
        else => StageEnd::Gone,
    };
    match executor.close_stage(call, end).await {
        Some(message) => Err(Failure::system(message)),
        None => Ok(()),
    }
}
