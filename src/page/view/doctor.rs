//! What doctor calls an error of this host, with what that means and what mends it.

use std::time::SystemTime;

use serde::Serialize;

use crate::doctor::{Found, Level, Pace, Round, Row, Subject};

/// What doctor found when it looked last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Doctor {
    /// When it looked at anything last.
    pub looked_at: String,
    /// What it looked at when: what asks GitLab or starts a container has a slower pace.
    pub looks: Vec<Look>,
    /// How many things are lost or will break, while jobs run.
    pub warnings: usize,
    /// What does not work.
    pub errors: Vec<Trouble>,
}

/// What was looked at together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// When that was.
    pub looked_at: String,
    /// What it was, in words.
    pub at: &'static str,
    /// Its subjects, as headings.
    pub subjects: Vec<&'static str>,
}

/// Something that does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// What it is about, as a heading.
    pub subject: &'static str,
    /// The check that found it, by its name in `windlass doctor --json`.
    pub check: &'static str,
    /// When it was found last.
    pub looked_at: String,
    /// What was found.
    pub what: String,
    /// What that means.
    pub meaning: Option<String>,
    /// The command that mends it, or what to do.
    pub remedy: Option<String>,
}

impl Doctor {
    /// Of the last rounds.
    #[must_use]
    pub fn of(found: &Found) -> Self {
        let last = found.rounds().map(|(_, round)| round.at).max();
        let errors = found.rounds().flat_map(|(_, round)| round.of(Level::Error).map(|row| trouble(round, row)));
        Self {
            looked_at: time(last.unwrap_or(SystemTime::UNIX_EPOCH)),
            looks: found.rounds().map(|(pace, round)| look(pace, round)).collect(),
            warnings: found.count(Level::Warning),
            errors: errors.collect(),
        }
    }
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

fn look(pace: Pace, round: &Round) -> Look {
    let at = match pace {
        Pace::Quick => "this host",
        Pace::Wide if round.subjects.contains(&Subject::Network) => "GitLab and network",
        Pace::Wide => "GitLab",
        Pace::Build => "building images",
    };
    Look { looked_at: time(round.at), at, subjects: round.subjects.iter().map(|subject| subject.heading()).collect() }
}

fn trouble(round: &Round, row: &Row) -> Trouble {
    let finding = row.finding.clone();
    Trouble {
        subject: row.subject.heading(),
        check: finding.check,
        looked_at: time(round.at),
        what: finding.what,
        meaning: finding.meaning,
        remedy: finding.remedy,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::doctor::Finding;

    #[test]
    fn errors_are_shown_with_their_time_and_warnings_counted() {
        let round = |seconds, subject, findings: Vec<Finding>| Round {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            subjects: vec![subject],
            rows: findings.into_iter().map(|finding| Row { subject, finding }).collect(),
        };
        let here = vec![
            Finding::ok("podman", "podman 5"),
            Finding::warning("disk-state", "little", "m", "r"),
            Finding::error("subuids", "none", "no job starts", "usermod"),
        ];
        let there = vec![Finding::error("token", "expired", "the chain stands still", "a new one")];
        let found = Found::default().with(Pace::Wide, round(0, Subject::Gitlab, there), Duration::ZERO).with(
            Pace::Quick,
            round(60, Subject::Ids, here),
            Duration::ZERO,
        );
        let found = Doctor::of(&found);
        assert_eq!((found.looked_at.as_str(), found.warnings, found.errors.len()), ("1970-01-01T00:01:00Z", 1, 2));
        let looks: Vec<_> = found.looks.iter().map(|look| (look.at, look.looked_at.as_str())).collect();
        assert_eq!(looks, [("this host", "1970-01-01T00:01:00Z"), ("GitLab", "1970-01-01T00:00:00Z")]);
        let error = &found.errors[0];
        assert_eq!((error.subject, error.remedy.as_deref()), ("Subordinate ids", Some("usermod")));
        assert_eq!(found.errors[1].looked_at, "1970-01-01T00:00:00Z");
    }
}
