//! Hours for quiet and kickoffs, in the host's local time.

use std::collections::BTreeSet;

use jiff::Zoned;

use super::Controller;
use crate::chain::facts::{ProjectId, Upstream};
use crate::config::Kickoff;

/// Kickoffs that a daemon missed while it was away are made up for this long, in minutes.
const LATE: i64 = 60;
/// The setting with the minute up to which kickoffs were looked at.
const KICKED: &str = "kicked_at";

impl Controller {
    /// Whether nothing is to be started now, by the settings.
    pub(super) fn in_quiet_hours(&self) -> bool {
        self.settings.quiet_hours.is_some_and(|hours| hours.has(minute_of_day(&Zoned::now())))
    }

    /// Asks for pipelines of the chain's roots when it is time.
    pub(super) async fn kick_off(&self) {
        if self.settings.kickoff.is_empty() {
            return;
        }
        let now = Zoned::now();
        let minute = minutes(&now);
        let known = self.state().kicked;
        let last = match known {
            Some(last) => last,
            None => {
                let kept = self.store.setting(KICKED).await.ok().flatten().and_then(|text| text.parse().ok());
                kept.map_or(minute, |kept: i64| kept.max(minute - LATE).min(minute))
            }
        };
        let due = is_due(&self.settings.kickoff, last, minute, &now);
        self.state().kicked = Some(minute);
        if known == Some(minute) {
            return;
        }
        if due {
            let roots = self.want_roots();
            tracing::info!(projects = roots.len(), "kickoff of the chain's roots");
            self.save_or_say(roots).await;
        }
        self.store.set(KICKED, &minute.to_string()).await.unwrap_or_else(|error| tracing::error!("{error:#}"));
    }

    /// Notes that the roots are wanted: projects that others build on and that build on none themselves.
    fn want_roots(&self) -> BTreeSet<ProjectId> {
        let mut state = self.state();
        let is_project = |upstream: &Upstream| matches!(upstream, Upstream::Project(_));
        let mut built_on = BTreeSet::new();
        for edge in state.facts.projects.values().flat_map(|project| &project.edges) {
            if let Upstream::Project(id) = edge.upstream {
                built_on.insert(id);
            }
        }
        let roots: BTreeSet<ProjectId> = state
            .facts
            .projects
            .iter()
            .filter(|(id, project)| {
                built_on.contains(id) && !project.edges.iter().any(|edge| is_project(&edge.upstream))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in &roots {
            state.facts.want(*id, false);
        }
        roots
    }
}

fn minute_of_day(now: &Zoned) -> u16 {
    u16::try_from(i32::from(now.hour()) * 60 + i32::from(now.minute())).unwrap_or(0)
}

/// Minutes since 1970.
fn minutes(now: &Zoned) -> i64 {
    now.timestamp().as_second().div_euclid(60)
}

/// Whether one of them lies after `last` and not after `minute`, which is now.
fn is_due(kickoffs: &[Kickoff], last: i64, minute: i64, now: &Zoned) -> bool {
    (last + 1..=minute).any(|at| {
        let Ok(then) = now.checked_sub(jiff::SignedDuration::from_mins(minute - at)) else { return false };
        let weekday = u8::try_from(then.weekday().to_monday_zero_offset()).ok();
        kickoffs.iter().any(|kickoff| {
            kickoff.minute == minute_of_day(&then) && kickoff.weekday.is_none_or(|day| weekday == Some(day))
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn a_kickoff_is_due_once_and_made_up_for() {
        // A Sunday.
        let now: Zoned = "2026-11-22T03:00:20+01:00[Europe/Berlin]".parse().unwrap();
        let minute = minutes(&now);
        let sunday = [Kickoff { weekday: Some(6), minute: 180 }];
        assert!(is_due(&sunday, minute - 1, minute, &now));
        assert!(!is_due(&sunday, minute, minute, &now), "it was already");
        let later = now.checked_add(jiff::SignedDuration::from_mins(40)).unwrap();
        assert!(is_due(&sunday, minute - 5, minute + 40, &later), "the daemon was away");
        assert!(!is_due(&sunday, minute, minute + 40, &later));
        assert!(!is_due(&[Kickoff { weekday: Some(0), minute: 180 }], minute - 1, minute, &now));
        assert!(is_due(&[Kickoff { weekday: None, minute: 180 }], minute - 1, minute, &now));
    }
}
