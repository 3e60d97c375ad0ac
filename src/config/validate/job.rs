//! From a merged `[job]` table, or a profile's, to settings.

use std::time::Duration;

use super::{DAY, more};
use crate::config::checks::Checker;
use crate::config::input::{Given, JobInput};
use crate::config::keys::PolicyKeys;
use crate::config::settings::{ImageSettings, JobSettings, NetworkSettings, Resources};
use crate::config::values::{Number, Size, TimeSpan};

/// gitlab-runner waits this long for a canceled job's stage, then starts the cleanup beside it.
const STAGE_END_MAX: Duration = Duration::from_secs(5 * 60);

/// runc refuses less.
const MEMORY_MIN: u64 = 6 << 20;
const MEMORY_MAX: u64 = 1 << 50;

/// The kernel's CPU quota is at least 1 ms in 100 ms.
const CPUS_MIN: f64 = 0.01;
const CPUS_MAX: f64 = 4096.0;

/// The init, a shell and a few commands.
const PIDS_MIN: u32 = 16;
/// The kernel's own limit, PID_MAX_LIMIT.
const PIDS_MAX: u32 = 4_194_304;

/// Checks the table.
pub(super) fn job(check: &mut Checker, given: &JobInput, policy: &[PolicyKeys]) -> JobSettings {
    let keys = &*given.keys;
    let settings = JobSettings {
        exec: given.exec.value.0,
        grace: check.duration(&given.grace, STAGE_END_MAX),
        margin: check.duration(&given.margin, STAGE_END_MAX),
        timeout_margin: check.duration(&given.timeout_margin, DAY),
        user: more::text(keys.user.as_ref()),
        images: ImageSettings {
            default_image: given.default_image.as_ref().map(|image| check.name(image, "an image")),
            pull_policy: given.pull_policy.value.0.iter().map(|word| word.0).collect(),
            ..more::images(keys)
        },
        resources: Resources {
            memory: given.memory.as_ref().map(|size| memory(check, size)),
            cpus: given.cpus.as_ref().map(|number| cpus(check, number)),
            pids: given.pids.as_ref().map(|number| {
                check.whole(number, PIDS_MIN, PIDS_MAX, "; the init, a shell and its commands need some")
            }),
            ..more::resources(keys)
        },
        network: NetworkSettings { mode: given.network.value.0, ..more::network(keys) },
        maximum: more::maximum(&keys.maximum),
        isolation: more::isolation(keys),
        services: more::services(keys),
        helper: more::helper(&keys.helper),
        builds: more::builds(keys),
        environment: more::map(keys.environment.as_ref()),
        ca_file: keys.ca_file.as_ref().map(|path| path.0.clone().into()),
        policy: more::policy(keys, policy),
    };
    more::together(check, given, &settings);
    let (grace, margin) = (&given.grace, &given.margin);
    if check.sound(&[&grace.origin, &margin.origin]) && settings.grace + settings.margin >= STAGE_END_MAX {
        // The profile's own key rather than the one it inherits, else the larger one.
        let weight =
            |key: &Given<TimeSpan>| (key.origin.key.starts_with("profile."), key.origin.span.is_some(), key.value.0);
        let origin = if weight(margin) > weight(grace) { &margin.origin } else { &grace.origin };
        let message = format!(
            "grace and margin together ({} + {}) must be below {}: gitlab-runner waits no longer for a canceled job's \
             stage before it starts the cleanup",
            grace.value,
            margin.value,
            TimeSpan(STAGE_END_MAX)
        );
        check.wrong(origin, message);
    }
    settings
}

fn memory(check: &mut Checker, given: &Given<Size>) -> u64 {
    check.size(given, MEMORY_MIN, MEMORY_MAX, "; podman's runtime starts no container with less")
}

fn cpus(check: &mut Checker, given: &Given<Number>) -> f64 {
    let Number(value) = given.value;
    if !(CPUS_MIN..=CPUS_MAX).contains(&value) {
        check.wrong(&given.origin, format!("must be between {CPUS_MIN} and {CPUS_MAX} CPUs, not {value}"));
    }
    value
}
