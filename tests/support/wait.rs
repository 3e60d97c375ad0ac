//! Waiting for a condition, with a deadline. `WINDLASS_PATIENCE=10` makes all deadlines ten times as long, for an emulated machine.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; a test that waits longer than `limit` has failed.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    value(what, limit, || condition().then_some(()));
}

/// Waits until `attempt` gives a value.
pub fn value<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    let limit = limit * patience();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain until {what}");
        std::thread::sleep(PAUSE);
    }
}

fn patience() -> u32 {
    std::env::var("WINDLASS_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// `n` seconds.
pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
