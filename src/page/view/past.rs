//! What has been: jobs and pulls by day, free space over time and when it ends, what the purge took and why.

use serde::Serialize;

use crate::protocol::history::{DiskRow, OutcomeDay, PullDay, PurgeRow, StageDay};

/// Milliseconds of a day.
pub const DAY: i64 = 86_400_000;
/// The days that are shown.
pub const DAYS: i64 = 14;
/// Samples that say nothing of a rate: too short a time, in milliseconds.
const RATE_OVER: i64 = 2 * 3_600_000;
/// The time that a rate is taken from, in milliseconds.
const RATE_OF: i64 = 3 * DAY;

/// The jobs of the past days.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Jobs {
    /// How many jobs had which outcome, by day.
    pub outcomes: Vec<OutcomeDay>,
    /// How long stages took, by day.
    pub stages: Vec<StageDay>,
    /// Pulls by day.
    pub pulls: Vec<PullDay>,
}

/// The disks of the past days.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DiskPast {
    /// File systems with their samples.
    pub file_systems: Vec<Samples>,
    /// What the purge took, the newest first.
    pub purges: Vec<PurgeRow>,
}

/// A file system over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Samples {
    /// A directory on it.
    pub path: String,
    /// When, in milliseconds since 1970, and how many bytes were free then; the oldest first.
    pub free: Vec<(i64, u64)>,
    /// Bytes that are free in a day less than before, at the rate of the last days; negative: more. None: not known yet.
    pub bytes_a_day: Option<i64>,
    /// When as little is free as the purge keeps, at this rate, in milliseconds since 1970; none: not at this rate.
    pub limit_at: Option<i64>,
}

/// The disks' past, of looks at file systems in any order. `kept_free`: how much the purge keeps free on the file system of a path.
#[must_use]
pub fn disk_past(
    rows: &[DiskRow],
    purges: Vec<PurgeRow>,
    kept_free: impl Fn(&str) -> Option<u64>,
    most: usize,
) -> DiskPast {
    let mut file_systems: Vec<Samples> = Vec::new();
    for row in rows {
        let index = match file_systems.iter().position(|known| known.path == row.path) {
            Some(index) => index,
            None => {
                file_systems.push(Samples { path: row.path.clone(), ..Samples::default() });
                file_systems.len() - 1
            }
        };
        file_systems[index].free.push((row.at, row.free_bytes));
    }
    for of in &mut file_systems {
        of.free.sort_unstable();
        let rate = rate(&of.free);
        of.bytes_a_day = rate.map(|rate| whole(-rate * per_day()));
        let last = of.free.last().copied();
        of.limit_at =
            last.zip(rate).zip(kept_free(&of.path)).and_then(|((last, rate), kept)| reaches(last, rate, kept));
        of.free = thinned(&of.free, most);
    }
    DiskPast { file_systems, purges }
}

/// Bytes in a millisecond by which what is free grows, by least squares over the last days.
#[allow(clippy::cast_precision_loss, reason = "bytes and times, for a rate")]
fn rate(free: &[(i64, u64)]) -> Option<f64> {
    let end = free.last()?.0;
    let recent: Vec<(f64, f64)> = free
        .iter()
        .filter(|(at, _)| *at >= end - RATE_OF)
        .map(|(at, bytes)| ((at - end) as f64, *bytes as f64))
        .collect();
    let begin = recent.first()?.0;
    if -begin < RATE_OVER as f64 {
        return None;
    }
    let count = recent.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| recent.iter().map(of).sum::<f64>() / count;
    let (time, bytes) = (mean(|one| one.0), mean(|one| one.1));
    let together: f64 = recent.iter().map(|one| (one.0 - time) * (one.1 - bytes)).sum();
    let alone: f64 = recent.iter().map(|one| (one.0 - time).powi(2)).sum();
    (alone > 0.0).then(|| together / alone)
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

/// At most so many of them, evenly, the last one among them.
fn thinned<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    let step = all.len().div_ceil(most.max(1)).max(1);
    let mut kept: Vec<T> = all.iter().rev().step_by(step).copied().collect();
    kept.reverse();
    kept
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

    fn row(hour: i64, path: &str, free: u64) -> DiskRow {
        DiskRow {
            at: hour * 3_600_000,
            path: path.into(),
            free_bytes: free,
            bytes: 1 << 40,
            free_inodes: 0,
            inodes: 0,
            lanes_bytes: None,
            images_bytes: None,
        }
    }

    #[test]
    fn a_disk_that_fills_reaches_its_limit_at_its_rate() {
        let mut rows: Vec<DiskRow> =
            (0..48).map(|hour| row(hour, "/a", 1_000_000 - u64::try_from(hour).unwrap_or(0) * 1000)).collect();
        rows.reverse();
        let found = disk_past(&rows, vec![], |_| Some(853_000), 10);
        let of = &found.file_systems[0];
        assert_eq!((of.bytes_a_day, of.limit_at), (Some(24_000), Some(147 * 3_600_000)));
        assert!(of.free.len() <= 10 && of.free.last() == Some(&(47 * 3_600_000, 953_000)), "{of:?}");
    }

    #[test]
    fn one_that_empties_and_one_that_is_hardly_known_reach_nothing() {
        let rows = [row(0, "/a", 5), row(5, "/a", 50), row(0, "/b", 50), row(1, "/b", 5)];
        let found = disk_past(&rows, vec![], |_| Some(1), 10);
        assert_eq!((found.file_systems[0].limit_at, found.file_systems[0].bytes_a_day < Some(0)), (None, true));
        assert_eq!((found.file_systems[1].limit_at, found.file_systems[1].bytes_a_day), (None, None));
    }
}
