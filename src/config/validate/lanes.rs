//! `[lanes]` and `[purge]`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::checks::Checker;
use crate::config::input::Origin;
use crate::config::keys::{LaneKeys, PurgeKeys};
use crate::config::settings::{BuildStorage, LaneScope, LaneSettings, Profile, PurgeSettings, Share};
use crate::config::values::TimeSpan;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// More often would be a load of its own.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

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

fn origin(key: &str) -> Origin {
    Origin { key: key.to_owned(), span: None }
}
