//! The settings in effect, written as a configuration file that would give the same settings again.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;

use super::DEFAULT_PROFILE;
use super::fragment::{Field, Fragment, PodmanFragment, ProfileFragment, SocketFragment};
use super::keys::{HoldKeys, LaneKeys, PurgeKeys};
use super::settings::{PodmanSettings, PurgeSettings, Settings, SocketSettings, UserNamespace};
use super::shares::{FreeBytes, FreeInodes};
use super::texts::{Bounded, Text};
use super::values::{Size, TimeSpan, Whole};
use super::words::{NamespaceMode, Word};

mod chain;
mod job;
mod page;
mod records;

/// The settings as TOML. Keys without a value (`memory` without a limit, for example) are not in it.
///
/// # Errors
/// A path that is not UTF-8; settings that were read from a file have none.
pub fn to_toml(settings: &Settings) -> Result<String, toml::ser::Error> {
    toml::to_string(&fragment(settings)?)
}

fn fragment(settings: &Settings) -> Result<Fragment, toml::ser::Error> {
    let default = settings.profiles.get(DEFAULT_PROFILE);
    let others = settings.profiles.iter().filter(|(name, _)| *name != DEFAULT_PROFILE);
    let profile = others.map(|(name, profile)| {
        let fragment = ProfileFragment {
            slots: whole(profile.slots),
            slot_wait: field(TimeSpan(profile.slot_wait)),
            job: job::keys(&profile.job),
        };
        (place(name.clone()), fragment)
    });
    Ok(Fragment {
        run_dir: path(&settings.run_dir)?,
        state_dir: path(&settings.state_dir)?,
        slots: default.and_then(|profile| whole(profile.slots)),
        slot_wait: default.and_then(|profile| field(TimeSpan(profile.slot_wait))),
        socket: socket(&settings.socket)?,
        podman: podman(&settings.podman)?,
        gitlab: chain::gitlab(&settings.gitlab),
        chain: chain::chain(&settings.chain),
        webhook: chain::webhook(&settings.webhook),
        feed: chain::feed(&settings.feed),
        page: page::page(&settings.page),
        lanes: LaneKeys { scope: Some(Word(settings.lanes.scope)) },
        purge: purge(&settings.purge),
        hold: HoldKeys {
            max_time: Some(TimeSpan(settings.hold.max_time)),
            max_held: Some(Bounded(settings.hold.max_held)),
        },
        history: records::history(&settings.history),
        metrics: records::metrics(&settings.metrics),
        job: default.map(|profile| job::keys(&profile.job)).unwrap_or_default(),
        policy: job::policy(settings),
        profile: profile.collect(),
    })
}

fn socket(settings: &SocketSettings) -> Result<SocketFragment, toml::ser::Error> {
    Ok(SocketFragment {
        path: path(&settings.path)?,
        allowed_users: Some(settings.allowed_users.iter().cloned().map(place).collect()),
        group: settings.group.clone().map(place),
        max_connections: i128::try_from(settings.max_connections).ok().map(|count| place(Whole(count))),
        daemon_wait: field(TimeSpan(settings.daemon_wait)),
    })
}

fn purge(settings: &PurgeSettings) -> PurgeKeys {
    PurgeKeys {
        interval: Some(TimeSpan(settings.interval)),
        max_age: Some(TimeSpan(settings.max_age)),
        max_size: settings.max_size.map(Size),
        project_max_size: settings.project_max_size.map(Size),
        min_free: Some(FreeBytes(settings.min_free)),
        min_free_inodes: Some(FreeInodes(settings.min_free_inodes)),
        image_max_age: Some(TimeSpan(settings.image_max_age)),
        pinned_images: Some(settings.pinned_images.iter().map(Text::of).collect()),
    }
}

fn podman(settings: &PodmanSettings) -> Result<PodmanFragment, toml::ser::Error> {
    let pair = |(name, value): (&String, &String)| (place(name.clone()), place(value.clone()));
    let (mode, ids) = match settings.user_namespace {
        UserNamespace::Separate { first, size, ranges } => (NamespaceMode::Separate, Some((first, size, ranges))),
        UserNamespace::Host => (NamespaceMode::Host, None),
    };
    Ok(PodmanFragment {
        command: path(&settings.command)?,
        init: path(&settings.init)?,
        timeout: field(TimeSpan(settings.timeout)),
        pull_timeout: field(TimeSpan(settings.pull_timeout)),
        user_namespace: field(Word(mode)),
        user_namespace_first: ids.and_then(|(first, _, _)| whole(first)),
        user_namespace_size: ids.and_then(|(_, size, _)| whole(size)),
        user_namespace_ranges: ids.and_then(|(_, _, ranges)| whole(ranges)),
        environment: settings.environment.iter().map(pair).collect::<BTreeMap<_, _>>(),
    })
}

fn path(path: &Path) -> Result<Field<String>, toml::ser::Error> {
    let text = path
        .to_str()
        .ok_or_else(|| <toml::ser::Error as serde::ser::Error>::custom(format!("{path:?} is not UTF-8")))?;
    Ok(field(text.to_owned()))
}

fn whole(number: u32) -> Field<Whole> {
    field(Whole(number.into()))
}

#[allow(clippy::unnecessary_wraps, reason = "what a fragment's field takes")]
fn field<T>(value: T) -> Field<T> {
    Some(place(value))
}

/// Nothing that is written has a place in a file yet.
fn place<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
