//! Times in words, wherever people read them.

use std::time::Duration;

/// A time in one unit and a half, such as `3days 4h`: what people want to know of an age.
#[must_use]
pub fn rough(seconds: u64) -> String {
    let unit = [86_400, 3600, 60].into_iter().find(|unit| seconds >= *unit).unwrap_or(1);
    let kept = match unit {
        86_400 => seconds / 3600 * 3600,
        3600 => seconds / 60 * 60,
        _ => seconds,
    };
    humantime::format_duration(Duration::from_secs(kept)).to_string()
}
