//! One unit's update from where it is to its end, with each step on record before it is acted on.

use anyhow::{Context as _, Result};
use jiff::{Timestamp, Zoned};

use super::journey::{Came, Change, Journey, Next, Resume, Seen, Step, after, resume};
use super::record::{Quarantined, Record};
use super::report::{Outcome, UnitReport};
use super::units::{Policy, UnitName};
use super::{Context, act, window};

/// Whether the unit may be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarts {
    /// Within the windows.
    InWindows,
    /// Not in this run: only pull.
    Never,
}

/// Goes on with an update until it is over; what is left on record says how it ended.
pub async fn travel(
    context: &Context,
    unit: &UnitName,
    record: &mut Record,
    mut journey: Journey,
    restarts: Restarts,
) -> UnitReport {
    loop {
        record.journey = Some(journey.clone());
        act::note(record, &journey);
        if let Err(error) = context.state.save(unit, record) {
            if matches!(journey.step, Step::Checked | Step::Pulled | Step::Restarting) {
                // Nothing is touched that nobody could undo.
                record.journey = None;
                let reason = format!("the next step could not be put on record, so nothing was changed: {error:#}");
                return UnitReport::new(unit, Outcome::Failed).because(reason).of(&journey.changes);
            }
            // The record is one step behind; from there the next run would come to the same.
            tracing::error!("{error:#}");
        }
        let came = match journey.step {
            Step::Checked => act::pull(context, record, &mut journey).await,
            Step::Pulled => Came::Good,
            Step::Restarting => act::restart(context, unit, record, &journey).await,
            Step::Judging => act::judge(context, unit, &journey).await,
            Step::RollingBack | Step::RollbackFailed => act::roll_back(context, unit, &journey).await,
        };
        if let Came::Wrong(reason) | Came::Trouble(reason) = &came {
            tracing::warn!(step = ?journey.step, "{reason}");
        }
        let next = after(journey.step, &came);
        match next {
            Next::Step(Step::Pulled) => {
                if let Some(report) = sift(unit, record, &mut journey) {
                    record.journey = None;
                    act::tidy(context, record, &[]).await;
                    return report;
                }
                journey.step = Step::Pulled;
            }
            Next::Step(Step::Restarting) => {
                if let Some(report) = not_now(context, unit, &journey, restarts) {
                    record.journey = None;
                    return report;
                }
                journey.step = Step::Restarting;
            }
            Next::Step(Step::RollingBack) => {
                journey.reason = reason(came);
                journey.step = Step::RollingBack;
            }
            Next::Step(Step::RollbackFailed) => {
                journey.step = Step::RollbackFailed;
                return stuck(context, unit, record, journey, reason(came).unwrap_or_default());
            }
            Next::Step(step) => journey.step = step,
            Next::Updated => {
                record.journey = None;
                record.updated = Some(Timestamp::now());
                act::tidy(context, record, &[]).await;
                return UnitReport::new(unit, Outcome::Updated).of(&journey.changes);
            }
            Next::RolledBack => return undone(context, unit, record, &journey).await,
            Next::Left => {
                let mut report = UnitReport::new(unit, Outcome::Failed)
                    .because(reason(came).unwrap_or_default())
                    .of(&journey.changes);
                report.advice = Some("its update is not over: the next run goes on with it".to_owned());
                return report;
            }
            Next::GaveUp => {
                record.journey = None;
                return UnitReport::new(unit, Outcome::Failed)
                    .because(reason(came).unwrap_or_default())
                    .of(&journey.changes);
            }
        }
    }
}

fn reason(came: Came) -> Option<String> {
    match came {
        Came::Wrong(reason) | Came::Trouble(reason) => Some(reason),
        Came::Good => None,
    }
}

/// Leaves out images that turned out to run already, or to be in quarantine under another digest; a report where none is left.
fn sift(unit: &UnitName, record: &mut Record, journey: &mut Journey) -> Option<UnitReport> {
    journey.retain(|change| change.to.as_deref() != Some(change.from.as_str()));
    let known = |change: &Change| {
        let digest = change.digest.clone();
        record.quarantined(change).map(|entry| Quarantined { digest, ..entry.clone() })
    };
    let bad: Vec<Quarantined> = journey.changes.iter().filter_map(known).collect();
    journey.retain(|change| record.quarantined(change).is_none());
    let report = match bad.first() {
        _ if !journey.changes.is_empty() => None,
        Some(entry) => Some(UnitReport::quarantined(unit, entry)),
        None => Some(UnitReport::new(unit, Outcome::Current)),
    };
    // By that digest too: then it need not be pulled to be known.
    record.quarantine(bad.into_iter());
    report
}

/// Why a unit whose images are here is not restarted now.
fn not_now(context: &Context, unit: &UnitName, journey: &Journey, restarts: Restarts) -> Option<UnitReport> {
    let report = |outcome| UnitReport::new(unit, outcome).of(&journey.changes);
    if context.state.is_held(unit) {
        return Some(report(Outcome::Held));
    }
    let pulled = journey.changes.iter().any(|change| change.policy == Policy::Registry);
    let here = if pulled { Outcome::Downloaded } else { Outcome::Waiting };
    let now = Zoned::now();
    if !window::is_open(&context.settings.windows, &now) {
        return Some(report(here).because(until(context, &now)));
    }
    (restarts == Restarts::Never).then(|| report(here).because("nothing is restarted in this run"))
}

/// What a unit waits for outside the windows, in words.
pub fn until(context: &Context, now: &Zoned) -> String {
    window::opens(&context.settings.windows, now).map_or_else(
        || "no window is open".to_owned(),
        |opens| format!("the next window opens at {}", opens.strftime("%a %H:%M")),
    )
}

/// The images from before run again: those that failed are not tried once more.
async fn undone(context: &Context, unit: &UnitName, record: &mut Record, journey: &Journey) -> UnitReport {
    let reason = journey.reason.clone().unwrap_or_else(|| "its update was interrupted".to_owned());
    quarantine(record, journey, &reason);
    record.journey = None;
    act::tidy_failed(context, record, journey).await;
    let mut report = UnitReport::new(unit, Outcome::RolledBack).because(reason).of(&journey.changes);
    report.advice = Some(format!("it is tried again when the tag moves on, or after `windlass update release {unit}`"));
    report
}

fn quarantine(record: &mut Record, journey: &Journey, reason: &str) {
    record.quarantine(journey.changes.iter().map(|change| Quarantined {
        image: change.image.clone(),
        digest: change.digest.clone(),
        platform: change.platform.clone(),
        id: change.to.clone(),
        since: Timestamp::now(),
        reason: reason.to_owned(),
    }));
}

/// Neither image runs: only a person can help.
fn stuck(context: &Context, unit: &UnitName, record: &mut Record, journey: Journey, failed: String) -> UnitReport {
    let first = journey.reason.clone().unwrap_or_default();
    quarantine(record, &journey, &first);
    let mut report = UnitReport::new(unit, Outcome::RollbackFailed)
        .because(format!("{first}; and going back failed: {failed}"))
        .of(&journey.changes);
    report.advice = Some(advice(context, unit, &journey));
    record.journey = Some(journey);
    report
}

fn advice(context: &Context, unit: &UnitName, journey: &Journey) -> String {
    let tags: Vec<String> =
        journey.changes.iter().map(|change| format!("podman tag {} {}", change.from, change.image)).collect();
    format!(
        "see why: {} and journalctl for the unit. The image from before is there; by hand: {} && {}. The unit is left alone until it \
         runs that image, or until `windlass update release {unit}`",
        context.systemd.command(&format!("status {unit}")),
        tags.join(" && "),
        context.systemd.command(&format!("restart {unit}")),
    )
}

/// Takes up an update that another run has left. No report: there is nothing more to do about it, and the unit may be looked at as
/// any other.
///
/// # Errors
/// When systemd or podman does not say what runs.
pub async fn take_up(
    context: &Context,
    unit: &UnitName,
    record: &mut Record,
    mut journey: Journey,
) -> Result<Option<UnitReport>> {
    // systemd may still be at what the other run has asked for.
    let active = context.systemd.at_rest(unit).await?.active == "active";
    let (new_runs, old_runs) = act::runs(context, unit, &journey).await?;
    let open = window::is_open(&context.settings.windows, &Zoned::now());
    let may_restart = open && !context.state.is_held(unit);
    let what = resume(journey.step, Seen { active, new_runs, old_runs, may_restart });
    tracing::info!(step = ?journey.step, "an update was interrupted; now: {what:?}");
    journey.step = match what {
        Resume::Forget => {
            record.journey = None;
            return Ok(None);
        }
        Resume::TakeBack => {
            act::take_back(context, &journey).await.context("undo an update that had only begun")?;
            record.journey = None;
            return Ok(None);
        }
        Resume::Settled => {
            record.journey = None;
            act::tidy_failed(context, record, &journey).await;
            return Ok(None);
        }
        Resume::Stuck => {
            let mut report = UnitReport::new(unit, Outcome::RollbackFailed).of(&journey.changes);
            report.reason = journey.reason.clone();
            report.advice = Some(advice(context, unit, &journey));
            return Ok(Some(report));
        }
        Resume::Restart => Step::Restarting,
        Resume::Judge => Step::Judging,
        Resume::RollBack => Step::RollingBack,
    };
    Ok(Some(travel(context, unit, record, journey, Restarts::InWindows).await))
}
