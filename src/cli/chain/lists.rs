//! `windlass chain plan`, `events` and `audit`

use serde::Serialize;

use crate::cli::ask::columns;
use crate::protocol::chain::{EventLine, Finding, PlanRow, StartLine};

/// The plan, for programs.
#[derive(Serialize)]
pub(super) struct PlanJson<'a> {
    pub held: &'a Option<String>,
    pub steps: &'a [PlanRow],
}

/// Events and starts, for programs.
#[derive(Serialize)]
pub(super) struct EventsJson<'a> {
    pub events: &'a [EventLine],
    pub starts: &'a [StartLine],
}

pub(super) fn plan(steps: &[PlanRow], held: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(held) = held {
        text.push_str(&format!("Nothing is started: {held}.\n"));
    }
    if steps.is_empty() {
        text.push_str("Nothing is due.\n");
        return text;
    }
    let rows: Vec<[String; 4]> = steps
        .iter()
        .map(|row| {
            let because = if row.step == "start" { String::new() } else { row.because.join(", ") };
            [row.step.clone(), row.path.clone(), row.words.clone(), because]
        })
        .collect();
    let head = [["STEP", "PROJECT", "WHY", "BECAUSE OF"].map(str::to_owned)];
    text.push_str(&columns(&[&head[..], &rows[..]].concat()));
    text
}

pub(super) fn events(events: &[EventLine], starts: &[StartLine]) -> String {
    let mut text = String::from("Events\n");
    let mut rows =
        vec![["AT", "PROJECT", "PIPELINE", "STATUS", "REF", "SOURCE", "WHAT BECAME OF IT"].map(str::to_owned)];
    rows.extend(events.iter().map(|event| {
        [
            event.at.clone(),
            event.path.clone(),
            event.pipeline.to_string(),
            event.status.clone(),
            event.reference.clone(),
            event.source.clone().unwrap_or_default(),
            event.verdict.clone().unwrap_or_else(|| "waits".to_owned()),
        ]
    }));
    text.push_str(&if rows.len() > 1 { columns(&rows) } else { "  none\n".to_owned() });
    text.push_str("\nStarted by the chain\n");
    let mut rows = vec![["AT", "PROJECT", "WHY", "WHAT CAME OF IT"].map(str::to_owned)];
    rows.extend(
        starts.iter().map(|start| [start.at.clone(), start.path.clone(), start.reason.clone(), start.outcome.clone()]),
    );
    text.push_str(&if rows.len() > 1 { columns(&rows) } else { "  nothing\n".to_owned() });
    text
}

pub(super) fn audit(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "Nothing was found.\n".to_owned();
    }
    let row = |finding: &Finding| {
        let mark = if finding.is_problem { "!" } else { " " };
        [mark.to_owned(), finding.kind.clone(), finding.subject.clone(), finding.words.clone()]
    };
    // What somebody has to do something about comes first.
    let (problems, others): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(|finding| finding.is_problem);
    let rows: Vec<[String; 4]> = problems.into_iter().chain(others).map(row).collect();
    columns(&rows)
}
