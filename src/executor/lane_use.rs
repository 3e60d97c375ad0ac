//! What of its project's lanes is on a lease's record.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::lanes::{LaneId, Part};

/// What a lease has of its project's lanes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneUse {
    /// The home's directory.
    pub home: PathBuf,
    /// The number of its build directory.
    pub builds: u32,
    /// The project's directory in that, where gitlab-runner says which it is.
    pub project: Option<PathBuf>,
    /// How many jobs in a row before it could not get their sources there.
    pub failures: u32,
    /// As whom its predefined stages work on it, once that is known.
    pub worker: Option<Worker>,
}

impl LaneUse {
    /// Its build directory.
    #[must_use]
    pub fn builds(&self) -> LaneId {
        LaneId { home: self.home.clone(), part: Part::Builds(self.builds) }
    }

    /// Another part of its home.
    #[must_use]
    pub fn part(&self, part: Part) -> LaneId {
        LaneId { home: self.home.clone(), part }
    }
}

/// As whom predefined stages work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// In a word that is the same for the same files.
    pub word: String,
    /// The owner that all files have to have; none for one who may work on everybody's.
    pub owner: Option<u32>,
}
