//! What a run, or a plan, says of each unit: for people, for the command of `[update]`, for the history.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::journey::Change;
use super::record::Quarantined;
use super::units::{Unfit, UnitName};

/// What came, or would come, of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It runs what its tags are.
    Current,
    /// It would be updated now.
    Pending,
    /// It runs the new images.
    Updated,
    /// The new images are here; the restart is left.
    Downloaded,
    /// It waits for a window.
    Waiting,
    /// Somebody holds it.
    Held,
    /// The new image has failed here before.
    Quarantined,
    /// Its update failed; it runs what it ran before.
    RolledBack,
    /// That failed too: somebody has to do something.
    RollbackFailed,
    /// Something failed before it was touched, or nobody can tell what has become of it.
    Failed,
}

impl Outcome {
    /// The word for it, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Pending => "pending",
            Self::Updated => "updated",
            Self::Downloaded => "downloaded",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Quarantined => "quarantined",
            Self::RolledBack => "rolled-back",
            Self::RollbackFailed => "rollback-failed",
            Self::Failed => "failed",
        }
    }

    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Current,
        Self::Pending,
        Self::Updated,
        Self::Downloaded,
        Self::Waiting,
        Self::Held,
        Self::Quarantined,
        Self::RolledBack,
        Self::RollbackFailed,
        Self::Failed,
    ];

    /// Whether something on the host is another than before.
    #[must_use]
    pub fn is_act(self) -> bool {
        matches!(self, Self::Updated | Self::Downloaded | Self::RolledBack | Self::RollbackFailed)
    }

    /// Whether the run was none that an administrator would call good.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::RolledBack | Self::RollbackFailed | Self::Failed)
    }
}

/// What there is to say of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitReport {
    /// The unit.
    pub unit: UnitName,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What somebody has to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The images that have moved.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// When it was said.
    pub at: Timestamp,
}

impl UnitReport {
    /// A report of now.
    #[must_use]
    pub fn new(unit: &UnitName, outcome: Outcome) -> Self {
        Self { unit: unit.clone(), outcome, reason: None, advice: None, changes: Vec::new(), at: Timestamp::now() }
    }

    /// With this reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Of a unit whose new image has failed here before.
    #[must_use]
    pub fn quarantined(unit: &UnitName, entry: &Quarantined) -> Self {
        let words = format!("{} of {} has failed here: {}", entry.digest, entry.image, entry.reason);
        Self::new(unit, Outcome::Quarantined).because(words)
    }

    /// With these images.
    #[must_use]
    pub fn of(mut self, changes: &[Change]) -> Self {
        self.changes = changes.to_vec();
        self
    }

    /// Whether it says the same as an earlier one, but for the time.
    #[must_use]
    pub fn repeats(&self, earlier: &Self) -> bool {
        self.outcome == earlier.outcome && self.reason == earlier.reason && self.changes == earlier.changes
    }
}

/// What a whole run says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The host's name.
    pub host: String,
    /// Whose containers.
    pub user: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// Each unit, by name.
    pub units: Vec<UnitReport>,
    /// Containers that should be updated and can't be.
    pub unfit: Vec<Unfit>,
}

impl Report {
    /// Whether it is worth telling somebody.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.units.iter().any(|unit| unit.outcome.is_act() || unit.outcome.is_failure())
    }

    /// Whether something failed.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.units.iter().any(|unit| unit.outcome.is_failure())
    }
}
