//! When units may be restarted. Pure; times are the host's local ones.

use jiff::civil::Time;
use jiff::{ToSpan, Zoned};

use crate::config::QuietHours;

/// Whether a window is open; without any, always.
#[must_use]
pub fn is_open(windows: &[QuietHours], now: &Zoned) -> bool {
    windows.is_empty() || windows.iter().any(|window| window.has(minute_of_day(now)))
}

/// When the next one opens; none where all are open always.
#[must_use]
pub fn opens(windows: &[QuietHours], now: &Zoned) -> Option<Zoned> {
    let at = |window: &QuietHours| {
        let (hour, minute) = (i8::try_from(window.from / 60).ok()?, i8::try_from(window.from % 60).ok()?);
        let time = Time::new(hour, minute, 0, 0).ok()?;
        let today = now.date().to_datetime(time).to_zoned(now.time_zone().clone()).ok()?;
        if today > *now {
            return Some(today);
        }
        now.date().checked_add(1.day()).ok()?.to_datetime(time).to_zoned(now.time_zone().clone()).ok()
    };
    windows.iter().filter_map(at).min()
}

fn minute_of_day(now: &Zoned) -> u16 {
    u16::try_from(i32::from(now.hour()) * 60 + i32::from(now.minute())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        format!("2026-03-10T{text}[UTC]").parse().expect("a time")
    }

    const NIGHT: QuietHours = QuietHours { from: 22 * 60, to: 2 * 60 };
    const NOON: QuietHours = QuietHours { from: 12 * 60, to: 12 * 60 + 30 };

    #[test]
    fn without_windows_it_is_always_time() {
        assert!(is_open(&[], &at("15:00:00")));
        assert_eq!(opens(&[], &at("15:00:00")), None);
    }

    #[test]
    fn a_window_may_go_over_midnight() {
        for (time, open) in [("21:59:59", false), ("22:00:00", true), ("01:59:59", true), ("02:00:00", false)] {
            assert_eq!(is_open(&[NIGHT], &at(time)), open, "{time}");
        }
    }

    #[test]
    fn the_next_opening_is_the_nearest_of_all_windows() {
        assert_eq!(opens(&[NIGHT, NOON], &at("11:00:00")), Some(at("12:00:00")));
        assert_eq!(opens(&[NIGHT, NOON], &at("12:40:00")), Some(at("22:00:00")));
        let tomorrow = opens(&[NOON], &at("13:00:00")).expect("opens");
        assert_eq!(tomorrow.date().to_string(), "2026-03-11");
    }
}
