//! How far GitLab's clock is off, as far as its answers tell: their header `Date` has whole seconds, and nobody knows how long an answer was
//! on its way.

use std::sync::{Mutex, PoisonError};

/// For so many milliseconds that pass, two clocks may come apart by one more: twice as fast as a clock that is being set right.
const DRIFT: i64 = 1000;

/// GitLab's clock, seen from this host.
#[derive(Debug, Default)]
pub(super) struct Clock(Mutex<Option<Between>>);

impl Clock {
    /// Takes in the date of an answer to a request that was sent and answered at these times of the host's clock; all in milliseconds since
    /// 1970.
    pub(super) fn note(&self, date: i64, sent: i64, received: i64) {
        // The host's clock was set back meanwhile: nobody knows.
        if sent > received {
            return;
        }
        let said = Between::of(date, sent, received);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(match *known {
            Some(before) => before.and(said),
            None => said,
        });
    }

    /// By how many milliseconds it is ahead of the host's; what may be the same clock counts as the same.
    pub(super) fn ahead(&self) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(0, Between::middle)
    }
}

/// By how many milliseconds GitLab's clock is ahead: at least, and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Between {
    low: i64,
    high: i64,
    /// When that was so, by the host's clock.
    at: i64,
}

impl Between {
    /// What one answer says: its date was true at some moment between `sent` and `received`, and has lost up to a second. So an answer that
    /// took long says little, and never that a clock was set back.
    fn of(date: i64, sent: i64, received: i64) -> Self {
        Self { low: date - received, high: date + 999 - sent, at: received }
    }

    /// What both say; where they can't both be true, one of the clocks was set, and the later counts.
    fn and(self, later: Self) -> Self {
        let drift = (later.at - self.at).abs() / DRIFT;
        let (low, high) = (later.low.max(self.low - drift), later.high.min(self.high + drift));
        if low <= high { Self { low, high, at: later.at } } else { later }
    }

    fn middle(self) -> i64 {
        if self.low <= 0 && self.high >= 0 { 0 } else { self.low.midpoint(self.high) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole second.
    const NOON: i64 = 1_700_000_000_000;

    /// An answer of a clock that is so far ahead, which wrote its date `wrote` after the request and arrived `took` after it.
    fn answer(clock: &Clock, ahead: i64, sent: i64, wrote: i64, took: i64) {
        clock.note((sent + wrote + ahead) / 1000 * 1000, sent, sent + took);
    }

    #[test]
    fn what_may_be_the_same_clock_is_the_same() {
        let clock = Clock::default();
        for (sent, wrote, took) in [(NOON, 0, 3), (NOON + 998, 1, 5), (NOON + 2500, 100, 9000)] {
            answer(&clock, 0, sent, wrote, took);
            assert_eq!(clock.ahead(), 0);
        }
    }

    #[test]
    fn an_answer_that_took_long_sets_no_clock_back() {
        for ahead in [0, 20_000, -20_000] {
            let clock = Clock::default();
            answer(&clock, ahead, NOON + 300, 10, 20);
            let before = clock.ahead();
            assert!((before - ahead).abs() <= 510, "{before}");
            // Its date was written at once, and it was eight seconds on its way; or the other way round.
            answer(&clock, ahead, NOON + 2300, 10, 8000);
            answer(&clock, ahead, NOON + 12_300, 8000, 8010);
            assert!((clock.ahead() - ahead).abs() <= 510, "{} for {ahead}", clock.ahead());
        }
    }

    #[test]
    fn many_answers_tell_more_than_one() {
        let clock = Clock::default();
        for at in 0..10 {
            answer(&clock, -2345, NOON + at * 1100, 5, 10);
        }
        assert!((clock.ahead() + 2345).abs() <= 60, "{}", clock.ahead());
    }

    #[test]
    fn a_clock_that_is_set_is_followed_at_once() {
        let clock = Clock::default();
        for (at, ahead) in [(0, 0), (5000, 3_600_000), (10_000, -3_600_000), (15_000, 0)] {
            answer(&clock, ahead, NOON + at, 5, 10);
            assert!((clock.ahead() - ahead).abs() <= 510, "{} for {ahead}", clock.ahead());
        }
    }

    #[test]
    fn a_request_during_which_the_hosts_clock_was_set_back_says_nothing() {
        let clock = Clock::default();
        clock.note(NOON, NOON, NOON - 60_000);
        assert_eq!(clock.ahead(), 0);
    }
}
