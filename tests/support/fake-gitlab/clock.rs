//! GitLab's clock, and the three ways in which GitLab writes a time.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Milliseconds since 1970.
pub type Time = i64;

/// GitLab's clock, which need not be that of the host.
#[derive(Debug, Default, Clone, Copy)]
pub struct Clock {
    /// Milliseconds that it is ahead of the host's.
    pub ahead: i64,
}

impl Clock {
    /// What it shows.
    pub fn now(self) -> Time {
        host_now() + self.ahead
    }

    /// What it shows, as an HTTP date.
    pub fn http_date(self) -> String {
        http_date(self.now())
    }
}

/// What the host's clock shows.
pub fn host_now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// As an HTTP date.
pub fn http_date(time: Time) -> String {
    let seconds = u64::try_from(time / 1000).unwrap_or_default();
    httpdate::fmt_http_date(UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

/// As REST writes it: `2026-05-12T15:40:00.000Z`.
pub fn rest(time: Time) -> String {
    stamp(time).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// As GraphQL writes it: `2026-05-12T15:40:00Z`.
pub fn graphql(time: Time) -> String {
    stamp(time).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As pipeline webhooks write it: `2026-05-12 15:40:00 UTC`.
pub fn webhook(time: Time) -> String {
    stamp(time).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Only the day.
pub fn day(time: Time) -> String {
    stamp(time).strftime("%Y-%m-%d").to_string()
}

/// Reads ISO 8601.
pub fn read(text: &str) -> Option<Time> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

fn stamp(time: Time) -> Timestamp {
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::UNIX_EPOCH)
}
