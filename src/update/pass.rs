//! One pass over the units: all of them, or some. What the timer, a person, and whoever hears of a new image have done.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::{Timestamp, Zoned};
use tracing::Instrument;

use super::journey::{Journey, Step};
use super::moved::{self, Ask};
use super::plan::{Verdict, Wish, decide};
use super::record::Record;
use super::report::{Outcome, Report, UnitReport};
use super::travel::{Restarts, take_up, travel, until};
use super::units::{Managed, Unfit, UnitName, managed};
use super::{Context, act, order, window};

/// Which units a pass is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// These.
    Only(Vec<UnitName>),
    /// Those with an image from a registry below one of these places, such as `registry.example.com/images/app`, and those whose
    /// update was interrupted.
    Below(BTreeSet<String>),
}

/// The units of a pass: with the containers that they have now, or only with a record of an update that was interrupted.
pub struct Units {
    /// By name; none: nothing of it runs.
    pub found: BTreeMap<UnitName, Option<Managed>>,
    /// Containers that should be updated and can't be.
    pub unfit: Vec<Unfit>,
}

/// Finds the units.
///
/// # Errors
/// When podman does not say what runs, or one is named that there is none of.
pub async fn units(context: &Context, which: &Which) -> Result<Units> {
    let containers = context.podman.containers().await.context("find out which containers run")?;
    let (all, unfit) = managed(&containers, &context.include);
    let mut found: BTreeMap<UnitName, Option<Managed>> =
        all.into_iter().map(|unit| (unit.unit.clone(), Some(unit))).collect();
    let is_interrupted = |unit: &UnitName| context.state.record(unit).is_ok_and(|record| record.is_unfinished());
    for unit in context.state.units()? {
        if !found.contains_key(&unit) && is_interrupted(&unit) {
            found.insert(unit, None);
        }
    }
    if let Which::Below(places) = which {
        found.retain(|name, unit| unit.as_ref().is_some_and(|unit| unit.is_below(places)) || is_interrupted(name));
    }
    if let Which::Only(names) = which {
        if let Some(unknown) = names.iter().find(|name| !found.contains_key(*name)) {
            let known: Vec<&str> = found.keys().map(UnitName::as_str).collect();
            let known = if known.is_empty() { "none at all".to_owned() } else { known.join(", ") };
            bail!("{unknown} has no running container that is to be updated; units that have one: {known}");
        }
        found.retain(|name, _| names.contains(name));
    }
    Ok(Units { found, unfit })
}

/// Says of each unit what would be done. Nothing is changed.
///
/// # Errors
/// As [`units`].
pub async fn plan(context: &Context, which: &Which) -> Result<Report> {
    let started = Timestamp::now();
    let units = units(context, which).await?;
    let mut reports = Vec::new();
    for (name, unit) in &units.found {
        reports.push(match planned(context, name, unit.as_ref()).await {
            Ok(report) => report,
            Err(error) => UnitReport::new(name, Outcome::Failed).because(format!("{error:#}")),
        });
    }
    Ok(report(context, started, reports, units.unfit))
}

async fn planned(context: &Context, name: &UnitName, unit: Option<&Managed>) -> Result<UnitReport> {
    let mut record = context.state.record(name)?;
    if let Some(journey) = &record.journey {
        let (outcome, what) = match journey.step {
            Step::RollbackFailed => (Outcome::RollbackFailed, "going back failed; it waits for somebody's help"),
            _ => (Outcome::Pending, "its update was interrupted; the next run finishes or undoes it"),
        };
        return Ok(UnitReport::new(name, outcome).because(what).of(&journey.changes));
    }
    let Some(unit) = unit else { return Ok(UnitReport::new(name, Outcome::Current)) };
    let now = Zoned::now();
    let wish = wish(context, name, &now);
    match moved::changes(unit, &mut record, &context.podman, &context.registries, Ask::OnlyLook).await {
        Err(error) => unasked(context, name, wish, error),
        Ok(changes) => Ok(judged(context, name, decide(changes, &record, wish))),
    }
}

fn wish<'a>(context: &'a Context, unit: &UnitName, now: &'a Zoned) -> Wish<'a> {
    Wish { held: context.state.is_held(unit), windows: &context.settings.windows, now }
}

/// What there is to say of a unit that nothing would be done about anyway, whatever its tags are, where that could not be found out.
fn unasked(context: &Context, name: &UnitName, wish: Wish<'_>, error: anyhow::Error) -> Result<UnitReport> {
    let Some(why) = error.downcast_ref::<moved::Unasked>() else { return Err(error) };
    let unknown = format!("whether its images have moved only a pull could tell: {why}");
    if wish.held {
        let words = format!("held; `windlass update release {name}` ends that; {unknown}");
        return Ok(UnitReport::new(name, Outcome::Held).because(words));
    }
    if window::is_open(wish.windows, wish.now) {
        return Err(error);
    }
    Ok(UnitReport::new(name, Outcome::Waiting).because(format!("{}; {unknown}", until(context, wish.now))))
}

/// A verdict as a report: what is to be done is pending.
fn judged(context: &Context, name: &UnitName, verdict: Verdict) -> UnitReport {
    match verdict {
        Verdict::Current => UnitReport::new(name, Outcome::Current),
        Verdict::Held => {
            UnitReport::new(name, Outcome::Held).because(format!("held; `windlass update release {name}` ends that"))
        }
        Verdict::Quarantined(entry) => UnitReport::quarantined(name, &entry),
        Verdict::Waiting { changes, .. } => {
            UnitReport::new(name, Outcome::Waiting).because(until(context, &Zoned::now())).of(&changes)
        }
        Verdict::Update(changes) => UnitReport::new(name, Outcome::Pending).of(&changes),
    }
}

/// Updates what is to be updated.
///
/// # Errors
/// When it can't even begin: another run is at work, podman's timer is, or podman or systemd do not answer. What fails with one
/// unit is in its report.
pub async fn run(context: &Context, which: &Which, restarts: Restarts) -> Result<Report> {
    let _lock = context.state.lock()?;
    context.systemd.refuse_rival().await?;
    let started = Timestamp::now();
    let units = units(context, which).await?;
    let names: Vec<UnitName> = units.found.keys().cloned().collect();
    let first = order::first(&names, &context.systemd.after().await?);
    // A tag that two units have is moved, and moved back, for one of them at a time.
    let images = |name: &UnitName| -> BTreeSet<&str> {
        let members = units.found.get(name).and_then(Option::as_ref).map_or(&[][..], |unit| &unit.members);
        members.iter().map(|member| member.image.as_str()).collect()
    };
    let apart = |one: &UnitName, other: &UnitName| !images(one).is_disjoint(&images(other));
    let mut waiting: BTreeSet<UnitName> = names.into_iter().collect();
    let (mut running, mut done) = (BTreeSet::new(), BTreeMap::<UnitName, UnitReport>::new());
    let mut work = FuturesUnordered::new();
    while !waiting.is_empty() || !work.is_empty() {
        while running.len() < context.settings.max_parallel
            && let Some(name) = order::next(&waiting, &running, &first, apart)
        {
            waiting.remove(&name);
            let broken = first
                .get(&name)
                .into_iter()
                .flatten()
                .find(|before| done.get(*before).is_some_and(|report| report.outcome == Outcome::RollbackFailed));
            if let Some(before) = broken {
                let reason = format!("{before}, which it comes after, does not run");
                done.insert(name.clone(), UnitReport::new(&name, Outcome::Failed).because(reason));
                continue;
            }
            running.insert(name.clone());
            let unit = units.found.get(&name).and_then(Option::as_ref);
            let span = tracing::info_span!("update", unit = %name);
            work.push(async move { (name.clone(), one(context, &name, unit, restarts).await) }.instrument(span));
        }
        if let Some((name, report)) = work.next().await {
            running.remove(&name);
            done.insert(name, report);
        }
    }
    drop(work);
    Ok(report(context, started, done.into_values().collect(), units.unfit))
}

/// One unit, with its record before and after.
async fn one(context: &Context, name: &UnitName, unit: Option<&Managed>, restarts: Restarts) -> UnitReport {
    let mut record = match context.state.record(name) {
        Ok(record) => record,
        Err(error) => return UnitReport::new(name, Outcome::Failed).because(format!("{error:#}")),
    };
    let report = match updated(context, name, unit, &mut record, restarts).await {
        Ok(report) => report,
        Err(error) => UnitReport::new(name, Outcome::Failed).because(format!("{error:#}")),
    };
    tell(&report);
    let done = matches!(report.outcome, Outcome::Updated | Outcome::RolledBack);
    let news = done || !record.last.as_ref().is_some_and(|last| report.repeats(last));
    record.last = Some(report.clone());
    let noted = context.state.save(name, &record).and_then(|()| {
        if news && report.outcome != Outcome::Current { context.state.remember(&report) } else { Ok(()) }
    });
    if let Err(error) = noted {
        tracing::error!("{error:#}");
    }
    report
}

fn tell(report: &UnitReport) {
    let outcome = report.outcome.word();
    let reason = report.reason.as_deref().unwrap_or_default();
    let advice = report.advice.as_deref().unwrap_or_default();
    let images: Vec<&str> = report.changes.iter().map(|change| change.image.as_str()).collect();
    let digests: Vec<&str> = report.changes.iter().map(|change| change.digest.as_str()).collect();
    let (image, digest) = (images.join(" "), digests.join(" "));
    let name = &report.unit;
    match report.outcome {
        Outcome::RollbackFailed => tracing::error!(outcome, image, digest, "{name}: {outcome}: {reason}. {advice}"),
        Outcome::RolledBack | Outcome::Failed => {
            tracing::warn!(outcome, image, digest, "{name}: {outcome}: {reason}");
        }
        Outcome::Current => tracing::debug!(outcome, "{name}: {outcome}"),
        _ if reason.is_empty() => tracing::info!(outcome, image, digest, "{name}: {outcome}"),
        _ => tracing::info!(outcome, image, digest, "{name}: {outcome}: {reason}"),
    }
}

async fn updated(
    context: &Context,
    name: &UnitName,
    unit: Option<&Managed>,
    record: &mut Record,
    restarts: Restarts,
) -> Result<UnitReport> {
    let members = unit.map_or(&[][..], |unit| &unit.members);
    moved::put_back(&context.podman, record, members).await?;
    if let Some(journey) = record.journey.clone()
        && let Some(report) = take_up(context, name, record, journey).await?
    {
        return Ok(report);
    }
    let Some(unit) = unit else { return Ok(UnitReport::new(name, Outcome::Current)) };
    let now = Zoned::now();
    let wish = wish(context, name, &now);
    let ask = if wish.may_pull(context.settings.download_only) { Ask::OrPull(&context.state) } else { Ask::OnlyLook };
    let moved = match moved::changes(unit, record, &context.podman, &context.registries, ask).await {
        Err(error) => return unasked(context, name, wish, error),
        Ok(moved) => moved,
    };
    let verdict = decide(moved.clone(), record, wish);
    // What was pulled for an earlier digest, or only to find out what it is, is not wanted any more.
    act::tidy(context, record, verdict.wanted(&moved)).await;
    let changes = match verdict {
        Verdict::Update(changes) => changes,
        Verdict::Waiting { changes, .. } if context.settings.download_only => changes,
        verdict => return Ok(judged(context, name, verdict)),
    };
    Ok(travel(context, name, record, Journey::new(unit, changes), restarts).await)
}

fn report(context: &Context, started: Timestamp, units: Vec<UnitReport>, unfit: Vec<Unfit>) -> Report {
    let (host, user) = (context.host.clone(), context.user.clone());
    Report { host, user, started, ended: Timestamp::now(), units, unfit }
}
