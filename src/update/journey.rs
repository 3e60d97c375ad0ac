//! One unit's update as a state machine: what comes after which step, and how a run takes up one that another run has left. Pure.
//!
//! Each step is on record before it is acted on. Until `Restarting` nothing that runs was touched and no tag has moved.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::units::{Managed, Policy, UnitName};

/// Where an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It is known what has moved; images are being pulled, by digest.
    Checked,
    /// All images are there.
    Pulled,
    /// The tags are being moved to the new images, and the unit is being restarted.
    Restarting,
    /// It runs with them, and has to prove itself.
    Judging,
    /// The tags are being moved back, and the unit is being restarted.
    RollingBack,
    /// That failed too.
    RollbackFailed,
}

/// The image of one container, from and to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The container's name.
    pub container: String,
    /// The image as its unit names it.
    pub image: String,
    /// Where the new one comes from.
    pub policy: Policy,
    /// The id of the image that ran before.
    pub from: String,
    /// What the tag has moved to: the registry's digest, or `sha256:` and the id of a local image.
    pub digest: String,
    /// The digest of the image for this host's platform, where the tag is an index and the registry has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The id of the new image, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Logins for the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_file: Option<PathBuf>,
}

impl Change {
    /// The image by the digest that it has moved to, which moves no tag when it is pulled.
    #[must_use]
    pub fn pinned(&self) -> String {
        format!("{}@{}", repository(&self.image), self.digest)
    }
}

/// A reference without its tag.
#[must_use]
pub fn repository(image: &str) -> &str {
    let last = image.rfind('/').map_or(0, |slash| slash + 1);
    image[last..].find(':').map_or(image, |colon| &image[..last + colon])
}

/// An update that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// How far it has come.
    pub step: Step,
    /// When it began.
    pub started: Timestamp,
    /// What is changed.
    pub changes: Vec<Change>,
    /// The other containers of the pod, which are made anew as well.
    #[serde(default)]
    pub beside: Vec<String>,
    /// The units of containers in the pod.
    #[serde(default)]
    pub units: Vec<UnitName>,
    /// Why it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Journey {
    /// The beginning of one.
    #[must_use]
    pub fn new(unit: &Managed, changes: Vec<Change>) -> Self {
        let changed = |name: &String| changes.iter().any(|change| change.container == *name);
        let beside = unit.members.iter().map(|member| member.name.clone()).filter(|name| !changed(name)).collect();
        let units = unit.members.iter().filter_map(|member| member.own_unit.clone()).collect();
        Self { step: Step::Checked, started: Timestamp::now(), changes, beside, units, reason: None }
    }

    /// Leaves out changes that come to nothing. Their containers are made anew with the others of their pod, as they are.
    pub fn retain(&mut self, is_wanted: impl Fn(&Change) -> bool) {
        let (wanted, others): (Vec<Change>, Vec<Change>) =
            std::mem::take(&mut self.changes).into_iter().partition(is_wanted);
        self.changes = wanted;
        self.beside.extend(others.into_iter().map(|change| change.container));
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// To what it is for.
    Good,
    /// To nothing, for this reason.
    Wrong(String),
    /// Nobody can tell: podman or systemd are in trouble, which says nothing of an image.
    Trouble(String),
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This step.
    Step(Step),
    /// The new images run.
    Updated,
    /// Those from before run again.
    RolledBack,
    /// Nothing was touched, and the update did not come about.
    GaveUp,
    /// It stays on record as it is, for the next run to take up.
    Left,
}

/// What comes after a step.
#[must_use]
pub fn after(step: Step, came: &Came) -> Next {
    match (step, came) {
        (Step::Checked, Came::Good) => Next::Step(Step::Pulled),
        (Step::Pulled, Came::Good) => Next::Step(Step::Restarting),
        (Step::Checked | Step::Pulled, Came::Wrong(_) | Came::Trouble(_)) => Next::GaveUp,
        (_, Came::Trouble(_)) => Next::Left,
        (Step::Restarting, Came::Good) => Next::Step(Step::Judging),
        (Step::Judging, Came::Good) => Next::Updated,
        (Step::Restarting | Step::Judging, Came::Wrong(_)) => Next::Step(Step::RollingBack),
        (Step::RollingBack | Step::RollbackFailed, Came::Good) => Next::RolledBack,
        (Step::RollingBack | Step::RollbackFailed, Came::Wrong(_)) => Next::Step(Step::RollbackFailed),
    }
}

/// What a run sees of a unit whose update another run has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The unit is active.
    pub active: bool,
    /// Each changed container runs with its new image.
    pub new_runs: bool,
    /// Each changed container runs with the image from before.
    pub old_runs: bool,
    /// A unit may be restarted now: a window is open, and nobody holds this one.
    pub may_restart: bool,
}

/// What it does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Forgets it: nothing was touched.
    Forget,
    /// Moves the tags back: nothing else was touched.
    TakeBack,
    /// Restarts the unit.
    Restart,
    /// Judges what runs.
    Judge,
    /// Rolls back.
    RollBack,
    /// Notes that the images from before run.
    Settled,
    /// Leaves it to a person.
    Stuck,
}

/// How an update is taken up.
#[must_use]
pub fn resume(step: Step, seen: Seen) -> Resume {
    match step {
        Step::Checked | Step::Pulled => Resume::Forget,
        Step::Restarting if seen.new_runs && seen.active => Resume::Judge,
        // Killed before systemd was asked.
        Step::Restarting if seen.old_runs && seen.active && !seen.may_restart => Resume::TakeBack,
        Step::Restarting => Resume::Restart,
        Step::Judging => Resume::Judge,
        // It may be that only the record lacks.
        Step::RollingBack => Resume::RollBack,
        Step::RollbackFailed if seen.old_runs && seen.active => Resume::Settled,
        Step::RollbackFailed => Resume::Stuck,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Step; 6] =
        [Step::Checked, Step::Pulled, Step::Restarting, Step::Judging, Step::RollingBack, Step::RollbackFailed];

    fn seen(active: bool, new_runs: bool, old_runs: bool, may_restart: bool) -> Seen {
        Seen { active, new_runs, old_runs, may_restart }
    }

    #[test]
    fn a_good_update_goes_through_every_step() {
        let mut steps = vec![Step::Checked];
        while let Next::Step(next) = after(steps[steps.len() - 1], &Came::Good) {
            steps.push(next);
        }
        assert_eq!(steps, ALL[..4]);
        assert_eq!(after(Step::Judging, &Came::Good), Next::Updated);
    }

    #[test]
    fn what_fails_after_something_was_touched_is_undone() {
        let wrong = Came::Wrong("no".to_owned());
        for step in [Step::Checked, Step::Pulled] {
            assert_eq!(after(step, &wrong), Next::GaveUp);
        }
        for step in [Step::Restarting, Step::Judging] {
            assert_eq!(after(step, &wrong), Next::Step(Step::RollingBack));
        }
        assert_eq!(after(Step::RollingBack, &Came::Good), Next::RolledBack);
        assert_eq!(after(Step::RollingBack, &wrong), Next::Step(Step::RollbackFailed));
    }

    #[test]
    fn where_nobody_can_tell_nothing_is_undone_and_the_next_run_goes_on() {
        let trouble = Came::Trouble("podman does not answer".to_owned());
        for step in [Step::Restarting, Step::Judging, Step::RollingBack] {
            assert_eq!(after(step, &trouble), Next::Left);
        }
        assert_eq!(after(Step::Checked, &trouble), Next::GaveUp);
    }

    #[test]
    fn a_change_that_is_none_leaves_its_container_to_be_made_anew_with_the_others() {
        let change = |container: &str| Change {
            container: container.to_owned(),
            image: "r.example.com/x:1".to_owned(),
            policy: Policy::Registry,
            from: "old".to_owned(),
            digest: "sha256:2".to_owned(),
            platform: None,
            to: None,
            auth_file: None,
        };
        let changes = vec![change("a"), change("b")];
        let mut journey = Journey {
            step: Step::Checked,
            started: Timestamp::UNIX_EPOCH,
            changes,
            beside: vec!["c".to_owned()],
            units: Vec::new(),
            reason: None,
        };
        journey.retain(|change| change.container == "a");
        assert_eq!(journey.changes, [change("a")]);
        assert_eq!(journey.beside, ["c", "b"]);
    }

    #[test]
    fn a_run_that_was_killed_is_finished_or_undone_by_the_next() {
        let old = seen(true, false, true, true);
        let new = seen(true, true, false, true);
        let down = seen(false, false, false, true);
        let cases = [
            (Step::Checked, old, Resume::Forget),
            (Step::Pulled, old, Resume::Forget),
            (Step::Restarting, old, Resume::Restart),
            (Step::Restarting, new, Resume::Judge),
            (Step::Restarting, down, Resume::Restart),
            (Step::Judging, new, Resume::Judge),
            (Step::Judging, down, Resume::Judge),
            (Step::RollingBack, new, Resume::RollBack),
            (Step::RollingBack, down, Resume::RollBack),
            (Step::RollbackFailed, down, Resume::Stuck),
            (Step::RollbackFailed, old, Resume::Settled),
        ];
        for (step, seen, expected) in cases {
            assert_eq!(resume(step, seen), expected, "{step:?} {seen:?}");
        }
    }

    #[test]
    fn outside_the_windows_nothing_that_runs_is_restarted_for_an_update_that_only_began() {
        assert_eq!(resume(Step::Restarting, seen(true, false, true, false)), Resume::TakeBack);
        // What is down already loses nothing by it.
        assert_eq!(resume(Step::Restarting, seen(false, false, false, false)), Resume::Restart);
        assert_eq!(resume(Step::RollingBack, seen(true, true, false, false)), Resume::RollBack);
    }

    #[test]
    fn an_image_is_pulled_by_the_digest_of_its_repository() {
        for (image, expected) in [
            ("r.example.com:5000/a/web:1", "r.example.com:5000/a/web"),
            ("r.example.com:5000/web", "r.example.com:5000/web"),
            ("localhost/web:x", "localhost/web"),
        ] {
            assert_eq!(repository(image), expected);
        }
    }
}
