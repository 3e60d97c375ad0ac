//! What came of a job, as far as the daemon can know: gitlab-runner tells nobody but GitLab.
//!
//! The rules are gitlab-runner's (common/build.go): the first stage that failed for good decides; of a stage that was tried again the last
//! attempt counts; after_script, clean-up and what is kept of a failed job change nothing.

use std::time::Duration;

use super::past::{Cause, Past};
use super::used::LAST_STAGE;
use crate::protocol::daemon::FailureClass;
use crate::protocol::history::{JobOutcome, StageResult, StageRow};

/// How much earlier than its timeout a job may seem to end because of it: the daemon hears of it later than gitlab-runner begins to count.
const SLACK_MIN: Duration = Duration::from_secs(3);
const SLACK_MAX: Duration = Duration::from_secs(10);

/// What came of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// In one word.
    pub outcome: JobOutcome,
    /// The exit code of what failed.
    pub exit_code: Option<i32>,
    /// Why.
    pub reason: Option<String>,
}

impl Verdict {
    fn of(outcome: JobOutcome, reason: impl Into<String>) -> Self {
        Self { outcome, exit_code: None, reason: Some(reason.into()) }
    }
}

/// Judges a lease that ends. `running` is the stage that has not ended, `timeout` the job's own.
#[must_use]
pub fn verdict(past: &Past, running: Option<&str>, timeout: Duration) -> Verdict {
    let is_complete = running == Some(LAST_STAGE) || past.stages.iter().any(|stage| stage.name == LAST_STAGE);
    let end = past.end.as_ref();
    let reason = end.map_or("it was cleaned up", |end| end.reason.as_str());
    match end.map(|end| end.cause) {
        Some(Cause::TimeOver) => return Verdict::of(JobOutcome::Timeout, reason),
        Some(Cause::RunnerGone) if !is_complete => return Verdict::of(JobOutcome::RunnerGone, reason),
        _ => {}
    }
    let stopped = |what: String| match is_over(past, timeout) {
        true => Verdict::of(JobOutcome::Timeout, format!("{what}, at the end of the job's timeout")),
        false => Verdict::of(JobOutcome::Canceled, what),
    };
    if let Some(trouble) = &past.not_prepared {
        let outcome = match trouble.class {
            FailureClass::Job => JobOutcome::Failed,
            FailureClass::System => JobOutcome::SystemFailure,
        };
        return Verdict::of(outcome, &trouble.message);
    }
    for (index, stage) in past.stages.iter().enumerate() {
        let again = past.stages[index + 1..].iter().any(|later| later.name == stage.name);
        if again || !counts(past, &stage.name) {
            continue;
        }
        if let Some(verdict) = judge(past, stage, &past.stages[index + 1..], &stopped) {
            return verdict;
        }
    }
    match running {
        Some(stage) if counts(past, stage) => return stopped(format!("ended during {stage}")),
        _ => {}
    }
    let ran = past.stages.iter().any(|stage| is_script(&stage.name));
    match (ran, is_complete) {
        (true, true) => Verdict { outcome: JobOutcome::Success, exit_code: None, reason: None },
        (true, false) => stopped("ended before its last stage".to_owned()),
        (false, _) => stopped("ended before its script".to_owned()),
    }
}

/// What a stage makes of the job; none: nothing.
fn judge(past: &Past, stage: &StageRow, later: &[StageRow], stopped: &dyn Fn(String) -> Verdict) -> Option<Verdict> {
    let name = &stage.name;
    Some(match stage.result {
        StageResult::Exited { exit_code: 0 } => return None,
        StageResult::Exited { exit_code } => Verdict {
            exit_code: Some(exit_code),
            ..Verdict::of(JobOutcome::Failed, format!("{name} ended with exit code {exit_code}"))
        },
        StageResult::Refused => {
            // What windlass-run tells gitlab-runner then.
            Verdict { exit_code: Some(127), ..Verdict::of(JobOutcome::Failed, format!("{name} could not be started")) }
        }
        StageResult::Terminated if is_script(name) && took_all(past, stage) => {
            Verdict::of(JobOutcome::Timeout, format!("{name} ran into RUNNER_SCRIPT_TIMEOUT"))
        }
        StageResult::Terminated => stopped(format!("ended during {name}")),
        StageResult::Lost => {
            let why = past.lost.clone().unwrap_or_else(|| format!("{name} could not be run to its end"));
            Verdict::of(JobOutcome::SystemFailure, why)
        }
        StageResult::Unknown => {
            let came = |names: [&str; 2]| later.iter().any(|later| names.contains(&later.name.as_str()));
            if came(["archive_cache_on_failure", "upload_artifacts_on_failure"]) {
                Verdict::of(JobOutcome::Failed, format!("{name} failed while windlassd was away"))
            } else if came(["archive_cache", "upload_artifacts_on_success"])
                || later.iter().any(|later| is_after(&later.name, name))
            {
                return None;
            } else {
                Verdict::of(
                    JobOutcome::SystemFailure,
                    format!("windlassd was away when {name} ended, and nobody told how"),
                )
            }
        }
    })
}

/// Whether a stage is only run when all before it, this one too, succeeded.
fn is_after(later: &str, name: &str) -> bool {
    // Among the stages before the script only success leads on to the script.
    is_script(later) && !is_script(name)
}

/// The user's own stages that decide.
fn is_script(name: &str) -> bool {
    name == "build_script" || name.starts_with("step_")
}

/// Whether a stage can fail a job.
fn counts(past: &Past, name: &str) -> bool {
    match name {
        "after_script" => past.after_script_counts,
        "clear_worktree" | "archive_cache_on_failure" | "upload_artifacts_on_failure" => false,
        _ => name != LAST_STAGE,
    }
}

/// Whether a job ended about when its time was over.
fn is_over(past: &Past, timeout: Duration) -> bool {
    let (Some(came), Some(end)) = (past.came, &past.end) else { return false };
    Duration::from_millis(end.at.since(came)) + slack(timeout) >= timeout
}

/// Whether a script ran about as long as the job lets it.
fn took_all(past: &Past, stage: &StageRow) -> bool {
    let (Some(limit), Some(took)) = (past.script_timeout_ms, stage.ms) else { return false };
    let limit = Duration::from_millis(limit);
    Duration::from_millis(took) + slack(limit) >= limit
}

fn slack(timeout: Duration) -> Duration {
    (timeout / 20).clamp(SLACK_MIN, SLACK_MAX)
}

#[cfg(test)]
mod tests;
