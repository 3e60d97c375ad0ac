//! How it goes on with what is free of a file system, from what was free, and from when the purge took something.

use super::past::DAY;

/// Samples that say nothing of a rate: too short a time, in milliseconds.
const RATE_OVER: i64 = 2 * 3_600_000;
/// The time that a rate is taken from, in milliseconds.
const RATE_OF: i64 = 3 * DAY;
/// Part of a file system that somebody has cleared up, and no job that has ended, where so much more is free than in a day before.
const CLEARED: u64 = 50;

/// How it goes on with what is free: bytes, or inodes.
pub struct Outlook {
    /// How much less is free in a day, without what the purge took; negative: more. None: not known.
    pub a_day: Option<i64>,
    /// When as little is free as is to be, in milliseconds since 1970; none: not at this rate.
    pub limit_at: Option<i64>,
    /// Whether it would fill, and has been as full before the purge took something.
    pub kept_by_purge: bool,
}

impl Outlook {
    /// Of samples, the oldest first, of a file system with `all` of it, of which `kept` are to be free. `purged` has the times at which the
    /// purge took something from it, the first one first.
    pub fn of(free: &[(i64, u64)], all: u64, kept: Option<u64>, purged: &[i64]) -> Self {
        let (rate, last) = (rate(free, all, purged), free.last().copied());
        // Before that there is no rate because there is little to see.
        let is_long = free.first().zip(last).is_some_and(|(first, last)| last.0 - first.0 >= RATE_OVER);
        let was_as_low = |(_, now): (i64, u64)| {
            let last = purged.last();
            last.is_some_and(|last| free.iter().any(|(at, free)| at < last && *free <= now))
        };
        let a_day = rate.map(|rate| whole(-rate * per_day()));
        Self {
            a_day,
            limit_at: last.zip(rate).zip(kept).and_then(|((last, rate), kept)| reaches(last, rate, kept)),
            kept_by_purge: a_day.is_none_or(|less| less > 0) && is_long && last.is_some_and(was_as_low),
        }
    }
}

/// What of it becomes free in a millisecond, by least squares over the last days: one slope for all the times between which something was
/// cleared up. What a job takes and gives back is between them, and comes to nothing.
#[allow(clippy::cast_precision_loss, reason = "bytes and times, for a rate")]
fn rate(free: &[(i64, u64)], all: u64, purged: &[i64]) -> Option<f64> {
    let end = free.last()?.0;
    let recent = &free[free.partition_point(|(at, _)| *at < end - RATE_OF)..];
    let purges_until = |at: i64| purged.partition_point(|purge| *purge <= at);
    let mut is_cleared = false;
    let between = recent.chunk_by(|(before, less), (at, more)| {
        let purged = purges_until(*before) < purges_until(*at);
        // What the purge took goes in the background.
        let still = is_cleared && more > less;
        is_cleared = purged || still || is_by_others(free, *before, more.saturating_sub(*less), *more, all);
        !is_cleared
    });
    let (mut length, mut together, mut alone) = (0, 0.0, 0.0);
    for run in between {
        let count = run.len() as f64;
        length += run[run.len() - 1].0 - run[0].0;
        let (time, value) = (
            run.iter().map(|(at, _)| (at - end) as f64).sum::<f64>() / count,
            run.iter().map(|(_, value)| *value as f64).sum::<f64>() / count,
        );
        together += run.iter().map(|(at, free)| ((at - end) as f64 - time) * (*free as f64 - value)).sum::<f64>();
        alone += run.iter().map(|(at, _)| ((at - end) as f64 - time).powi(2)).sum::<f64>();
    }
    (length >= RATE_OVER && alone > 0.0).then(|| together / alone)
}

/// Whether what became free between two samples, of which the first was `before`, is more than a job that ends gives back.
fn is_by_others(free: &[(i64, u64)], before: i64, more: u64, value: u64, all: u64) -> bool {
    let mut day = free.iter().filter(|(at, _)| (before - DAY..=before).contains(at));
    more > all / CLEARED && day.all(|(_, free)| *free < value)
}

/// When what is free has fallen to `kept`; within ten years.
#[allow(clippy::cast_precision_loss, reason = "bytes and times, for a date")]
fn reaches((at, free): (i64, u64), rate: f64, kept: u64) -> Option<i64> {
    if free <= kept {
        return Some(at);
    }
    if rate >= 0.0 {
        return None;
    }
    let rest = (free - kept) as f64 / -rate;
    (rest < 3650.0 * per_day()).then(|| at + whole(rest))
}

#[allow(clippy::cast_precision_loss, reason = "it is small")]
fn per_day() -> f64 {
    DAY as f64
}

#[allow(clippy::cast_possible_truncation, reason = "far below the bounds")]
fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_young_host_nobody_says_that_the_purge_keeps_it() {
        let hour = 3_600_000;
        let of = |hours: i64| {
            let free: Vec<(i64, u64)> = (0..=hours).map(|at| (at * hour, 5 + u64::from(at == 1))).collect();
            Outlook::of(&free, 100, Some(1), &(1..=hours).map(|at| at * hour - 1).collect::<Vec<_>>())
        };
        assert_eq!((of(1).a_day, of(1).kept_by_purge), (None, false));
        assert_eq!((of(3).a_day, of(3).kept_by_purge), (None, true), "it takes something all the time");
        // What stays as it is would not fill.
        let same: Vec<(i64, u64)> = (0..48).map(|at| (at * hour, 1_000_000)).collect();
        let same = Outlook::of(&same, 1 << 20, Some(1), &[24 * hour - 1]);
        assert_eq!((same.a_day, same.kept_by_purge), (Some(0), false));
    }
}
