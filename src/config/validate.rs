//! From the merged input to settings: what every key has to satisfy, and what keys have to satisfy together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DEFAULT_PROFILE;
use super::checks::{Checker, SOCKET_PATH_MAX};
use super::errors::Problem;
use super::input::{Given, Input, Origin, ProfileInput, SocketInput};
use super::keys::PolicyKeys;
use super::settings::{Profile, Settings, SocketSettings};
use super::values::Whole;
use super::words::NamespaceMode;

mod chain;
mod job;
mod lanes;
mod more;
mod page;
mod podman;
mod records;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const SLOTS_MAX: u32 = 1024;
const CONNECTIONS_MAX: usize = 65_536;

const PROFILE_NAME_MAX: usize = 32;

/// Checks everything. `problems` are what reading has found: their values are missing from the input, and no second
/// problem is made of that.
pub(super) fn validate(input: &Input, problems: Vec<Problem>) -> Result<Settings, Vec<Problem>> {
    let mut checker = Checker::new(problems);
    let check = &mut checker;
    let run_dir = run_dir(check, &input.run_dir);
    let state_dir = check.path(&input.state_dir);
    if check.sound(&[&input.run_dir.origin, &input.state_dir.origin]) && run_dir == state_dir {
        let origin = named(&input.state_dir.origin, &input.run_dir.origin);
        check.wrong(origin, "run_dir and state_dir must be different: one is lost at a reboot, the other is not");
    }
    let mut profiles = BTreeMap::from([(DEFAULT_PROFILE.to_owned(), profile(check, &input.default, &input.policy))]);
    for given in &input.profiles {
        let checked = profile(check, given, &input.policy);
        if let Some(name) = profile_name(check, &given.name) {
            profiles.insert(name, checked);
        }
    }
    let gitlab = chain::gitlab(check, &input.gitlab);
    let chain = chain::chain(check, &input.chain, &gitlab);
    let settings = Settings {
        socket: socket(check, &input.socket, &run_dir),
        podman: podman::podman(check, &input.podman),
        webhook: chain::webhook(&input.webhook),
        feed: chain::feed(check, &input.feed, &chain),
        page: page::page(check, &input.page, &run_dir),
        gitlab,
        chain,
        lanes: lanes::lanes(check, &input.lanes, &profiles),
        purge: lanes::purge(check, &input.purge),
        hold: lanes::hold(check, &input.hold),
        history: records::history(check, &input.history),
        metrics: records::metrics(check, &input.metrics),
        run_dir,
        state_dir,
        profiles,
    };
    for (index, rule) in input.policy.iter().enumerate() {
        let origin = Origin { key: format!("policy[{index}].projects"), span: None };
        if rule.projects.is_none() && check.sound(&[&origin]) {
            check.wrong(&origin, "is missing: a rule is for projects whose paths fit these patterns");
        }
    }
    enough_for_all_slots(check, input);
    if check.sound(&[&input.default.slots.origin]) && !settings.runs_jobs() && !settings.chain.is_on() {
        let message = "is 0, so that no jobs run, and [chain] names no groups and no projects: there is nothing to do";
        check.wrong(&input.default.slots.origin, message);
    }
    if checker.problems.is_empty() { Ok(settings) } else { Err(checker.problems) }
}

fn run_dir(check: &mut Checker, given: &Given<String>) -> PathBuf {
    let path = check.path(given);
    // What the longest path below it adds, /leases/<id>/init.sock, with a lease id's 32 hexadecimal digits.
    let suffix = Path::new("/leases").join("0".repeat(32)).join("init.sock").as_os_str().len();
    let (length, most) = (path.as_os_str().len(), SOCKET_PATH_MAX - suffix);
    if length > most {
        let message = format!(
            "must have at most {most} bytes, this path has {length}: <run_dir>/leases/<32 digits>/init.sock has to fit \
             into the {SOCKET_PATH_MAX} bytes of a Unix socket's path"
        );
        check.wrong(&given.origin, message);
    }
    path
}

fn socket(check: &mut Checker, given: &SocketInput, run_dir: &Path) -> SocketSettings {
    SocketSettings {
        path: match &given.path {
            Some(path) => check.socket_path(path),
            None => run_dir.join("windlass.sock"),
        },
        allowed_users: given.allowed_users.iter().map(|user| check.name(user, "a user's name")).collect(),
        group: given.group.as_ref().map(|group| check.name(group, "a group's name")),
        max_connections: check.whole(&given.max_connections, 1, CONNECTIONS_MAX, ""),
        daemon_wait: check.duration(&given.daemon_wait, HOUR),
    }
}

fn profile_name(check: &mut Checker, given: &Given<String>) -> Option<String> {
    let name = given.value.as_str();
    let valid = name.len() <= PROFILE_NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if name == DEFAULT_PROFILE {
        let message = "the profile \"default\" is the top level: set slots and slot_wait above the first [table], and \
                       its job's keys in [job]";
        check.wrong(&given.origin, message);
    } else if !valid {
        let message = format!(
            "{name:?} can't be a profile's name: valid are lower-case letters, digits and \"-\", not \"-\" first, at \
             most {PROFILE_NAME_MAX}"
        );
        check.wrong(&given.origin, message);
    } else {
        return Some(given.value.clone());
    }
    None
}

fn profile(check: &mut Checker, given: &ProfileInput, policy: &[PolicyKeys]) -> Profile {
    Profile {
        slots: check.whole(&given.slots, 0, SLOTS_MAX, ""),
        slot_wait: check.duration(&given.slot_wait, DAY),
        job: job::job(check, &given.job, policy),
    }
}

/// Every running stage keeps its connection, and every job in a user namespace of its own needs a range.
fn enough_for_all_slots(check: &mut Checker, input: &Input) {
    let slots: Vec<&Given<Whole>> =
        [&input.default].into_iter().chain(&input.profiles).map(|profile| &profile.slots).collect();
    let all: Vec<&Origin> = slots.iter().map(|slots| &slots.origin).collect();
    if !check.sound(&all) {
        return;
    }
    let total: i128 = slots.iter().map(|slots| slots.value.0).sum();
    let most = slots.iter().filter(|slots| slots.origin.span.is_some()).max_by_key(|slots| slots.value.0);
    let connections = &input.socket.max_connections;
    if check.sound(&[&connections.origin]) && connections.value.0 <= total {
        let origin = named(&connections.origin, most.map_or(&connections.origin, |slots| &slots.origin));
        let message = format!(
            "there are {total} slots in all but socket.max_connections is {}: each running stage keeps one connection, \
             and cleanups and `windlass status` need some more; it must be at least {}",
            connections.value.0,
            total + 1
        );
        check.wrong(origin, message);
    }
    let (mode, ranges) = (&input.podman.user_namespace, &input.podman.user_namespace_ranges);
    let separate = mode.value.0 == NamespaceMode::Separate;
    if separate && check.sound(&[&mode.origin, &ranges.origin]) && ranges.value.0 < total {
        let origin = named(&ranges.origin, most.map_or(&ranges.origin, |slots| &slots.origin));
        let message = format!(
            "there are {total} slots in all but podman.user_namespace_ranges is {}: each job that runs may need one of \
             its own; it must be at least {total}",
            ranges.value.0
        );
        check.wrong(origin, message);
    }
}

/// The origin that the file has; the first if both.
fn named<'a>(one: &'a Origin, other: &'a Origin) -> &'a Origin {
    if one.span.is_some() { one } else { other }
}
