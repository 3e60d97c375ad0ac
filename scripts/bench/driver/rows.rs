//! What each row measures. Ours and the peer alternate, so that whatever else the host does burdens both.

use std::process::{Command, Stdio};
use std::time::Duration;

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
    peer: Duration,
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
        Row::Lanes(_) => repeat(count, || lanes(options, row))?,
    };
    let each = |time: fn(&Round) -> Option<Duration>| {
        let times: Vec<_> = rounds.iter().filter_map(time).collect();
        (!times.is_empty()).then(|| median(times))
    };
    Ok(Figure {
        row,
        ours: each(|round| Some(round.ours)).unwrap_or_default(),
        peer: each(|round| Some(round.peer)).unwrap_or_default(),
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
            peer: timed(container.exec(&file))?,
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
    Ok(Round { ours, peer, limit: None, gone: Some(gone) })
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
    Ok(Round { ours, peer, limit: None, gone: None })
}

fn prepare_ours(options: &Options) -> Result<Duration> {
    let mut attempt = Attempt::new(options, Side::Ours)?;
    attempt.config()?;
    let ours = attempt.prepare()?;
    attempt.cleanup()?;
    attempt.gone()?;
    Ok(ours)
}

/// A job's start and end with a daemon that keeps many lanes, against the same with one that keeps a single project's.
fn lanes(options: &Options, row: Row) -> Result<Round> {
    let many = Options { socket: options.work.join(row.name()).join("run/windlass.sock"), ..options.clone() };
    let (ours, peer) = (start_and_end(&many)?, start_and_end(options)?);
    Ok(Round { ours, peer, limit: None, gone: None })
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
    let mut round =
        prepare_ours(&with(&ours)).map(|ours| Round { ours, peer: Duration::ZERO, limit: None, gone: None })?;
    let container = Container::new(&peer.name)?;
    round.peer = container.made_in;
    container.remove()?;
    ours.remove()?;
    peer.remove()?;
    Ok(round)
}
