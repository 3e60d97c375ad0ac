//! What is known of a lane, as its `lane.json` has it.

use serde::{Deserialize, Serialize};

use crate::protocol::files::Measured;
use crate::sys::files::version_in;

/// The version of records.
pub(super) const VERSION: u32 = 1;

/// What is known of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    pub(super) version: u32,
    /// When a job used it last, by the lanes' own clock.
    pub last_use: u64,
    /// How many jobs have used it.
    pub uses: u64,
    /// The boot of the host in which a job began to use it and has not ended.
    pub(super) in_use: Option<String>,
    /// Bytes and inodes; none: not measured yet.
    pub size: Option<Measured>,
    /// How many jobs had used it when it was measured.
    pub(super) measured: u64,
    /// Who can work on all of it; none: nobody knows.
    pub fits: Option<String>,
    /// How many jobs in a row could not get their sources into it.
    pub failures: u32,
}

impl Record {
    /// Whether a job used it and nobody has said what became of that.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.in_use.is_some()
    }

    /// Whether its size is that of what is in it now.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.size.is_some() && self.measured == self.uses
    }
}

/// Whether this is the record of a later release, which this one may misunderstand.
pub(super) fn is_of_later_release(bytes: &[u8]) -> bool {
    version_in(bytes).is_some_and(|version| version > VERSION)
}
