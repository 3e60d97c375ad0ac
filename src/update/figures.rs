//! Figures for Prometheus, as a file for node_exporter's textfile collector.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::unistd::{Uid, geteuid};

use super::record::Record;
use super::report::{Outcome, Report};
use super::state::State;
use super::units::UnitName;
use crate::sys::files::{Survives, write_atomically};

/// The collector runs as a user of its own.
const MODE: u32 = 0o644;

/// Writes the figures after a run.
///
/// # Errors
/// When a record can't be read, or the file can't be written.
pub fn write(directory: &Path, state: &State, report: &Report) -> Result<()> {
    let mut units = Vec::new();
    for unit in state.units()? {
        let record = state.record(&unit)?;
        units.push((unit, record));
    }
    let path = directory.join(file_name(geteuid()));
    let text = figures(report, &units);
    write_atomically(&path, text.as_bytes(), MODE, Survives::Crash)
        .with_context(|| format!("write the figures to {}", path.display()))
}

fn file_name(user: Uid) -> PathBuf {
    if user.is_root() { "windlass-update.prom".into() } else { format!("windlass-update-{user}.prom").into() }
}

fn figures(report: &Report, units: &[(UnitName, Record)]) -> String {
    let user = escape(&report.user);
    let mut text = String::new();
    let mut family = |name: &str, help: &str, values: Vec<(String, i64)>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _ = writeln!(text, "{name}{{user=\"{user}\"{labels}}} {value}");
        }
    };
    let plain = |value: i64| vec![(String::new(), value)];
    family("windlass_update_last_run_timestamp_seconds", "When the last run ended.", plain(report.ended.as_second()));
    family(
        "windlass_update_last_run_success",
        "Whether nothing failed in the last run.",
        plain(i64::from(!report.has_failures())),
    );
    family(
        "windlass_update_unfit_containers",
        "Containers that should be updated and can't be.",
        plain(i64::try_from(report.unfit.len()).unwrap_or(i64::MAX)),
    );
    let mut states = Vec::new();
    for (unit, record) in units {
        let Some(last) = &record.last else { continue };
        for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Pending) {
            let labels = format!(",unit=\"{}\",state=\"{}\"", escape(unit.as_str()), outcome.word());
            states.push((labels, i64::from(outcome == last.outcome)));
        }
    }
    family("windlass_update_unit_state", "What came of a unit when it was last looked at.", states);
    let by_unit = |value: &dyn Fn(&Record) -> Option<i64>| {
        let value = |(unit, record): &(UnitName, Record)| {
            Some((format!(",unit=\"{}\"", escape(unit.as_str())), value(record)?))
        };
        units.iter().filter_map(value).collect::<Vec<_>>()
    };
    family(
        "windlass_update_unit_updated_timestamp_seconds",
        "When a unit was last updated.",
        by_unit(&|record| record.updated.map(|at| at.as_second())),
    );
    family(
        "windlass_update_unit_quarantined_digests",
        "Digests that are not tried again.",
        by_unit(&|record| i64::try_from(record.quarantine.len()).ok()),
    );
    family(
        "windlass_update_unit_unfinished",
        "Whether an update is under way, or its rollback failed.",
        by_unit(&|record| Some(i64::from(record.journey.is_some()))),
    );
    text
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::report::UnitReport;
    use super::*;

    #[test]
    fn each_unit_has_one_state_and_names_are_escaped() {
        let unit = UnitName::try_from(r"a\x2db.service".to_owned()).expect("a name");
        let at = Timestamp::from_second(1000).expect("a time");
        let record =
            Record { last: Some(UnitReport::new(&unit, Outcome::RolledBack)), updated: Some(at), ..Record::default() };
        let report = Report {
            host: "h".to_owned(),
            user: "root".to_owned(),
            started: at,
            ended: at,
            units: vec![UnitReport::new(&unit, Outcome::RolledBack)],
            unfit: Vec::new(),
        };
        let text = figures(&report, &[(unit, record)]);
        assert!(text.contains("windlass_update_last_run_timestamp_seconds{user=\"root\"} 1000\n"), "{text}");
        assert!(text.contains("windlass_update_last_run_success{user=\"root\"} 0\n"), "{text}");
        let ones = text.lines().filter(|line| line.starts_with("windlass_update_unit_state") && line.ends_with(" 1"));
        let expected = r#"windlass_update_unit_state{user="root",unit="a\\x2db.service",state="rolled-back"} 1"#;
        assert_eq!(ones.collect::<Vec<_>>(), [expected]);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<i64>().is_ok()), "{line}");
        }
    }

    #[test]
    fn users_do_not_write_each_others_file() {
        assert_eq!(file_name(Uid::from_raw(0)).to_str(), Some("windlass-update.prom"));
        assert_eq!(file_name(Uid::from_raw(1000)).to_str(), Some("windlass-update-1000.prom"));
    }
}
