//! Pasts, and what came of their jobs.

use super::*;
use crate::executor::past::{End, Moment, Trouble};

const HOUR: Duration = Duration::from_secs(3600);

fn exited(exit_code: i32) -> StageResult {
    StageResult::Exited { exit_code }
}

/// A past of stages, cleaned up a minute after the job came.
fn past(stages: &[(&str, StageResult)]) -> Past {
    let rows = stages.iter().map(|(name, result)| StageRow {
        name: (*name).to_owned(),
        began: 0,
        ms: Some(9_500),
        result: *result,
    });
    Past {
        came: Some(Moment { wall: 0, boot: 5_000 }),
        stages: rows.collect(),
        end: Some(End {
            cause: Cause::Over,
            reason: "the job is over".to_owned(),
            at: Moment { wall: 60_000, boot: 65_000 },
        }),
        ..Past::default()
    }
}

fn judged(stages: &[(&str, StageResult)]) -> (JobOutcome, Option<i32>) {
    let verdict = verdict(&past(stages), None, HOUR);
    (verdict.outcome, verdict.exit_code)
}

const LAST: (&str, StageResult) = (LAST_STAGE, StageResult::Exited { exit_code: 0 });

#[test]
fn the_first_stage_that_failed_decides_and_none_after_the_script_mends_it() {
    use JobOutcome::{Failed, Success};
    let ok = exited(0);
    assert_eq!(judged(&[("get_sources", ok), ("build_script", ok), LAST]), (Success, None));
    assert_eq!(judged(&[("build_script", exited(3)), ("after_script", ok), LAST]), (Failed, Some(3)));
    assert_eq!(judged(&[("build_script", ok), ("step_release", exited(4)), LAST]), (Failed, Some(4)));
    assert_eq!(judged(&[("get_sources", exited(128)), ("archive_cache_on_failure", ok), LAST]), (Failed, Some(128)));
    assert_eq!(judged(&[("build_script", ok), ("upload_artifacts_on_success", exited(1)), LAST]), (Failed, Some(1)));
    assert_eq!(judged(&[("build_script", StageResult::Refused), LAST]), (Failed, Some(127)));
}

#[test]
fn what_gitlab_runner_ignores_or_tries_again_fails_no_job() {
    use JobOutcome::{Failed, Success};
    let (ok, bad) = (exited(0), exited(1));
    assert_eq!(judged(&[("build_script", ok), ("after_script", bad), LAST]), (Success, None));
    assert_eq!(judged(&[("build_script", ok), (LAST_STAGE, bad)]), (Success, None));
    assert_eq!(
        judged(&[("get_sources", bad), ("clear_worktree", bad), ("get_sources", ok), ("build_script", ok), LAST]),
        (Success, None)
    );
    let counted = Past { after_script_counts: true, ..past(&[("build_script", ok), ("after_script", bad), LAST]) };
    assert_eq!(verdict(&counted, None, HOUR).outcome, Failed);
}

#[test]
fn a_stage_that_somebody_ended_is_a_cancel_or_a_timeout() {
    use JobOutcome::{Canceled, Timeout};
    let stages = [("build_script", StageResult::Terminated), ("after_script", exited(0)), LAST];
    assert_eq!(judged(&stages).0, Canceled);
    assert_eq!(verdict(&past(&stages), None, Duration::from_secs(61)).outcome, Timeout);
    assert_eq!(verdict(&past(&[]), Some("build_script"), HOUR).outcome, Canceled, "it runs still");
    let limited = Past { script_timeout_ms: Some(10_000), ..past(&stages) };
    assert_eq!(verdict(&limited, None, HOUR).outcome, Timeout);
    let limited = Past { script_timeout_ms: Some(20_000), ..past(&stages) };
    assert_eq!(verdict(&limited, None, HOUR).outcome, Canceled);
}

#[test]
fn a_job_that_ended_between_its_stages_was_canceled() {
    use JobOutcome::Canceled;
    assert_eq!(judged(&[]).0, Canceled);
    assert_eq!(judged(&[("get_sources", exited(0))]).0, Canceled);
    assert_eq!(judged(&[("build_script", exited(0))]).0, Canceled);
}

#[test]
fn trouble_of_the_preparation_is_whose_it_is() {
    use JobOutcome::{Failed, SystemFailure};
    for (class, outcome) in [(FailureClass::Job, Failed), (FailureClass::System, SystemFailure)] {
        let past = Past { not_prepared: Some(Trouble::new(class, "no such\nimage")), ..past(&[]) };
        let verdict = verdict(&past, None, HOUR);
        assert_eq!((verdict.outcome, verdict.reason.as_deref()), (outcome, Some("no suchimage")));
    }
    let past = Past { lost: Some("it is gone".to_owned()), ..past(&[("build_script", StageResult::Lost)]) };
    let verdict = verdict(&past, None, HOUR);
    assert_eq!((verdict.outcome, verdict.reason.as_deref()), (SystemFailure, Some("it is gone")));
}

#[test]
fn of_a_runner_that_died_nobody_knows_unless_all_was_done() {
    let with = |cause, stages: &[(&str, StageResult)]| {
        let mut past = past(stages);
        if let Some(end) = &mut past.end {
            end.cause = cause;
        }
        verdict(&past, None, HOUR).outcome
    };
    let ok = exited(0);
    assert_eq!(with(Cause::RunnerGone, &[("build_script", exited(1))]), JobOutcome::RunnerGone);
    assert_eq!(with(Cause::RunnerGone, &[("build_script", ok), LAST]), JobOutcome::Success);
    assert_eq!(with(Cause::TimeOver, &[("build_script", ok)]), JobOutcome::Timeout);
}

#[test]
fn an_end_that_nobody_told_is_known_by_what_came_after() {
    use JobOutcome::{Failed, Success, SystemFailure};
    let (ok, unknown) = (exited(0), StageResult::Unknown);
    assert_eq!(judged(&[("build_script", unknown), ("upload_artifacts_on_failure", ok), LAST]).0, Failed);
    assert_eq!(judged(&[("build_script", unknown), ("archive_cache", ok), LAST]).0, Success);
    assert_eq!(judged(&[("get_sources", unknown), ("build_script", ok), LAST]).0, Success);
    assert_eq!(judged(&[("build_script", unknown), ("after_script", ok), LAST]).0, SystemFailure);
}
