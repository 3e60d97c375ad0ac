//! Healthchecks: how long one is waited for, and when Windlass has to run it itself. Pure.

use std::time::Duration;

use super::units::HealthSpec;

/// Added to what the healthcheck itself may take: podman and the machine need time too.
const MARGIN: Duration = Duration::from_secs(10);
/// A healthcheck without an interval is run this often while somebody waits for it.
const OWN_INTERVAL: Duration = Duration::from_secs(5);

/// How long a container may take to become healthy: its start period, then as many checks as have to fail in a row.
#[must_use]
pub fn bound(spec: HealthSpec, most: Duration) -> Duration {
    let round = spec.interval.max(Duration::from_secs(1)).saturating_add(spec.timeout);
    let rounds = round.saturating_mul(spec.retries.saturating_add(1));
    spec.start_period.saturating_add(rounds).saturating_add(MARGIN).min(most)
}

/// Whether nobody else runs the check: it has not ended once in the time in which podman's timer would have run it. Where no manager
/// of the user runs there are no timers.
#[must_use]
pub fn is_due(spec: HealthSpec, since_last: Duration) -> bool {
    if spec.interval.is_zero() {
        return since_last >= OWN_INTERVAL;
    }
    since_last >= spec.interval.saturating_add(spec.timeout).saturating_add(MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(interval: u64, timeout: u64, start_period: u64, retries: u32) -> HealthSpec {
        let seconds = Duration::from_secs;
        HealthSpec {
            interval: seconds(interval),
            timeout: seconds(timeout),
            start_period: seconds(start_period),
            retries,
        }
    }

    #[test]
    fn a_healthcheck_is_waited_for_as_long_as_it_may_take_and_no_longer_than_the_setting() {
        let most = Duration::from_secs(600);
        assert_eq!(bound(spec(30, 30, 60, 3), most), Duration::from_secs(60 + 4 * 60 + 10));
        assert_eq!(bound(spec(300, 30, 0, 3), most), most);
        assert_eq!(bound(spec(u64::MAX, 30, 0, u32::MAX), most), most);
    }

    #[test]
    fn a_check_that_no_timer_runs_is_run_here() {
        let thirty = spec(30, 5, 0, 3);
        assert!(!is_due(thirty, Duration::from_secs(44)));
        assert!(is_due(thirty, Duration::from_secs(45)));
        assert!(is_due(spec(0, 30, 0, 3), Duration::from_secs(5)));
    }
}
