//! Times of the day and of the week, as people write them: `"22:00-06:00"`, `"03:00"`, `"Sun 03:00"`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

use super::settings::{Kickoff, QuietHours};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A part of each day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Hours(pub QuietHours);

/// A moment of each day, or of each week.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moment(pub Kickoff);

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str, below: u16| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| digits && *number < below)
    };
    Some(number(hours, 24)? * 60 + number(minutes, 60)?)
}

fn show(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn hours(text: &str) -> Option<Hours> {
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    (from != to).then_some(Hours(QuietHours { from, to }))
}

fn moment(text: &str) -> Option<Moment> {
    let text = text.trim();
    let (weekday, time) = match text.split_once(' ') {
        Some((day, time)) => {
            let at = DAYS.iter().position(|name| name.eq_ignore_ascii_case(day))?;
            (Some(u8::try_from(at).ok()?), time)
        }
        None => (None, text),
    };
    Some(Moment(Kickoff { weekday, minute: minute(time)? }))
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", show(self.0.from), show(self.0.to))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.weekday.and_then(|day| DAYS.get(usize::from(day))) {
            Some(day) => write!(f, "{day} {}", show(self.0.minute)),
            None => f.write_str(&show(self.0.minute)),
        }
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hours(&text)
            .ok_or_else(|| D::Error::custom(format!(r#"{text:?} is no part of a day; write it like "22:00-06:00""#)))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        moment(&text).ok_or_else(|| {
            D::Error::custom(format!(
                r#"{text:?} is no time of the day or week; write it like "03:00" or "Sun 03:00" ({})"#,
                DAYS.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back_as_they_are_written() {
        for text in ["22:00-06:00", "00:00-00:01", "09:30-17:00"] {
            assert_eq!(hours(text).map(|hours| hours.to_string()).as_deref(), Some(text));
        }
        for text in ["03:00", "Sun 03:00", "Mon 23:59"] {
            assert_eq!(moment(text).map(|moment| moment.to_string()).as_deref(), Some(text));
        }
        assert_eq!(moment("sat 3:05").map(|moment| moment.to_string()).as_deref(), Some("Sat 03:05"));
        for text in ["", "22:00", "22:00-24:00", "22:60-23:00", "1-2", "08:00-08:00", "+1:00-02:00"] {
            assert_eq!(hours(text), None, "{text}");
        }
        for text in ["", "Sunday 03:00", "25:00", "Sun", "3"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }
}
