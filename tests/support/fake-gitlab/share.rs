//! Which of many things go wrong: all, the next few, or some percent.

use serde::{Deserialize, Serialize};

/// A share of what comes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Share {
    /// None, written as null.
    #[default]
    None,
    /// The next so many, written as a number.
    Next(u64),
    /// So many of a hundred, by chance.
    Percent {
        /// From 0 to 100.
        percent: u8,
    },
    /// All, written as `"all"`.
    All(All),
}

/// The word for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum All {
    /// Every one.
    All,
}

impl Share {
    /// Whether the next one is of it.
    pub fn draw(&mut self, chance: &mut fastrand::Rng) -> bool {
        match self {
            Self::None | Self::Next(0) => false,
            Self::Next(left) => {
                *left -= 1;
                true
            }
            Self::Percent { percent } => chance.u8(..100) < *percent,
            Self::All(All::All) => true,
        }
    }

    /// Whether none will ever be of it any more.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::None | Self::Next(0))
    }
}
