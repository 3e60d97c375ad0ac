//! From the merged `[podman]` table to settings: the program, its environment, the user namespaces' ids.

use super::{DAY, HOUR};
use crate::config::checks::Checker;
use crate::config::input::{Given, PodmanInput};
use crate::config::settings::{PodmanSettings, UserNamespace};
use crate::config::words::NamespaceMode;

/// Below are the host's own users, and the range that systemd gives to dynamic ones.
const NAMESPACE_FIRST_MIN: u32 = 65_536;
/// Fewer ids and images have files that belong to nobody.
const NAMESPACE_SIZE_MIN: u32 = 65_536;
/// The last id there is: 2^32 - 1 means "none".
const LAST_ID: u32 = u32::MAX - 1;

/// Checks the table.
pub(super) fn podman(check: &mut Checker, given: &PodmanInput) -> PodmanSettings {
    let command = if given.command.value.contains('/') {
        check.path(&given.command)
    } else {
        check.name(&given.command, "a program's name").into()
    };
    let init = check.path(&given.init);
    if given.init.value.contains([':', ',']) {
        check.wrong(&given.init.origin, "must not contain \":\" or \",\": podman can't mount such a path");
    }
    PodmanSettings {
        command,
        init,
        environment: given.environment.iter().map(|(name, value)| variable(check, name, value)).collect(),
        timeout: check.duration(&given.timeout, HOUR),
        pull_timeout: check.duration(&given.pull_timeout, DAY),
        user_namespace: user_namespace(check, given),
    }
}

fn variable(check: &mut Checker, name: &Given<String>, value: &Given<String>) -> (String, String) {
    let text = name.value.as_str();
    let valid = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        check.wrong(&name.origin, "is not a variable's name: valid are letters, digits and \"_\", not a digit first");
    } else if text == "NOTIFY_SOCKET" {
        check.wrong(&name.origin, "must not be set: podman would report to systemd in the daemon's place");
    } else if text.starts_with("LISTEN_") {
        check.wrong(&name.origin, "must not be set: LISTEN_* is how the daemon hands sockets to podman");
    } else if text == "TMPDIR" {
        check.wrong(
            &name.origin,
            "must not be set: podman keeps its state there when nothing else says where, and loses it with the \
             directory; for large pulls set image_copy_tmp_dir in containers.conf",
        );
    } else if value.value.contains('\0') {
        check.wrong(&value.origin, "must not contain a NUL character");
    }
    (name.value.clone(), value.value.clone())
}

fn user_namespace(check: &mut Checker, given: &PodmanInput) -> UserNamespace {
    let (first, size, ranges) = (&given.user_namespace_first, &given.user_namespace_size, &given.user_namespace_ranges);
    if given.user_namespace.value.0 == NamespaceMode::Host {
        for unused in [first, size, ranges].into_iter().filter(|key| key.origin.span.is_some()) {
            check.wrong(&unused.origin, "has no effect with user_namespace = \"host\"; take one of the two away");
        }
        return UserNamespace::Host;
    }
    let id_range = "; below are ids of the host's own users";
    let checked_first = check.whole(first, NAMESPACE_FIRST_MIN, LAST_ID, id_range);
    let checked_size = check.whole(size, NAMESPACE_SIZE_MIN, LAST_ID, "; images need ids up to 65535");
    let checked_ranges = check.whole(ranges, 1, u32::MAX, "");
    let last = u64::from(checked_first) + u64::from(checked_size).saturating_mul(u64::from(checked_ranges)) - 1;
    if check.sound(&[&first.origin, &size.origin, &ranges.origin]) && last > u64::from(LAST_ID) {
        let most = (u64::from(LAST_ID) + 1 - u64::from(checked_first)) / u64::from(checked_size);
        let origin = [ranges, size, first].into_iter().find(|key| key.origin.span.is_some()).unwrap_or(ranges);
        let message = format!(
            "{checked_ranges} ranges of {checked_size} ids from {checked_first} on end at {last}, behind the last id \
             there is, {LAST_ID}; at most {most} such ranges fit"
        );
        check.wrong(&origin.origin, message);
    }
    UserNamespace::Separate { first: checked_first, size: checked_size, ranges: checked_ranges }
}
