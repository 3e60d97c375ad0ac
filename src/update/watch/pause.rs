//! How long until the next attempt to reach the feed. Pure, but for chance.

use std::time::Duration;

/// The first pause, at most.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// A connection that lasted so long was a good one.
pub const GOOD: Duration = Duration::from_secs(60);

/// The most that is waited after so many attempts that came to nothing.
fn most(attempts: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1))).min(LONGEST)
}

/// The pause after so many attempts that came to nothing, one at least. By chance between half and all of what it grows to, so that
/// hosts that lost the feed together don't come back together; never shorter than the feed wants it.
#[must_use]
pub fn pause(attempts: u32, wanted: Option<Duration>) -> Duration {
    let most = most(attempts);
    let by_chance = most.mul_f64(0.5 + fastrand::f64() / 2.0);
    by_chance.max(wanted.map_or(Duration::ZERO, |wanted| wanted.min(LONGEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_at_five_minutes() {
        let all: Vec<u64> = [1, 2, 3, 9, 10, u32::MAX].map(|attempts| most(attempts).as_secs()).to_vec();
        assert_eq!(all, [1, 2, 4, 256, 300, 300]);
    }

    #[test]
    fn pauses_differ_and_a_wanted_one_is_kept() {
        let some: Vec<Duration> = (0..50).map(|_| pause(5, None)).collect();
        assert!(some.iter().all(|pause| (8..=16).contains(&pause.as_secs())), "{some:?}");
        assert!(some.iter().any(|pause| *pause != some[0]));
        let wanted = Duration::from_secs(60);
        assert_eq!(pause(1, Some(wanted)), wanted);
        assert_eq!(pause(1, Some(Duration::from_secs(86_400))), LONGEST, "nobody sends it away for a day");
    }
}
