//! What has been: jobs and pulls by day, free space over time and when it ends, what the purge took and why.

use serde::Serialize;

use super::outlook::Outlook;
use crate::protocol::admin::FileSystem;
use crate::protocol::history::{DiskRow, OutcomeDay, PullDay, PurgeRow, StageDay};

/// Milliseconds of a day.
pub const DAY: i64 = 86_400_000;
/// The days that are shown.
pub const DAYS: i64 = 14;
/// Purges that are shown.
const PURGES: usize = 50;
/// Two samples with more time between them have a gap between them, in milliseconds: the daemon was off.
const GAP: i64 = 3_600_000;
/// The jobs of the past days.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Jobs {
    /// How many jobs had which outcome, by day.
    pub outcomes: Vec<OutcomeDay>,
    /// How long stages took, by day.
    pub stages: Vec<StageDay>,
    /// Pulls by day.
    pub pulls: Vec<PullDay>,
    /// Why what was can't be read; none: it was.
    pub unread: Option<String>,
}

/// The disks of the past days.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DiskPast {
    /// File systems with their samples.
    pub file_systems: Vec<Samples>,
    /// What the purge took, the newest first.
    pub purges: Vec<PurgeRow>,
    /// Why what was can't be read; none: it was.
    pub unread: Option<String>,
}

/// A file system over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Samples {
    /// A directory on it.
    pub path: String,
    /// When, in milliseconds since 1970, and how many bytes were free then; the oldest first.
    pub free: Vec<(i64, u64)>,
    /// The same of inodes; empty where it has no bound of them.
    pub free_inodes: Vec<(i64, u64)>,
    /// The samples after which there was none for over an hour.
    pub gaps: Vec<i64>,
    /// Bytes that are free in a day less than before, at the rate of the last days without what the purge took; negative: more. None: not
    /// known.
    pub bytes_a_day: Option<i64>,
    /// When as little is free as the purge keeps, at this rate, in milliseconds since 1970; none: not at this rate.
    pub limit_at: Option<i64>,
    /// Whether it is the purge that has kept it from filling: it would fill, and as little was free before the purge took something.
    pub kept_by_purge: bool,
    /// As `bytes_a_day`, of inodes.
    pub inodes_a_day: Option<i64>,
    /// As `limit_at`, of inodes.
    pub inodes_limit_at: Option<i64>,
    /// As `kept_by_purge`, of inodes.
    pub inodes_kept_by_purge: bool,
    /// Bytes that the purge took from it since the first sample, as far as they were measured.
    pub purged_bytes: u64,
}

/// The disks' past, of looks at file systems in any order, and of purges, the newest first. `now` has the file systems with how much the
/// purge keeps free; of samples about `most` are kept.
#[must_use]
pub fn disk_past(rows: &[DiskRow], mut purges: Vec<PurgeRow>, now: &[FileSystem], most: usize) -> DiskPast {
    let mut paths: Vec<&str> = Vec::new();
    for row in rows {
        if !paths.contains(&row.path.as_str()) {
            paths.push(&row.path);
        }
    }
    let of_path = |path: &&str| {
        let mut rows: Vec<&DiskRow> = rows.iter().filter(|row| row.path == **path).collect();
        rows.sort_unstable_by_key(|row| row.at);
        samples(&rows, &purges, now.iter().find(|of| of.path == **path), most)
    };
    let file_systems = paths.iter().map(of_path).collect();
    purges.truncate(PURGES);
    DiskPast { file_systems, purges, unread: None }
}

/// A file system, of looks at it, the oldest first.
fn samples(rows: &[&DiskRow], purges: &[PurgeRow], now: Option<&FileSystem>, most: usize) -> Samples {
    let Some((first, last)) = rows.first().zip(rows.last()) else { return Samples::default() };
    let has_images = rows.iter().any(|row| row.images_bytes.is_some());
    let has_lanes = rows.iter().any(|row| row.lanes_bytes.is_some());
    let of_it = |purge: &&PurgeRow| purge.at >= first.at && if purge.kind == "image" { has_images } else { has_lanes };
    let mut purged: Vec<i64> = purges.iter().filter(of_it).map(|purge| purge.at).collect();
    purged.sort_unstable();
    let all = |of: fn(&DiskRow) -> u64| rows.iter().map(|row| (row.at, of(row))).collect::<Vec<_>>();
    let bytes = Outlook::of(&all(|row| row.free_bytes), last.bytes, now.map(|now| now.kept_free_bytes), &purged);
    let mut of = Samples {
        path: last.path.clone(),
        bytes_a_day: bytes.a_day,
        limit_at: bytes.limit_at,
        kept_by_purge: bytes.kept_by_purge,
        purged_bytes: purges.iter().filter(of_it).filter_map(|purge| purge.bytes).sum(),
        ..Samples::default()
    };
    let counts_inodes = last.inodes > 0;
    if counts_inodes {
        let kept = now.map(|now| now.kept_free_inodes);
        let inodes = Outlook::of(&all(|row| row.free_inodes), last.inodes, kept, &purged);
        (of.inodes_a_day, of.inodes_limit_at) = (inodes.a_day, inodes.limit_at);
        of.inodes_kept_by_purge = inodes.kept_by_purge;
    }
    let step = rows.len().div_ceil(most.max(1));
    for run in rows.chunk_by(|one, next| next.at - one.at <= GAP) {
        of.gaps.extend(of.free.last().map(|(at, _)| *at));
        for row in thinned(run, step) {
            of.free.push((row.at, row.free_bytes));
            if counts_inodes {
                of.free_inodes.push((row.at, row.free_inodes));
            }
        }
    }
    of
}

/// Each of so many, the last one among them.
fn thinned<T: Copy>(all: &[T], step: usize) -> Vec<T> {
    let mut kept: Vec<T> = all.iter().rev().step_by(step.max(1)).copied().collect();
    kept.reverse();
    kept
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
            lanes_bytes: Some(0),
            images_bytes: None,
        }
    }

    fn keeps(path: &str, kept_free_bytes: u64, kept_free_inodes: u64) -> FileSystem {
        FileSystem {
            path: path.into(),
            bytes: 1 << 40,
            free_bytes: 0,
            kept_free_bytes,
            inodes: 0,
            free_inodes: 0,
            kept_free_inodes,
        }
    }

    #[test]
    fn a_disk_that_fills_reaches_its_limit_at_its_rate() {
        let mut rows: Vec<DiskRow> =
            (0..48).map(|hour| row(hour, "/a", 1_000_000 - u64::try_from(hour).unwrap_or(0) * 1000)).collect();
        rows.reverse();
        let found = disk_past(&rows, vec![], &[keeps("/a", 853_000, 0)], 10);
        let of = &found.file_systems[0];
        assert_eq!((of.bytes_a_day, of.limit_at), (Some(24_000), Some(147 * 3_600_000)));
        assert!(of.free.len() <= 10 && of.free.last() == Some(&(47 * 3_600_000, 953_000)), "{of:?}");
        assert!(of.gaps.is_empty() && of.free_inodes.is_empty() && !of.kept_by_purge, "{of:?}");
    }

    #[test]
    fn one_that_empties_and_one_that_is_hardly_known_reach_nothing() {
        let rows = [row(0, "/a", 5), row(5, "/a", 50), row(0, "/b", 50), row(1, "/b", 5)];
        let found = disk_past(&rows, vec![], &[keeps("/a", 1, 0), keeps("/b", 1, 0)], 10);
        assert_eq!((found.file_systems[0].limit_at, found.file_systems[0].bytes_a_day < Some(0)), (None, true));
        assert_eq!((found.file_systems[1].limit_at, found.file_systems[1].bytes_a_day), (None, None));
    }

    #[test]
    fn inodes_have_a_forecast_of_their_own_where_they_are_bounded() {
        let of = |inodes| {
            let row = |hour: i64| DiskRow {
                free_inodes: 90_000 - u64::try_from(hour).expect("a number") * 100,
                inodes,
                ..row(hour, "/a", 1 << 39)
            };
            let rows: Vec<DiskRow> = (0..24).map(row).collect();
            disk_past(&rows, vec![], &[keeps("/a", 1, 85_300)], 100).file_systems.remove(0)
        };
        let found = of(100_000);
        assert_eq!((found.bytes_a_day, found.limit_at), (Some(0), None));
        assert_eq!((found.inodes_a_day, found.inodes_limit_at), (Some(2400), Some(47 * 3_600_000)));
        assert_eq!(found.free_inodes.last(), Some(&(23 * 3_600_000, 87_700)));
        let found = of(0);
        assert_eq!((found.inodes_a_day, found.inodes_limit_at, found.free_inodes.len()), (None, None, 0));
    }

    #[test]
    fn while_the_daemon_was_off_there_is_a_gap() {
        let rows: Vec<DiskRow> =
            (0..300).filter(|hour| !(100..120).contains(hour)).map(|hour| row(hour, "/a", 1)).collect();
        let found = disk_past(&rows, vec![], &[], 40).file_systems.remove(0);
        assert_eq!(found.gaps, [99 * 3_600_000]);
        assert!(found.free.len() <= 42 && found.free.iter().any(|(at, _)| *at == found.gaps[0]), "{found:?}");
    }

    const GIB: u64 = 1 << 30;
    /// Between two samples.
    const EVERY: i64 = 600_000;

    /// What becomes of a file system of 500 GiB in two weeks: free space by the time in milliseconds, and when the purge took something.
    fn two_weeks(free: impl Fn(i64) -> u64, purged: &[i64]) -> Samples {
        let row = |at: i64| DiskRow { at, bytes: 500 * GIB, ..row(0, "/a", free(at)) };
        let rows: Vec<DiskRow> = (0..DAYS * DAY / EVERY).map(|number| row(number * EVERY)).collect();
        let purge = |at: &i64| PurgeRow {
            at: *at,
            kind: "lane".into(),
            name: "builds-0".into(),
            project_path: None,
            bytes: Some(40 * GIB),
            age_s: 1,
            rule: "min_free".into(),
        };
        let purges = purged.iter().rev().map(purge).collect();
        disk_past(&rows, purges, &[keeps("/a", 50 * GIB, 0)], 100).file_systems.remove(0)
    }

    /// Bytes that ten GiB a day come to.
    fn ten_a_day(time: i64) -> u64 {
        10 * GIB * u64::try_from(time).expect("a time") / DAY.unsigned_abs()
    }

    #[track_caller]
    fn expect_ten_a_day(of: &Samples) {
        expect_about_ten_a_day(of, 50);
    }

    /// Within a part of it.
    #[track_caller]
    fn expect_about_ten_a_day(of: &Samples, part: i64) {
        let (found, ten) = (of.bytes_a_day.expect("known"), i64::try_from(10 * GIB).expect("a number"));
        assert!((found - ten).abs() < ten / part, "{found} instead of {ten}");
        let (at, free) = of.free[of.free.len() - 1];
        let days = i64::try_from((free - 50 * GIB) / (10 * GIB)).expect("a number");
        let limit = of.limit_at.expect("it fills");
        assert!((at + (days - 1) * DAY..at + (days + 2) * DAY).contains(&limit), "{limit}: {days} days from {at}");
    }

    /// Ten GiB a day, and forty go at once every four days, the first time after `phase`.
    fn sawtooth(phase: i64) -> (impl Fn(i64) -> u64, Vec<i64>) {
        let period = 4 * DAY;
        let free = move |at: i64| 140 * GIB - ten_a_day((at + period - phase).rem_euclid(period));
        (free, (0..4).map(|tooth| phase + tooth * period).filter(|at| *at < DAYS * DAY).collect())
    }

    #[test]
    fn the_rate_is_that_between_purges_and_it_is_the_purge_that_keeps_the_disk() {
        for phase in (1..4 * 24 * 6).step_by(7).map(|number| number * EVERY) {
            let (free, purged) = sawtooth(phase);
            let of = two_weeks(free, &purged);
            expect_ten_a_day(&of);
            assert!(of.kept_by_purge, "{phase}");
            assert_eq!(of.purged_bytes, 40 * GIB * u64::try_from(purged.len()).expect("few"));
        }
    }

    #[test]
    fn what_somebody_else_clears_up_is_no_purges_merit_and_changes_the_rate_as_little() {
        for phase in (1..4 * 24 * 6).step_by(7).map(|number| number * EVERY) {
            let of = two_weeks(sawtooth(phase).0, &[]);
            expect_ten_a_day(&of);
            assert!(!of.kept_by_purge && of.purged_bytes == 0, "{of:?}");
        }
    }

    #[test]
    fn what_a_purge_took_may_take_hours_to_go() {
        // The last one was six hours ago, and took two hours for its forty GiB.
        let purged = DAYS * DAY - DAY / 4;
        let gone = |at: i64| (40 * GIB).min(20 * GIB * u64::try_from(at - purged).unwrap_or(0) / 3_600_000);
        expect_ten_a_day(&two_weeks(|at| 250 * GIB - ten_a_day(at) + gone(at), &[purged]));
    }

    #[test]
    fn what_jobs_take_and_give_back_does_not_fill_a_disk() {
        // Thirty GiB for an hour, every three hours.
        let busy = |at: i64| if at / 3_600_000 % 3 == 0 { 30 * GIB } else { 0 };
        expect_about_ten_a_day(&two_weeks(|at| 250 * GIB - ten_a_day(at) - busy(at), &[]), 10);
        let of = two_weeks(|at| 250 * GIB - busy(at), &[]);
        assert!(of.bytes_a_day.expect("known").unsigned_abs() < GIB, "{:?}", of.bytes_a_day);
        let (free, purged) = sawtooth(DAY);
        expect_about_ten_a_day(&two_weeks(|at| 50 * GIB + free(at) - busy(at), &purged), 8);
    }

    #[test]
    fn a_disk_that_is_purged_all_the_time_has_no_rate_and_is_kept_by_that() {
        let purged: Vec<i64> = (1..DAYS * DAY / EVERY).map(|number| number * EVERY - 1).collect();
        let of = two_weeks(|at| 60 * GIB + at.unsigned_abs() / 600_000 % 3, &purged);
        assert_eq!((of.bytes_a_day, of.limit_at, of.kept_by_purge), (None, None, true));
    }

    #[test]
    fn a_purge_that_does_not_keep_up_keeps_nothing() {
        let purged = DAYS * DAY - DAY;
        let of = two_weeks(|at| 250 * GIB - ten_a_day(at) + if at >= purged { 5 * GIB } else { 0 }, &[purged]);
        expect_ten_a_day(&of);
        assert!(!of.kept_by_purge, "it was never as low as now");
    }
}
