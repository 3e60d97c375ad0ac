//! What a lease's record keeps of its past, so that the history has the job right whichever daemon sees its end.

use serde::{Deserialize, Serialize};

use super::Inputs;
use super::record::boot_millis;
use crate::protocol::daemon::{FailureClass, StageStop};
use crate::protocol::history::{JobImage, StageResult, StageRow};

/// Stages on record; a job has some ten, and more with retries.
const STAGES_MAX: usize = 64;
/// Longest reason on record, in characters.
const REASON_MAX: usize = 500;

/// A moment, by two clocks: one for people, and one that nobody sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub wall: i64,
    /// Milliseconds since boot.
    pub boot: u64,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { wall: crate::history::now(), boot: boot_millis() }
    }

    /// Milliseconds from another moment to this one.
    #[must_use]
    pub fn since(self, other: Self) -> u64 {
        self.boot.saturating_sub(other.boot)
    }
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// gitlab-runner said so, or has let go of it.
    Over,
    /// gitlab-runner's process has ended.
    RunnerGone,
    /// Its time was over, and nobody cleaned up.
    TimeOver,
}

/// A lease's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// In words.
    pub reason: String,
    /// When.
    pub at: Moment,
}

/// What hindered a job, and whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Whose.
    pub class: FailureClass,
    /// What happened.
    pub message: String,
}

impl Trouble {
    /// With a message of bounded length.
    #[must_use]
    pub fn new(class: FailureClass, message: &str) -> Self {
        Self { class, message: bounded(message) }
    }
}

/// A reason, in one line of bounded length.
#[must_use]
pub fn bounded(message: &str) -> String {
    message.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect()
}

/// The past of a lease.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// When the job came; none in the record of an older daemon.
    pub came: Option<Moment>,
    /// How long it waited for its slot, in milliseconds.
    pub waited_ms: u64,
    /// How long its preparation took, in milliseconds.
    pub prepare_ms: Option<u64>,
    /// Why it could not be prepared.
    pub not_prepared: Option<Trouble>,
    /// Why its container was lost.
    pub lost: Option<String>,
    /// Its images.
    pub images: Vec<JobImage>,
    /// Its stages that have ended.
    pub stages: Vec<StageRow>,
    /// How long the job lets its script run, in milliseconds (RUNNER_SCRIPT_TIMEOUT).
    pub script_timeout_ms: Option<u64>,
    /// Whether a failed after_script fails the job (AFTER_SCRIPT_IGNORE_ERRORS).
    pub after_script_counts: bool,
    /// Its end.
    pub end: Option<End>,
}

impl Past {
    /// Adds a stage that has ended. When there are too many, the oldest of those that succeeded goes.
    pub fn add(&mut self, stage: StageRow) {
        if self.stages.len() >= STAGES_MAX {
            let is_dull = |stage: &StageRow| stage.result.exit_code() == Some(0);
            self.stages.remove(self.stages.iter().position(is_dull).unwrap_or(0));
        }
        self.stages.push(stage);
    }

    /// Takes from the job's variables how gitlab-runner will judge it. They decide nothing but what the history says.
    pub fn take_variables(&mut self, inputs: &Inputs) {
        // As Go's strconv.ParseBool reads them; what is no word of these is as if it were not set.
        let ignored = inputs.variable("AFTER_SCRIPT_IGNORE_ERRORS").unwrap_or("true");
        self.after_script_counts = ["false", "False", "FALSE", "f", "F", "0"].contains(&ignored);
        let limit = inputs.variable("RUNNER_SCRIPT_TIMEOUT").and_then(|text| humantime::parse_duration(text).ok());
        self.script_timeout_ms = limit.and_then(|limit| u64::try_from(limit.as_millis()).ok()).filter(|ms| *ms > 0);
    }
}

/// What a shim says of its stage's end.
#[must_use]
pub fn stage_result(code: Option<i32>, stop: Option<StageStop>) -> StageResult {
    match (stop, code) {
        (Some(StageStop::Signal(signal)), _) => StageResult::Exited { exit_code: signal.clamp(0, 127) + 128 },
        (Some(StageStop::Refused(FailureClass::Job)), _) => StageResult::Refused,
        (Some(StageStop::Refused(FailureClass::System) | StageStop::Lost), _) => StageResult::Lost,
        (None, Some(exit_code)) => StageResult::Exited { exit_code },
        (Some(StageStop::Terminated) | None, _) => StageResult::Terminated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_bounded_and_what_failed_stays() {
        let mut past = Past::default();
        let stage = |name: &str, exit_code| StageRow {
            name: name.to_owned(),
            began: 0,
            ms: None,
            result: StageResult::Exited { exit_code },
        };
        past.add(stage("build_script", 3));
        for number in 0..200 {
            past.add(stage(&format!("step_{number}"), 0));
        }
        assert_eq!(past.stages.len(), STAGES_MAX);
        assert_eq!(
            (past.stages[0].name.as_str(), past.stages[STAGES_MAX - 1].name.as_str()),
            ("build_script", "step_199")
        );
    }

    #[test]
    fn a_signal_is_the_exit_code_that_gitlab_shows() {
        assert_eq!(stage_result(None, Some(StageStop::Signal(9))), StageResult::Exited { exit_code: 137 });
        assert_eq!(stage_result(Some(0), None), StageResult::Exited { exit_code: 0 });
        assert_eq!(stage_result(Some(1), Some(StageStop::Terminated)), StageResult::Terminated);
        assert_eq!(stage_result(None, None), StageResult::Terminated, "an older shim");
        assert_eq!(stage_result(None, Some(StageStop::Refused(FailureClass::System))), StageResult::Lost);
    }
}
