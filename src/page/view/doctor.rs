//! What doctor calls an error of this host, with what that means and what mends it.

use serde::Serialize;

use crate::doctor::{Level, Round, Row};

/// What doctor found when it looked last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doctor {
    /// When that was.
    pub looked_at: String,
    /// How many things are lost or will break, while jobs run.
    pub warnings: usize,
    /// What does not work.
    pub errors: Vec<Trouble>,
}

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What it is about, as a heading.
    pub subject: &'static str,
    /// The check that found it, by its name in `windlass doctor --json`.
    pub check: &'static str,
    /// What was found.
    pub what: String,
    /// What that means.
    pub meaning: Option<String>,
    /// The command that mends it, or what to do.
    pub remedy: Option<String>,
}

impl Doctor {
    /// Of one round.
    #[must_use]
    pub fn of(round: &Round) -> Self {
        Self {
            looked_at: humantime::format_rfc3339_seconds(round.at).to_string(),
            warnings: round.of(Level::Warning).count(),
            errors: round.of(Level::Error).map(trouble).collect(),
        }
    }
}

fn trouble(row: &Row) -> Trouble {
    let finding = row.finding.clone();
    Trouble {
        subject: row.subject.heading(),
        check: finding.check,
        what: finding.what,
        meaning: finding.meaning,
        remedy: finding.remedy,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::doctor::{Finding, Subject};

    #[test]
    fn errors_are_shown_and_warnings_counted() {
        let row = |subject, finding| Row { subject, finding };
        let rows = vec![
            row(Subject::Podman, Finding::ok("podman", "podman 5")),
            row(Subject::Disk, Finding::warning("disk-state", "little", "m", "r")),
            row(Subject::Ids, Finding::error("subuids", "none", "no job starts", "usermod")),
        ];
        let found = Doctor::of(&Round { at: SystemTime::UNIX_EPOCH, rows });
        assert_eq!((found.looked_at.as_str(), found.warnings, found.errors.len()), ("1970-01-01T00:00:00Z", 1, 1));
        let error = &found.errors[0];
        assert_eq!((error.subject, error.remedy.as_deref()), ("Subordinate ids", Some("usermod")));
    }
}
