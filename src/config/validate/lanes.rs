//! `[lanes]`, `[purge]` and `[hold]`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::checks::Checker;
use crate::config::input::Origin;
use crate::config::keys::{HoldKeys, LaneKeys, PurgeKeys};
use crate::config::settings::{BuildStorage, HoldSettings, LaneScope, LaneSettings, Profile, PurgeSettings, Share};
use crate::config::values::TimeSpan;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// More often would be a load of its own.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Whoever wants to look at a failed job for longer has forgotten it.
const HOLD_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shorter holds would be over before anybody is there.
const HOLD_MIN: Duration = Duration::from_secs(60);

pub(super) fn lanes(check: &mut Checker, given: &LaneKeys, profiles: &BTreeMap<String, Profile>) -> LaneSettings {
    let scope = given.scope.map_or(LaneScope::Project, |word| word.0);
    let kept = profiles.iter().find(|(_, profile)| profile.job.builds.storage == BuildStorage::Project);
    if let (LaneScope::None, Some((name, _))) = (scope, kept) {
        let message = format!(
            "is \"none\", so that nothing is kept, but build_storage of profile {name} is \"project\"; one of them has to change"
        );
        check.wrong(&origin("lanes.scope"), message);
    }
    LaneSettings { scope }
}

pub(super) fn purge(check: &mut Checker, given: &PurgeKeys) -> PurgeSettings {
    let span = |given: &Option<TimeSpan>, default: Duration| given.as_ref().map_or(default, |given| given.0);
    let interval = span(&given.interval, DAY / 24);
    if interval < INTERVAL_MIN || interval > DAY {
        let message = format!("must be between \"1s\" and \"1day\", not \"{}\"", TimeSpan(interval));
        check.wrong(&origin("purge.interval"), message);
    }
    PurgeSettings {
        interval,
        max_age: span(&given.max_age, DAY * 30),
        max_size: given.max_size.map(|size| size.0),
        project_max_size: given.project_max_size.map(|size| size.0),
        min_free: given.min_free.map_or(Share::PerMyriad(1000), |share| share.0),
        min_free_inodes: given.min_free_inodes.map_or(Share::PerMyriad(500), |share| share.0),
        image_max_age: span(&given.image_max_age, DAY * 30),
        pinned_images: given.pinned_images.iter().flatten().map(|pattern| pattern.0.clone()).collect(),
    }
}

pub(super) fn hold(check: &mut Checker, given: &HoldKeys) -> HoldSettings {
    let max_time = given.max_time.as_ref().map_or(DAY / 3, |given| given.0);
    if !(HOLD_MIN..=HOLD_MAX).contains(&max_time) {
        let message = format!("must be between \"1min\" and \"7days\", not \"{}\"", TimeSpan(max_time));
        check.wrong(&origin("hold.max_time"), message);
    }
    HoldSettings { max_time, max_held: given.max_held.as_ref().map_or(2, |count| count.0) }
}

fn origin(key: &str) -> Origin {
    Origin { key: key.to_owned(), span: None }
}
