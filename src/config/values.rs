//! The values that the file's keys take, as their texts: durations, sizes, whole and fractional numbers.
//!
//! Each reads itself with a message that says what would be valid, and writes itself so that it reads back equal.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A length of time, written like `"1h 30m"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TimeSpan(pub Duration);

/// A number of bytes, written like `"4 GiB"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size(pub u64);

/// A whole number. Wide enough for every integer, so that only the range check has to say what fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Whole(pub i128);

/// A number that may have a fraction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Number(pub f64);

impl fmt::Display for TimeSpan {
    /// Whole days as such: what was written as 90 days is no "2months 29days 2h 52m 48s".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: u64 = 24 * 60 * 60;
        match self.0.as_secs() {
            seconds if seconds > DAY && self.0.subsec_nanos() == 0 && seconds.is_multiple_of(DAY) => {
                write!(f, "{}days", seconds / DAY)
            }
            _ => humantime::format_duration(self.0).fmt(f),
        }
    }
}

impl fmt::Display for Size {
    /// In the largest unit that loses nothing: what is printed has to read back as the same number of bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use bytesize::{GB, GIB, KB, KIB, MB, MIB, TB, TIB};
        let units =
            [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (TB, "TB"), (GB, "GB"), (MB, "MB"), (KB, "KB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{} {name}", self.0 / unit),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl Serialize for TimeSpan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(i64::try_from(self.0).map_err(serde::ser::Error::custom)?)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = TimeSpan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a duration with its unit, in quotes, such as "10s", "5m" or "1h 30m""#)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<TimeSpan, E> {
                humantime::parse_duration(text).map(TimeSpan).map_err(|error| {
                    let reason = match error {
                        humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => {
                            ": it has no unit".to_owned()
                        }
                        humantime::DurationError::UnknownUnit { unit, .. } => format!(": there is no unit {unit:?}"),
                        humantime::DurationError::NumberOverflow => ": the number is out of every range".to_owned(),
                        _ => String::new(),
                    };
                    E::custom(format!(
                        r#"{text:?} is not a duration{reason}; write a number with a unit, such as "10s", "5m" or "1h 30m""#
                    ))
                })
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<TimeSpan, E> {
                Err(E::custom(format!(
                    r#"a duration needs a unit and quotes, such as "10s", "5m" or "1h 30m", not the bare number {number}"#
                )))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a size with its unit, in quotes, such as "512 MiB" or "4 GiB""#)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                // A number alone would be bytes, and whoever writes "512" never means those.
                let unit = text.chars().any(char::is_alphabetic);
                match text.trim().parse::<ByteSize>() {
                    Ok(size) if unit => Ok(Size(size.as_u64())),
                    _ => Err(E::custom(format!(
                        r#"{text:?} is not a size; write a number with a unit (KiB, MiB, GiB; KB, MB, GB are powers of ten), such as "512 MiB" or "4 GiB""#
                    ))),
                }
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Size, E> {
                Err(E::custom(format!(
                    r#"a size needs a unit and quotes, such as "512 MiB" or "4 GiB", not the bare number {number}"#
                )))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Whole;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number without quotes, such as 4")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number.into()))
            }
            fn visit_i128<E: Error>(self, number: i128) -> Result<Whole, E> {
                Ok(Whole(number))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number without quotes, such as 2 or 1.5")
            }
            #[allow(clippy::cast_precision_loss, reason = "whatever loses precision here is far out of range")]
            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
