//! `windlass status`: slots and leases, as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use clap::Args;

use super::ask::{SOCKET, ask, columns, unexpected};
use super::watch::watch;
use crate::page::view::now::now;
use crate::protocol::daemon::{Reply, Report, Request};

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Slots, and the job, stage and time of each
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  windlass status\n  windlass status --watch\n  windlass status --json | jq '.leases[] | select(.state == \"running\")'"
)]
pub struct StatusArgs {
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Show it again and again: live in a terminal, elsewhere whenever it has changed
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
}

/// Prints the status.
///
/// # Errors
/// When the daemon does not answer, or refuses.
pub fn run(arguments: &StatusArgs) -> Result<u8> {
    if arguments.watch {
        return watch(|| match status(&arguments.socket) {
            Ok(report) => (table(&report, SystemTime::now()), counts(&report)),
            // One that restarts is back soon.
            Err(error) => {
                let words = format!("{error:#}\n");
                (words.clone(), words)
            }
        });
    }
    let report = status(&arguments.socket)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", table(&report, SystemTime::now()));
    }
    Ok(0)
}

fn status(socket: &Path) -> Result<Report> {
    match ask(socket, &Request::Status, LIMIT)? {
        Reply::Status(report) => Ok(*report),
        _ => Err(unexpected()),
    }
}

/// What of a status is a change when it is another. Of words their figures are none: how much is free or used is always another.
fn counts(report: &Report) -> String {
    let (status, daemon) = (&report.status, &report.status.daemon);
    let words = |text: &str| text.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>();
    let warnings: Vec<String> = daemon.warnings.iter().map(|warning| words(warning)).collect();
    let errors: Vec<String> = report.doctor.iter().map(|error| words(&error.what)).collect();
    format!("{} {:?} {warnings:?} {errors:?} {:?} {:?}", daemon.pid, daemon.drained_since, status.slots, status.leases)
}

/// The status for people.
fn table(report: &Report, at: SystemTime) -> String {
    let status = &report.status;
    let busy = status.slots.iter().filter(|slot| slot.lease.is_some()).count();
    let count = status.slots.iter().filter(|slot| !slot.goes).count();
    let mut text = String::new();
    // Writing into a string cannot fail.
    let mut line = |words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{words}");
    };
    let daemon = &status.daemon;
    let load = if status.slots.is_empty() && status.leases.is_empty() {
        "this windlassd runs no jobs (slots is 0); `windlass chain status` shows the image chain".to_owned()
    } else {
        format!("{busy} of {count} slots busy")
    };
    let up = ago(&daemon.started_at, at);
    line(format_args!("windlassd {}, process {}, up {up}; {load}", daemon.version, daemon.pid));
    if let Some(since) = &daemon.drained_since {
        line(format_args!("drained for {}: no new jobs are taken until `windlass undrain`", ago(since, at)));
    }
    for warning in &daemon.warnings {
        line(format_args!("warning: {warning}"));
    }
    if !status.slots.is_empty() || !status.leases.is_empty() {
        line(format_args!("{}", columns(&rows(report, at)).trim_end()));
    }
    for job in now(status, &[], &BTreeMap::new(), None).waiting {
        line(format_args!("job {} waits for {}", job.id, job.waits_for));
    }
    for lease in &status.leases {
        if let Some(until) = &lease.held_until {
            line(format_args!("job {} is held until {until}: windlass shell {0}, windlass release {0}", lease.job_id));
        }
        if let Some(problem) = &lease.problem {
            line(format_args!("job {}: {problem}", lease.job_id));
        }
    }
    for error in &report.doctor {
        line(format_args!("doctor: {}", error.what));
        if let Some(remedy) = &error.remedy {
            line(format_args!("    mend: {}", remedy.replace('\n', "\n          ")));
        }
    }
    text
}

/// The table's rows.
fn rows(report: &Report, at: SystemTime) -> Vec<[String; 7]> {
    let status = &report.status;
    let mut rows = vec![["SLOT", "STATE", "JOB", "PROJECT", "STAGE", "FOR", "IMAGE"].map(str::to_owned)];
    for slot in &status.slots {
        let name = format!("{}/{}", slot.profile, slot.index);
        let lease = slot.lease.as_ref().and_then(|id| status.leases.iter().find(|lease| lease.id == *id));
        rows.push(match lease {
            None => {
                [name, "free".to_owned(), String::new(), String::new(), String::new(), String::new(), String::new()]
            }
            Some(lease) => row(name, lease, at),
        });
    }
    let placed = |id: &str| status.slots.iter().any(|slot| slot.lease.as_deref() == Some(id));
    for lease in status.leases.iter().filter(|lease| !placed(&lease.id)) {
        rows.push(row(format!("{}/-", lease.profile), lease, at));
    }
    rows
}

fn row(slot: String, lease: &crate::protocol::daemon::LeaseStatus, now: SystemTime) -> [String; 7] {
    let since = lease.stage_since.as_ref().unwrap_or(&lease.since);
    [
        slot,
        lease.state.clone(),
        lease.job_id.to_string(),
        lease.project_path.clone(),
        lease.stage.clone().unwrap_or_default(),
        ago(since, now),
        lease.image.clone().unwrap_or_default(),
    ]
}

/// How long ago that was, in words.
fn ago(date: &str, now: SystemTime) -> String {
    let since = humantime::parse_rfc3339(date).ok().and_then(|then| now.duration_since(then).ok()).unwrap_or_default();
    humantime::format_duration(Duration::from_secs(since.as_secs())).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::daemon::{DaemonStatus, DoctorError, LeaseStatus, SlotStatus, Status};

    #[test]
    fn the_table_names_slots_jobs_and_stages() {
        let lease = LeaseStatus {
            id: "0123".into(),
            state: "running".into(),
            profile: "default".into(),
            slot: Some(0),
            job_id: 11,
            project_id: 7,
            project_path: "g/p".into(),
            instance: "gitlab.example.com".into(),
            image: Some("alpine".into()),
            container: None,
            stage: Some("build_script".into()),
            since: "2026-01-01T00:00:00Z".into(),
            stage_since: Some("2026-01-01T00:01:00Z".into()),
            problem: None,
            held_until: None,
        };
        let waiting = LeaseStatus {
            id: "4567".into(),
            state: "waiting".into(),
            slot: None,
            stage: None,
            stage_since: None,
            problem: Some("why".into()),
            ..lease.clone()
        };
        let held = LeaseStatus {
            id: "89ab".into(),
            state: "held".into(),
            job_id: 9,
            slot: None,
            stage: None,
            stage_since: None,
            held_until: Some("2026-01-01T01:00:00Z".into()),
            ..lease.clone()
        };
        let slot = |index, lease: Option<&str>| SlotStatus {
            profile: "default".into(),
            index,
            lease: lease.map(str::to_owned),
            goes: false,
        };
        let error = DoctorError {
            check: "socket-caller".into(),
            what: "user nobody can't connect".into(),
            remedy: Some("systemctl restart windlass.socket\nsystemctl status windlass.socket".into()),
        };
        let mut report = report(&[], &[error]);
        report.status.slots = vec![slot(0, Some("0123")), slot(1, None)];
        report.status.leases = vec![lease, held, waiting];
        let now = humantime::parse_rfc3339("2026-01-01T00:02:05Z").expect("date");
        let text = table(&report, now);
        let expected = "\
windlassd 0.1.0, process 1, up 2m 5s; 1 of 2 slots busy
SLOT       STATE    JOB  PROJECT  STAGE         FOR    IMAGE
default/0  running  11   g/p      build_script  1m 5s  alpine
default/1  free
default/-  held     9    g/p                    2m 5s  alpine
default/-  waiting  11   g/p                    2m 5s  alpine
job 11 waits for another job of its project to end (max_slots)
job 9 is held until 2026-01-01T01:00:00Z: windlass shell 9, windlass release 9
job 11: why
doctor: user nobody can't connect
    mend: systemctl restart windlass.socket
          systemctl status windlass.socket
";
        assert_eq!(text, expected);
    }

    fn report(warnings: &[&str], doctor: &[DoctorError]) -> Report {
        let daemon = DaemonStatus {
            version: "0.1.0".into(),
            pid: 1,
            started_at: "2026-01-01T00:00:00Z".into(),
            warnings: warnings.iter().map(|warning| (*warning).to_owned()).collect(),
            drained_since: None,
        };
        Report { status: Status { daemon, slots: Vec::new(), leases: Vec::new() }, doctor: doctor.to_vec() }
    }

    #[test]
    fn a_warning_and_an_error_of_doctors_are_changes_and_their_figures_are_none() {
        let nothing = counts(&report(&[], &[]));
        let full = |bytes: &str| counts(&report(&[&format!("only {bytes} MiB are free")], &[]));
        assert_ne!(nothing, full("17.2"));
        assert_eq!(full("17.2"), full("9.8"));
        let error = DoctorError { check: "disk-state".into(), what: "the disk is full".into(), remedy: None };
        assert_ne!(nothing, counts(&report(&[], &[error])));
    }
}
