//! Parts of a file system, as people write them: `"10%"`, `"20 GiB"`, or a number of inodes.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::settings::Share;
use super::values::Size;

/// Of bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FreeBytes(pub Share);

/// Of inodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FreeInodes(pub Share);

/// Reads `"10%"` or `"2.5%"`; none if there is no percent sign.
fn percent(text: &str) -> Option<Result<Share, String>> {
    let number = text.trim().strip_suffix('%')?.trim();
    let read = || {
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let part = match part.len() {
            1 => part.parse::<u32>().ok()? * 10,
            2 => part.parse().ok()?,
            _ => return None,
        };
        let digits = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let share = whole.parse::<u32>().ok().filter(|whole| *whole <= 100)? * 100 + part;
        (digits && share <= 10_000).then_some(Share::PerMyriad(share))
    };
    Some(read().ok_or_else(|| {
        format!(r#"{text:?} is not a percentage; write "0%" to "100%", with at most two places behind the point"#)
    }))
}

fn show_percent(share: u32) -> String {
    match (share / 100, share % 100) {
        (whole, 0) => format!("{whole}%"),
        (whole, part) => format!("{whole}.{part:02}%"),
    }
}

impl Serialize for FreeBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Share::Amount(bytes) => Size(bytes).serialize(serializer),
            Share::PerMyriad(share) => serializer.serialize_str(&show_percent(share)),
        }
    }
}

impl Serialize for FreeInodes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Share::Amount(count) => serializer.serialize_u64(count),
            Share::PerMyriad(share) => serializer.serialize_str(&show_percent(share)),
        }
    }
}

impl<'de> Deserialize<'de> for FreeBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = FreeBytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a size or a percentage, in quotes, such as "20 GiB" or "10%""#)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<FreeBytes, E> {
                if let Some(share) = percent(text) {
                    return share.map(FreeBytes).map_err(E::custom);
                }
                let size = Size::deserialize(serde::de::value::StrDeserializer::<E>::new(text));
                size.map(|Size(bytes)| FreeBytes(Share::Amount(bytes))).map_err(|_| {
                    E::custom(format!(
                        r#"{text:?} is neither a size nor a percentage; write it like "20 GiB" or "10%""#
                    ))
                })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for FreeInodes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = FreeInodes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a percentage in quotes, such as "5%", or a number, such as 100000"#)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<FreeInodes, E> {
                match percent(text) {
                    Some(share) => share.map(FreeInodes).map_err(E::custom),
                    None => Err(E::custom(format!(r#"{text:?} is not a percentage; write it like "5%""#))),
                }
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<FreeInodes, E> {
                u64::try_from(number)
                    .map(|count| FreeInodes(Share::Amount(count)))
                    .map_err(|_| E::custom(format!("must not be negative, as {number} is")))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
