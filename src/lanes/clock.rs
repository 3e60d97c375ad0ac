//! The clock that ages are counted by. It goes as the time since boot goes, so nobody who sets the host's clock makes lanes old or
//! young; only what passed over a reboot is taken from the host's clock, and bounded.

use serde::{Deserialize, Serialize};

/// Most of a time switched off that counts, in seconds: a host whose clock starts in another decade has its lanes still.
const OFF_MAX: u64 = 7 * 24 * 3600;

/// What the host's clocks say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Seconds since 1970; anybody may set it.
    pub wall: u64,
    /// Seconds since boot, time asleep included.
    pub since_boot: u64,
    /// Which boot (/proc/sys/kernel/random/boot_id).
    pub boot: String,
}

impl Reading {
    /// What they say now.
    #[must_use]
    pub fn now() -> Self {
        use nix::time::{ClockId, clock_gettime};
        let seconds = |clock| clock_gettime(clock).map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or(0));
        Self { wall: seconds(ClockId::CLOCK_REALTIME), since_boot: seconds(ClockId::CLOCK_BOOTTIME), boot: boot_id() }
    }
}

/// Which boot of the host this is.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// The clock: seconds, at first those since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    now: u64,
    read: Reading,
}

impl Clock {
    /// A new one.
    #[must_use]
    pub fn new(read: Reading) -> Self {
        Self { now: read.wall, read }
    }

    /// Its time as of the last reading.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Which boot it was last read in.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.read.boot
    }

    /// Goes on to this reading; returns its time then.
    pub fn advance(&mut self, read: Reading) -> u64 {
        let passed = if read.boot == self.read.boot {
            read.since_boot.saturating_sub(self.read.since_boot)
        } else {
            read.wall.saturating_sub(self.read.wall).min(OFF_MAX)
        };
        self.now += passed;
        self.read = read;
        self.now
    }

    /// Goes on at least to this time: that of a use on record, where this clock's own record is lost.
    pub fn at_least(&mut self, time: u64) {
        self.now = self.now.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: u64, since_boot: u64, boot: &str) -> Reading {
        Reading { wall, since_boot, boot: boot.to_owned() }
    }

    #[test]
    fn setting_the_hosts_clock_changes_no_age() {
        let mut clock = Clock::new(reading(1_800_000_000, 100, "a"));
        let used = clock.now();
        // Set forward by ten years, and back to 1970.
        assert_eq!(clock.advance(reading(2_100_000_000, 160, "a")) - used, 60);
        assert_eq!(clock.advance(reading(5, 220, "a")) - used, 120);
    }

    #[test]
    fn time_switched_off_counts_up_to_a_bound_and_never_backwards() {
        let mut clock = Clock::new(reading(1_800_000_000, 100, "a"));
        let used = clock.now();
        assert_eq!(clock.advance(reading(1_800_003_600, 5, "b")) - used, 3600);
        assert_eq!(clock.advance(reading(1_000, 5, "c")) - used, 3600, "a clock that starts in 1970");
        assert_eq!(clock.advance(reading(2_100_000_000, 5, "d")) - used, 3600 + OFF_MAX);
    }
}
