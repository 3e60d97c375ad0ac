//! What each row measures. Ours and the peer alternate, so that whatever else the host does burdens both.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use windlass::chain::facts::{Facts, Pipeline, Status, Success, Upstream};
use windlass::chain::reconcile::{Limits, decide};

use super::Result;
use super::attempt::{Attempt, STAGES, Side};
use super::call::{Done, call};
use super::options::{Options, Row};
use super::podman::{Container, FreshImage};
use super::report::{Figure, median};

/// The log row's writer: 1 GiB in writes of 64 KiB.
const WRITER: &str = "dd if=/dev/zero bs=64k count=16384 2>/dev/null";
/// What has to arrive of it.
const LOG_BYTES: u64 = 1 << 30;

/// The times of one round.
#[derive(Debug)]
struct Round {
    ours: Duration,
    peer: Option<Duration>,
    limit: Option<Duration>,
    gone: Option<Duration>,
}

/// Measures a row.
pub fn measure(row: Row, options: &Options) -> Result<Figure> {
    let count = row.rounds(options.rounds);
    let rounds = match row {
        Row::Stage => stage(options, count)?,
        Row::Job => repeat(count, || job(options))?,
        Row::Log => log(options, count)?,
        Row::Prepare => repeat(count, || prepare(options))?,
        Row::First => repeat(count, || first(options))?,
        Row::Reconcile => {
            let facts = large_chain();
            repeat(count, || Ok(reconcile(&facts)))?
        }
        Row::Lanes(_) => repeat(count, || lanes(options, row))?,
    };
    let each = |time: fn(&Round) -> Option<Duration>| {
        let times: Vec<_> = rounds.iter().filter_map(time).collect();
        (!times.is_empty()).then(|| median(times))
    };
    Ok(Figure {
        row,
        ours: each(|round| Some(round.ours)).unwrap_or_default(),
        peer: each(|round| round.peer),
        limit: each(|round| round.limit),
        gone: each(|round| round.gone),
    })
}

/// A warm-up that does not count, then the rounds that do.
fn repeat(count: usize, mut round: impl FnMut() -> Result<Round>) -> Result<Vec<Round>> {
    round()?;
    (0..count).map(|_| round()).collect()
}

/// A stage that does nothing, in a container that runs.
fn stage(options: &Options, count: usize) -> Result<Vec<Round>> {
    in_containers(options, count, "true\n", |_| Ok(()), None)
}

/// A stage whose output is large.
fn log(options: &Options, count: usize) -> Result<Vec<Round>> {
    let whole = |done: &Done| {
        if done.bytes == LOG_BYTES { Ok(()) } else { Err(format!("{} of {LOG_BYTES} bytes arrived", done.bytes)) }
    };
    let plain = || {
        let done = call(Command::new("sh").args(["-c", WRITER]).stdin(Stdio::null()))?;
        whole(&done)?;
        Ok(done.elapsed)
    };
    in_containers(options, count, &format!("{WRITER}\n"), whole, Some(&plain))
}

/// The same script as a stage in a job's container, through `podman exec` in one of the same image, and, where there is
/// a limit, without a container.
fn in_containers(
    options: &Options,
    count: usize,
    script: &str,
    check: impl Fn(&Done) -> Result<()>,
    limit: Option<&dyn Fn() -> Result<Duration>>,
) -> Result<Vec<Round>> {
    let mut attempt = Attempt::new(options, Side::Ours)?;
    attempt.config()?;
    attempt.prepare()?;
    let container = Container::new(&options.image)?;
    let file = options.work.join("script");
    std::fs::write(&file, script).map_err(|error| format!("write {}: {error}", file.display()))?;
    let timed = |done: Result<Done>| {
        let done = done?;
        check(&done).map(|()| done.elapsed)
    };
    let rounds = repeat(count, || {
        Ok(Round {
            ours: timed(attempt.run("build_script", script))?,
            peer: Some(timed(container.exec(&file))?),
            limit: limit.map(|limit| limit()).transpose()?,
            gone: None,
        })
    });
    container.remove()?;
    attempt.cleanup()?;
    attempt.gone()?;
    rounds
}

/// A whole job with trivial scripts, from config until cleanup has returned.
///
/// cleanup returns early with us by design: the slot's next job need not wait for podman. What goes on in the background is
/// waited for before the peer's turn, and reported beside the figure.
fn job(options: &Options) -> Result<Round> {
    let (ours, gone) = whole_job(options, Side::Ours)?;
    let (peer, _) = whole_job(options, Side::Peer)?;
    Ok(Round { ours, peer: Some(peer), limit: None, gone: Some(gone) })
}

/// Returns the time until cleanup had returned, and until nothing was left.
fn whole_job(options: &Options, side: Side) -> Result<(Duration, Duration)> {
    let mut attempt = Attempt::new(options, side)?;
    let mut total = attempt.config()? + attempt.prepare()?;
    for stage in STAGES {
        total += attempt.run(stage, &format!("set -e\necho {stage}\n"))?.elapsed;
    }
    total += attempt.cleanup()?;
    Ok((total, total + attempt.gone()?))
}

/// The job's container until stages can run in it, against a container that `podman run` made.
fn prepare(options: &Options) -> Result<Round> {
    let ours = prepare_ours(options)?;
    let container = Container::new(&options.image)?;
    let peer = container.made_in;
    container.remove()?;
    Ok(Round { ours, peer: Some(peer), limit: None, gone: None })
}

fn prepare_ours(options: &Options) -> Result<Duration> {
    let mut attempt = Attempt::new(options, Side::Ours)?;
    attempt.config()?;
    let ours = attempt.prepare()?;
    attempt.cleanup()?;
    attempt.gone()?;
    Ok(ours)
}

/// 10,000 projects, each on up to three others; the one below all has just succeeded.
fn large_chain() -> Facts {
    let mut facts = Facts::default();
    let success = |id: i64, at| (Pipeline { id, status: Status::Success, created_at: at }, Success { id, at: at + 1 });
    for project in 0..10_000 {
        let (pipeline, success) = success(project + 1, 10);
        facts.observe(project, Some(pipeline), Some(success));
    }
    for project in 1..10_000 {
        let upstreams = [project / 2, project * 7 % project, project - 1];
        facts.set_edges(project, upstreams.map(|upstream| (Upstream::Project(upstream), false)));
    }
    let (pipeline, success) = success(20_000, 30);
    facts.observe(0, Some(pipeline), Some(success));
    facts
}

fn reconcile(facts: &Facts) -> Round {
    let since = Instant::now();
    let plan = decide(facts, &Limits { now: 1000, max_running: 1000, settle: 0, quiet: false });
    let ours = since.elapsed();
    assert!(!plan.triggers.is_empty(), "the project below all has succeeded");
    Round { ours, peer: None, limit: None, gone: None }
}

/// A job's start and end with a daemon that keeps many lanes, against the same with one that keeps a single project's.
fn lanes(options: &Options, row: Row) -> Result<Round> {
    let many = Options { socket: options.work.join(row.name()).join("run/windlass.sock"), ..options.clone() };
    let (ours, peer) = (start_and_end(&many)?, start_and_end(options)?);
    Ok(Round { ours, peer: Some(peer), limit: None, gone: None })
}

/// Until stages can run, and from cleanup until nothing is left.
fn start_and_end(options: &Options) -> Result<Duration> {
    let mut attempt = Attempt::new(options, Side::Ours)?;
    let start = attempt.config()? + attempt.prepare()?;
    Ok(start + attempt.cleanup()? + attempt.gone()?)
}

/// As [`prepare`], each side with an image of its own that is new to this host.
fn first(options: &Options) -> Result<Round> {
    let (ours, peer) = (FreshImage::new(&options.work)?, FreshImage::new(&options.work)?);
    let with = |image: &FreshImage| Options { image: image.name.clone(), ..options.clone() };
    let mut round = prepare_ours(&with(&ours)).map(|ours| Round { ours, peer: None, limit: None, gone: None })?;
    let container = Container::new(&peer.name)?;
    round.peer = Some(container.made_in);
    container.remove()?;
    ours.remove()?;
    peer.remove()?;
    Ok(round)
}
