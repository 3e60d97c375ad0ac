//! What is to be done about a unit whose images have moved. Pure.

use jiff::Zoned;

use super::journey::Change;
use super::record::{Quarantined, Record};
use super::window;
use crate::config::QuietHours;

/// What stands in the way of an update, or what has moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It runs what its tags are.
    Current,
    /// Somebody holds it.
    Held,
    /// What has moved has failed here before.
    Quarantined(Quarantined),
    /// It is not the time; the images may be pulled, or not even that.
    Waiting {
        /// What has moved.
        changes: Vec<Change>,
        /// When a window opens.
        opens: Option<Zoned>,
    },
    /// It is to be updated.
    Update(Vec<Change>),
}

/// What an administrator has said of when and what.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Whether the unit is held.
    pub held: bool,
    /// When units may be restarted.
    pub windows: &'a [QuietHours],
    /// The time.
    pub now: &'a Zoned,
}

impl Wish<'_> {
    /// Whether images may come to this host, if only to find out what has moved.
    #[must_use]
    pub fn may_pull(&self, download_only: bool) -> bool {
        !self.held && (download_only || window::is_open(self.windows, self.now))
    }
}

impl Verdict {
    /// The images that stay, of those that have moved, if they are here already.
    #[must_use]
    pub fn wanted<'a>(&'a self, moved: &'a [Change]) -> &'a [Change] {
        match self {
            Self::Current | Self::Quarantined(_) => &[],
            Self::Held => moved,
            Self::Waiting { changes, .. } | Self::Update(changes) => changes,
        }
    }
}

/// Decides. Images in quarantine stay where they are; the others of their unit go on.
#[must_use]
pub fn decide(moved: Vec<Change>, record: &Record, wish: Wish<'_>) -> Verdict {
    if moved.is_empty() {
        return Verdict::Current;
    }
    if wish.held {
        return Verdict::Held;
    }
    let bad = |change: &Change| record.quarantined(change).cloned();
    let first_bad = moved.iter().find_map(bad);
    let good: Vec<Change> = moved.into_iter().filter(|change| bad(change).is_none()).collect();
    match first_bad {
        Some(quarantined) if good.is_empty() => Verdict::Quarantined(quarantined),
        _ if !window::is_open(wish.windows, wish.now) => {
            Verdict::Waiting { changes: good, opens: window::opens(wish.windows, wish.now) }
        }
        _ => Verdict::Update(good),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::units::Policy;
    use super::*;

    fn change(container: &str, digest: &str) -> Change {
        Change {
            container: container.to_owned(),
            image: format!("r.example.com/{container}:1"),
            policy: Policy::Registry,
            from: "old".to_owned(),
            digest: digest.to_owned(),
            platform: None,
            to: None,
            auth_file: None,
        }
    }

    fn record(bad: &[(&str, &str)]) -> Record {
        let mut record = Record::default();
        record.quarantine(bad.iter().map(|(container, digest)| Quarantined {
            image: format!("r.example.com/{container}:1"),
            digest: (*digest).to_owned(),
            platform: None,
            id: None,
            since: Timestamp::UNIX_EPOCH,
            reason: "it crashed".to_owned(),
        }));
        record
    }

    fn noon() -> Zoned {
        "2026-03-10T12:00:00[UTC]".parse().expect("a time")
    }

    fn decided(moved: &[Change], record: &Record, held: bool, windows: &[QuietHours]) -> Verdict {
        decide(moved.to_vec(), record, Wish { held, windows, now: &noon() })
    }

    #[test]
    fn what_has_moved_is_updated() {
        let moved = [change("web", "sha256:2")];
        assert_eq!(decided(&[], &record(&[]), true, &[]), Verdict::Current);
        assert_eq!(decided(&moved, &record(&[]), false, &[]), Verdict::Update(moved.to_vec()));
        assert_eq!(decided(&moved, &record(&[]), true, &[]), Verdict::Held);
    }

    #[test]
    fn a_digest_in_quarantine_is_left_alone_until_the_tag_moves_on() {
        let bad = record(&[("web", "sha256:2")]);
        let verdict = decided(&[change("web", "sha256:2")], &bad, false, &[]);
        assert!(matches!(verdict, Verdict::Quarantined(entry) if entry.digest == "sha256:2"));
        let good = [change("web", "sha256:3")];
        assert_eq!(decided(&good, &bad, false, &[]), Verdict::Update(good.to_vec()));
    }

    #[test]
    fn in_a_pod_the_good_images_go_on_without_the_bad_one() {
        let moved = [change("a", "sha256:2"), change("b", "sha256:2")];
        let verdict = decided(&moved, &record(&[("a", "sha256:2")]), false, &[]);
        assert_eq!(verdict, Verdict::Update(vec![moved[1].clone()]));
    }

    #[test]
    fn outside_the_windows_it_waits_for_the_next() {
        let night = QuietHours { from: 120, to: 240 };
        let Verdict::Waiting { changes, opens } = decided(&[change("web", "sha256:2")], &record(&[]), false, &[night])
        else {
            panic!("waits")
        };
        assert_eq!((changes.len(), opens.map(|at| at.hour())), (1, Some(2)));
        let day = QuietHours { from: 0, to: 13 * 60 };
        assert!(matches!(
            decided(&[change("web", "sha256:2")], &record(&[]), false, &[night, day]),
            Verdict::Update(_)
        ));
    }
    #[test]
    fn what_nothing_may_be_done_with_is_not_pulled_to_find_out_what_it_is() {
        let now = noon();
        let night = [QuietHours { from: 120, to: 240 }];
        let wish = |held, windows| Wish { held, windows, now: &now };
        assert!(wish(false, &[]).may_pull(false));
        assert!(!wish(true, &[]).may_pull(true));
        assert!(wish(false, &night).may_pull(true) && !wish(false, &night).may_pull(false));
    }

    #[test]
    fn of_what_has_moved_only_what_may_come_to_run_stays_here() {
        let moved = [change("a", "sha256:2"), change("b", "sha256:2")];
        let bad = record(&[("a", "sha256:2")]);
        let wanted = |verdict: Verdict| verdict.wanted(&moved).to_vec();
        assert_eq!(wanted(decided(&moved, &bad, false, &[])), [moved[1].clone()]);
        assert_eq!(wanted(decided(&moved[..1], &bad, false, &[])), []);
        assert_eq!(wanted(decided(&moved, &bad, true, &[])), moved);
    }
}
