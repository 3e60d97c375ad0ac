//! What happens on one caller's connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::channel::Channel;
use super::hands;
use super::parts::Parts;
use crate::controller::Controller;
use crate::executor::{Executor, Failure, Inputs, JobLog, Lease, ServiceLogs, StageEnd};
use crate::job::{Job, Secret, Secrets};
use crate::protocol::chain::{ChainReply, ChainRequest};
use crate::protocol::daemon::{ProcessId, Reply, Request};

/// Job responses in memory at once: a bound on what many large ones can take.
static JOB_RESPONSES: Semaphore = Semaphore::const_new(8);
/// How long a shim may take for what services have said until its stage's end.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(5);
/// Lines of that at most: services may go on writing. The next stage has those after them.
const LAST_LINES: usize = 1000;

/// Serves one caller. What goes wrong on the way to an answer is told to the caller, and noted here.
pub async fn serve(stream: UnixStream, refusal: Option<String>, parts: &Parts, shutdown: CancellationToken) {
    let mut channel = Channel::new(stream);
    let result = match refusal {
        Some(message) => Err(Failure::system(message)),
        None => answer(&mut channel, parts, &shutdown).await,
    };
    if let Err(Failure { class, message }) = result {
        tracing::debug!("caller refused: {message}");
        // A caller that is gone needs no answer.
        let _ = channel.send(&Reply::Failed { class, message }).await;
    }
}

async fn answer(channel: &mut Channel, parts: &Parts, shutdown: &CancellationToken) -> Result<(), Failure> {
    let request = tokio::select! {
        // Not begun yet: the caller asks the next daemon.
        () = shutdown.cancelled() => return Ok(()),
        request = channel.first_request() => request.map_err(unreadable)?,
    };
    match request {
        Request::Status => reply(channel, Reply::Status(Box::new(parts.report()))).await,
        Request::Chain(request) => {
            let answer = self::chain(channel, parts.chain()?, request).await?;
            reply(channel, Reply::Chain(Box::new(answer))).await
        }
        request => of_jobs(channel, parts.executor()?, shutdown, request).await,
    }
}

/// What is asked of the part that runs jobs.
async fn of_jobs(
    channel: &mut Channel,
    executor: &Arc<Executor>,
    shutdown: &CancellationToken,
    request: Request,
) -> Result<(), Failure> {
    match request {
        Request::Jobs(query) => {
            let jobs = executor.history().jobs(&query).await.map_err(|error| Failure::system(format!("{error:#}")))?;
            reply(channel, Reply::Jobs { jobs }).await
        }
        Request::CacheList => reply(channel, Reply::Lanes { lanes: executor.cache_list().await }).await,
        Request::ImagesList => reply(channel, Reply::Images { images: executor.images_list().await }).await,
        Request::Drain { on } => {
            if !channel.is_administrator() {
                return Err(Failure::system("only root and the daemon's own user may keep jobs from this host"));
            }
            executor.set_drained(on)?;
            reply(channel, Reply::Done).await
        }
        Request::CachePurge(request) => {
            if !channel.is_administrator() && !request.dry_run {
                return Err(Failure::system("only root and the daemon's own user may remove what jobs keep"));
            }
            let (executor, purge) = (Arc::clone(executor), request.clone());
            // A caller that goes away does not stop it half way.
            let purged = tokio::spawn(async move { executor.purge(&purge).await }).await;
            let removed =
                purged.map_err(|error| Failure::system(format!("internal error, please report it: {error}")))?;
            reply(channel, Reply::Purged { removed }).await
        }
        Request::Config { profile, runner, directory } => {
            let (job, token) = job(channel).await?;
            let (log, lines) = unbounded_channel();
            let log = JobLog::new(log);
            let leasing = async {
                executor.verify(&job, &token).await?;
                executor.lease_for(profile.as_deref(), job, runner, directory, &log).await
            };
            config(channel, executor, shutdown, lines, leasing).await
        }
        Request::Prepare { lease, profile, caller, inputs } => {
            let lease = executor.lease(&lease)?;
            let inputs = if inputs { self::inputs(channel, lease.record().job.id).await? } else { Inputs::default() };
            let preparing = prepare(channel, executor, &lease, profile.as_deref(), caller, inputs);
            preparing.instrument(lease.span.clone()).await
        }
        Request::Stage { lease, stage, attach, missed } => {
            let lease = executor.lease(&lease)?;
            missed.iter().for_each(|missed| executor.take_missed(&lease, missed));
            let span = tracing::error_span!(parent: &lease.span, "stage", stage);
            self::stage(channel, executor, shutdown, &lease, &stage, attach).instrument(span).await
        }
        Request::Cleanup { lease: Some(id), runner: _, missed } => {
            // One that is not there has been cleaned up already.
            if let Ok(lease) = executor.lease(&id) {
                missed.iter().for_each(|missed| executor.take_missed(&lease, missed));
                executor.clean_up(&lease);
            }
            reply(channel, Reply::Done).await
        }
        Request::Cleanup { lease: None, runner, missed: _ } => {
            let (job, _) = job(channel).await?;
            executor.end_leases_of(&job, runner, "the job is over before it began");
            reply(channel, Reply::Done).await
        }
        Request::Shell(request) => hands::shell(channel, executor, shutdown, &request).await,
        Request::Hold(request) => hands::hold(channel, executor, request).await,
        Request::HoldList => reply(channel, Reply::Holds { holds: executor.hold_list() }).await,
        Request::Release { what } => hands::release(channel, executor, &what).await,
        Request::Status
        | Request::Chain(_)
        | Request::Confirm
        | Request::StageDone { .. }
        | Request::StageLost { .. }
        | Request::ShellDone { .. } => Err(Failure::system("this request comes without what it belongs to")),
    }
}

/// What is asked of the chain.
async fn chain(channel: &Channel, chain: &Arc<Controller>, request: ChainRequest) -> Result<ChainReply, Failure> {
    if request.changes() && !channel.is_administrator() {
        return Err(Failure::system("only root and the daemon's own user may change what the chain does"));
    }
    let chain = Arc::clone(chain);
    // A caller that goes away does not stop it half way.
    let answer = tokio::spawn(async move { chain.answer(request).await }).await;
    let answer = answer.map_err(|error| Failure::system(format!("internal error, please report it: {error}")))?;
    answer.map_err(|error| Failure::system(format!("{error:#}")))
}

pub(super) fn unreadable(error: io::Error) -> Failure {
    Failure::system(format!("windlassd can't read this request: {error}"))
}

/// A caller that is gone gets no reply, and that is no error of anybody's.
pub(super) async fn reply(channel: &mut Channel, reply: Reply) -> Result<(), Failure> {
    if let Err(error) = channel.send(&reply).await {
        tracing::debug!("a reply was not taken: {error}");
    }
    Ok(())
}

async fn job(channel: &mut Channel) -> Result<(Job, Secret), Failure> {
    // The semaphore is never closed.
    let _place = JOB_RESPONSES.acquire().await;
    let bytes = channel.job_response().await.map_err(unreadable)?;
    let job = Job::parse(&bytes).map_err(Failure::system)?;
    let secrets = Secrets::parse(&bytes, job.id).map_err(Failure::system)?;
    Ok((job, secrets.token))
}

/// What follows a `Prepare`.
async fn inputs(channel: &mut Channel, job: i64) -> Result<Inputs, Failure> {
    let program = channel.take_fd();
    let _place = JOB_RESPONSES.acquire().await;
    let response = channel.job_response().await.map_err(unreadable)?;
    let variables = channel.variables().await.map_err(unreadable)?;
    Inputs::parse(job, &response, &variables, program).map_err(Failure::system)
}

/// Works for a caller: passes lines for the job log on and says now and then that it is at it. None when the caller went away,
/// or `stop` came: then the work is dropped where it is.
async fn work<T>(
    channel: &mut Channel,
    every: Duration,
    mut lines: UnboundedReceiver<String>,
    work: impl Future<Output = Result<T, Failure>>,
    stop: impl Future<Output = Result<(), Failure>>,
) -> Result<Option<T>, Failure> {
    let (mut work, mut stop) = (std::pin::pin!(work), std::pin::pin!(stop));
    let mut signs = tokio::time::interval(every);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            stopped = &mut stop => return stopped.map(|()| None),
            Some(text) = lines.recv() => reply(channel, Reply::Log { text }).await?,
            // Nothing is expected of the caller now: this is its end.
            _ = channel.request() => return Ok(None),
            _ = signs.tick() => reply(channel, Reply::Working).await?,
        }
    };
    while let Ok(text) = lines.try_recv() {
        reply(channel, Reply::Log { text }).await?;
    }
    result.map(Some)
}

/// A lease, unless the caller goes away before it has passed the answer on.
async fn config(
    channel: &mut Channel,
    executor: &Arc<Executor>,
    shutdown: &CancellationToken,
    lines: UnboundedReceiver<String>,
    leasing: impl Future<Output = Result<Arc<Lease>, Failure>>,
) -> Result<(), Failure> {
    // At a shutdown the caller asks the next daemon again.
    let stop = async {
        shutdown.cancelled().await;
        Ok(())
    };
    let Some(lease) = work(channel, executor.sign_of_life(), lines, leasing, stop).await? else { return Ok(()) };
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
    caller: ProcessId,
    inputs: Inputs,
) -> Result<(), Failure> {
    let (log, lines) = unbounded_channel();
    let log = JobLog::new(log);
    let preparing = executor.prepare(lease, profile, caller, inputs, &log);
    let stop = async {
        lease.ended.cancelled().await;
        Err(ended(lease))
    };
    match work(channel, executor.sign_of_life(), lines, preparing, stop).await? {
        Some(()) => reply(channel, Reply::Done).await,
        None => Ok(()),
    }
}

fn ended(lease: &Lease) -> Failure {
    Failure::system(format!("the job was ended: {}", lease.reason()))
}

/// A stage: opened, then watched for as long as its shim is there.
async fn stage(
    channel: &mut Channel,
    executor: &Arc<Executor>,
    shutdown: &CancellationToken,
    lease: &Arc<Lease>,
    name: &str,
    attach: bool,
) -> Result<(), Failure> {
    let (_log, lines) = unbounded_channel();
    let opening = executor.open_stage(lease, name, attach);
    let stop = async {
        shutdown.cancelled().await;
        Ok(())
    };
    let Some(mut call) = work(channel, executor.sign_of_life(), lines, opening, stop).await? else { return Ok(()) };
    let ready = Reply::StageReady(call.ready.clone());
    let sent = match call.connection.take() {
        Some(connection) => channel.send_with(&ready, &connection).await,
        None => channel.send(&ready).await,
    };
    if sent.is_err() {
        executor.close_stage(call, StageEnd::Gone).await;
        return Ok(());
    }
    let mut logs = executor.service_logs(lease);
    let end = tokio::select! {
        // What the shim has said counts, also when the next call has ended the lease meanwhile.
        biased;
        request = channel.request_beside(&mut logs) => match request {
            Ok(Request::StageDone { usage, code, stop }) => StageEnd::Done { usage, code, stop },
            Ok(Request::StageLost { reason }) => StageEnd::Lost(reason),
            _ => StageEnd::Gone,
        },
        () = lease.ended.cancelled() => return Err(ended(lease)),
        // The shim finds the next daemon; the stage does not notice.
        () = shutdown.cancelled() => return Ok(()),
    };
    let hears_the_last = matches!(end, StageEnd::Done { .. }) && call.ready.service_logs;
    // On record first: whatever becomes of this daemon now, the stage has ended so.
    let closed = executor.close_stage(call, end).await;
    if hears_the_last {
        last_words(channel, &mut logs).await;
    }
    match closed {
        Some(message) => Err(Failure::system(message)),
        None => Ok(()),
    }
}

/// What services have said until the stage's end. A shim that does not take it any more has no time for it.
async fn last_words(channel: &mut Channel, logs: &mut ServiceLogs) {
    let until = Instant::now() + LAST_WORDS_WITHIN;
    let left = || until.saturating_duration_since(Instant::now());
    let mut taken = channel.flush(left()).await.is_ok();
    for _ in 0..LAST_LINES {
        let Some(text) = taken.then(|| logs.try_next()).flatten() else { break };
        taken = channel.send_within(&Reply::Log { text }, left()).await.is_ok();
    }
    if !taken {
        logs.miss();
    }
}
