//! How `windlass update` shows what it knows.

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::ask::columns;
use crate::update::Context;
use crate::update::clean::Kept;
use crate::update::journey::{Change, Step};
use crate::update::pass::{Which, units};
use crate::update::record::Quarantined;
use crate::update::report::{Report, UnitReport};
use crate::update::units::{Unfit, UnitName};

/// Characters of an id or digest that are shown.
const SHORT: usize = 12;

/// Everything there is to know of the units.
#[derive(Debug, Serialize)]
pub struct Status {
    units: Vec<UnitStatus>,
    unfit: Vec<Unfit>,
}

#[derive(Debug, Serialize)]
struct UnitStatus {
    unit: UnitName,
    containers: Vec<ContainerStatus>,
    held: bool,
    quarantine: Vec<Quarantined>,
    kept: Vec<Kept>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<Step>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<UnitReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct ContainerStatus {
    name: String,
    image: String,
    image_id: String,
}

/// Looks at the units; no registry is asked.
///
/// # Errors
/// When podman does not answer, or a record can't be read.
pub async fn status(context: &Context) -> Result<Status> {
    let found = units(context, &Which::All).await?;
    let mut all = Vec::new();
    for (unit, managed) in found.found {
        let record = context.state.record(&unit)?;
        let members = managed.map_or_else(Vec::new, |managed| managed.members);
        let container = |member: crate::update::units::Member| ContainerStatus {
            name: member.name,
            image: member.image,
            image_id: member.image_id,
        };
        all.push(UnitStatus {
            containers: members.into_iter().map(container).collect(),
            held: context.state.is_held(&unit),
            quarantine: record.quarantine,
            kept: record.kept,
            step: record.journey.map(|journey| journey.step),
            last: record.last,
            updated: record.updated,
            unit,
        });
    }
    Ok(Status { units: all, unfit: found.unfit })
}

/// The status for people.
pub fn status_text(status: &Status) -> String {
    let mut text = String::new();
    if status.units.is_empty() {
        text += "No unit has a running container that is to be updated.\n";
    } else {
        let mut rows = vec![["UNIT", "STATE", "LOOKED AT", "UPDATED", "IMAGE"].map(str::to_owned)];
        for unit in &status.units {
            let state = match (&unit.step, &unit.last) {
                _ if unit.held => "held".to_owned(),
                (Some(Step::RollbackFailed), _) => "rollback-failed".to_owned(),
                (Some(_), _) => "unfinished".to_owned(),
                (None, Some(last)) => last.outcome.word().to_owned(),
                (None, None) => "never looked at".to_owned(),
            };
            let mut images: Vec<String> = unit.containers.iter().map(|container| container.image.clone()).collect();
            images.dedup();
            rows.push([
                unit.unit.to_string(),
                state,
                unit.last.as_ref().map_or_else(|| "-".to_owned(), |last| local(last.at)),
                unit.updated.map_or_else(|| "-".to_owned(), local),
                images.join(", "),
            ]);
        }
        text += &columns(&rows);
    }
    for unit in &status.units {
        for entry in &unit.quarantine {
            text += &format!(
                "{}: {} of {} is not tried again since {}: {}\n",
                unit.unit,
                short(&entry.digest),
                entry.image,
                local(entry.since),
                entry.reason
            );
        }
        for kept in &unit.kept {
            text += &format!("{}: the image before is kept as {}\n", unit.unit, kept.name);
        }
        if let Some(last) = unit.last.as_ref().filter(|last| last.outcome.is_failure()) {
            text += &explained(last);
        }
    }
    text + &unfit(&status.unfit)
}

/// A report for people.
pub fn report(report: &Report) -> String {
    let mut text = String::new();
    if report.units.is_empty() {
        text += "No unit has a running container that is to be updated.\n";
    } else {
        let mut rows = vec![["UNIT", "STATE", "IMAGE", "FROM", "TO"].map(str::to_owned)];
        for unit in &report.units {
            rows.extend(lines(unit));
        }
        text += &columns(&rows);
    }
    report.units.iter().for_each(|unit| text += &explained(unit));
    text + &unfit(&report.unfit)
}

fn lines(unit: &UnitReport) -> Vec<[String; 5]> {
    let (name, state) = (unit.unit.to_string(), unit.outcome.word().to_owned());
    if unit.changes.is_empty() {
        return vec![[name, state, String::new(), String::new(), String::new()]];
    }
    let line = |(number, change): (usize, &Change)| {
        let first = number == 0;
        let [name, state] = [&name, &state].map(|word| if first { word.clone() } else { String::new() });
        [name, state, change.image.clone(), short(&change.from), short(&change.digest)]
    };
    unit.changes.iter().enumerate().map(line).collect()
}

fn explained(unit: &UnitReport) -> String {
    let mut text = String::new();
    if let Some(reason) = &unit.reason {
        text += &format!("{}: {reason}\n", unit.unit);
    }
    if let Some(advice) = &unit.advice {
        text += &format!("{}: {advice}\n", unit.unit);
    }
    text
}

fn unfit(all: &[Unfit]) -> String {
    all.iter().map(|unfit| format!("container {}: {}\n", unfit.container, unfit.reason)).collect()
}

/// The history for people.
pub fn history(reports: &[UnitReport]) -> String {
    if reports.is_empty() {
        return "Nothing was done yet.\n".to_owned();
    }
    let mut rows = vec![["TIME", "UNIT", "WHAT", "IMAGE", "FROM", "TO", "WHY"].map(str::to_owned)];
    for report in reports {
        for (number, [unit, state, image, from, to]) in lines(report).into_iter().enumerate() {
            let first = number == 0;
            let time = if first { local(report.at) } else { String::new() };
            let why = report.reason.clone().filter(|_| first).unwrap_or_default();
            rows.push([time, unit, state, image, from, to, why]);
        }
    }
    columns(&rows)
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(SHORT).collect()
}

fn local(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::report::Outcome;
    use crate::update::units::Policy;

    fn unit() -> UnitName {
        UnitName::try_from("pod-p.service".to_owned()).expect("a name")
    }

    fn change(container: &str) -> Change {
        Change {
            container: container.to_owned(),
            image: format!("r.example.com/{container}:1"),
            policy: Policy::Registry,
            from: "0123456789abcdef".to_owned(),
            digest: "sha256:fedcba9876543210".to_owned(),
            platform: None,
            to: None,
            auth_file: None,
        }
    }

    #[test]
    fn a_pod_has_a_line_for_each_image_and_the_reason_below() {
        let unit = UnitReport::new(&unit(), Outcome::RolledBack).because("it crashed").of(&[change("a"), change("b")]);
        let text = history(std::slice::from_ref(&unit));
        assert_eq!(text.lines().count(), 3, "{text}");
        let at = Timestamp::UNIX_EPOCH;
        let all = Report {
            host: "h".to_owned(),
            user: "u".to_owned(),
            started: at,
            ended: at,
            units: vec![unit],
            unfit: vec![Unfit { container: "x".to_owned(), reason: "no unit".to_owned() }],
        };
        let expected = "UNIT           STATE        IMAGE              FROM          TO\n\
                        pod-p.service  rolled-back  r.example.com/a:1  0123456789ab  fedcba987654\n\
                        \u{20}                           r.example.com/b:1  0123456789ab  fedcba987654\n\
                        pod-p.service: it crashed\ncontainer x: no unit\n";
        assert_eq!(report(&all), expected);
    }
}
