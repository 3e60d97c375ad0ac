//! Times in words, wherever people read them. `page/assets/page.js` says them the same way.

/// A length of time in one unit and a half, such as `3days 4h`: what people want to know of an age. From thirty days on, days alone.
#[must_use]
pub fn rough(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600, seconds / 60);
    let with = |rest: u64, unit: &str| if rest == 0 { String::new() } else { format!(" {rest}{unit}") };
    match () {
        () if days >= 30 => format!("{days}days"),
        () if days > 0 => format!("{days}day{}{}", if days == 1 { "" } else { "s" }, with(hours % 24, "h")),
        () if hours > 0 => format!("{hours}h{}", with(minutes % 60, "m")),
        () if minutes > 0 => format!("{minutes}m{}", with(seconds % 60, "s")),
        () => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit_and_a_half() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (312, "5m 12s"),
            (3600, "1h"),
            (3_719, "1h 1m"),
            (93_599, "1day 1h"),
            (3 * 86_400 + 4 * 3600 + 59, "3days 4h"),
            (40 * 86_400 + 5000, "40days"),
            (400 * 86_400, "400days"),
        ];
        for (seconds, words) in cases {
            assert_eq!(rough(seconds), words);
        }
    }
}
