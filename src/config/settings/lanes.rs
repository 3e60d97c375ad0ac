//! What projects keep on the host, what of it goes when, and what may be kept of failed jobs.

use std::time::Duration;

use serde::Serialize;

/// What jobs keep for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LaneSettings {
    /// Who shares it.
    pub scope: LaneScope,
}

/// Who shares what jobs keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LaneScope {
    /// The jobs of a project, of protected refs and of others apart.
    Project,
    /// The jobs of one pipeline, as before.
    Pipeline,
    /// Nobody: it goes with the job.
    None,
}

/// What goes when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PurgeSettings {
    /// How often everything is looked at. Free space is looked at more often.
    pub interval: Duration,
    /// How long a lane may be unused.
    pub max_age: Duration,
    /// Bytes that all lanes together may have.
    pub max_size: Option<u64>,
    /// Bytes that the lanes of one project may have.
    pub project_max_size: Option<u64>,
    /// What is to be free on the file systems of lanes and images.
    pub min_free: Share,
    /// How many inodes are to be free there.
    pub min_free_inodes: Share,
    /// How long an image may be unused.
    pub image_max_age: Duration,
    /// Patterns of images that never go.
    pub pinned_images: Vec<String>,
}

/// How much of failed jobs may be kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HoldSettings {
    /// How long one may be kept at most.
    pub max_time: Duration,
    /// How many at once, those that are still waited for included; 0: none.
    pub max_held: u32,
}

/// A part of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// So many bytes, or inodes.
    Amount(u64),
    /// So many hundredths of a percent of all there are.
    PerMyriad(u32),
}

impl Share {
    /// As an amount, of a file system with so many.
    #[must_use]
    pub fn of(self, all: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            // In this order nothing overflows, and nothing is lost.
            Self::PerMyriad(share) => all / 10_000 * u64::from(share) + all % 10_000 * u64::from(share) / 10_000,
        }
    }
}
