//! Which values are valid, and what is said about those that are not.

use std::time::Duration;

use super::{errors, settings};
use crate::config::values::TimeSpan;

fn message(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.problems().len(), 1, "{errors}");
    errors.problems()[0].message.clone()
}

#[test]
fn impossible_values_are_refused_with_what_would_be_valid() {
    let long = format!("run_dir = '/{}'", "x".repeat(57));
    let long_name = format!("profile.{}.slots = 1", "x".repeat(33));
    let long_socket = format!("socket.path = '/{}'", "x".repeat(103));
    for (text, part) in [
        ("slots = 0", "there is nothing to do"),
        ("slots = 1025", "between 0 and 1024"),
        ("slots = -1", "not -1"),
        ("slots = 99999999999999999999999999", "between 0 and 1024"),
        ("slots = 9999999999999999999999999999999999999999999999", "too large"),
        ("slots = '2'", "without quotes"),
        ("slots = 2.5", "whole number"),
        ("slot_wait = '0s'", "longer than nothing"),
        ("slot_wait = '10ns'", "longer than nothing"),
        ("slot_wait = 10", "needs a unit"),
        ("slot_wait = '10'", "it has no unit"),
        ("slot_wait = '10 minuets'", "there is no unit \"minuets\""),
        ("slot_wait = '10M'", "at most \"1day\", not \"10months\""),
        ("slot_wait = ''", "is not a duration"),
        ("history.keep = '59s'", "between \"1m\""),
        ("history.max_jobs = 0", "between 1 and"),
        ("metrics.listen = '0.0.0.0:9464'", "allow_remote = true"),
        ("metrics.listen = 'localhost'", "no address"),
        ("metrics.group = ''", "no group"),
        ("run_dir = 'run'", "absolute"),
        ("run_dir = ''", "empty"),
        ("run_dir = '/'", "root directory"),
        ("run_dir = '/run/../etc'", "\"..\""),
        ("run_dir = \"/run/\\u0000\"", "control characters"),
        ("run_dir = '/var/lib/windlass/'", "must be different"),
        (long.as_str(), "at most 57 bytes, this path has 58: <run_dir>/leases/<32 digits>/init.sock"),
        (long_socket.as_str(), "at most 103 bytes, this path has 104"),
        ("socket.path = '/run/x/'", "not of a directory"),
        ("socket.allowed_users = 'a'", "a list"),
        ("socket.allowed_users = ['a b']", "white space"),
        ("socket.group = ''", "empty"),
        ("socket.max_connections = 2", "at least 3"),
        ("slots = 300", "at least 301"),
        ("socket.daemon_wait = '2h'", "at most \"1h\""),
        ("podman.command = 'bin/podman'", "absolute"),
        ("podman.init = '/a,b'", "can't mount"),
        ("podman.environment = 'A=b'", "[podman.environment]"),
        ("podman.environment.A = 1", "text in quotes"),
        ("podman.environment.1A = '1'", "not a variable's name"),
        ("podman.environment.TMPDIR = '/x'", "must not be set"),
        ("podman.environment.NOTIFY_SOCKET = '/x'", "must not be set"),
        ("podman.environment.LISTEN_PID = '1'", "must not be set"),
        ("podman.environment.A = \"\\u0000\"", "NUL"),
        ("podman.user_namespace = 'auto'", "\"separate\" or \"host\""),
        ("podman.user_namespace_first = 65535", "between 65536 and 4294967294"),
        ("podman.user_namespace_size = 65535", "between 65536"),
        ("podman.user_namespace_ranges = 0", "between 1"),
        ("podman.user_namespace_ranges = 1", "at least 2"),
        ("podman.user_namespace_ranges = 50278", "at most 50277 such ranges fit"),
        ("podman.user_namespace_first = 4294967294", "at most 0 such ranges fit"),
        ("podman.user_namespace = 'host'\npodman.user_namespace_size = 65536", "no effect"),
        ("job.exec = 'pod-man'", "did you mean \"podman\"?"),
        ("job.grace = '5m'", "below 5m"),
        ("job.margin = '4m 50s'", "grace and margin together (10s + 4m 50s)"),
        ("job.grace = '4m'\nprofile.a.job.margin = '1m'", "grace and margin together (4m + 1m)"),
        ("job.memory = '5 MiB'", "between \"6 MiB\" and"),
        ("job.memory = '4'", "is not a size"),
        ("job.memory = '-4 GiB'", "is not a size"),
        ("job.memory = '4 GiBi'", "is not a size"),
        ("job.memory = 4", "needs a unit"),
        ("job.cpus = 0", "between 0.01"),
        ("job.cpus = nan", "between 0.01"),
        ("job.cpus = inf", "between 0.01"),
        ("job.cpus = '2'", "without quotes"),
        ("job.pids = 15", "between 16"),
        ("job.default_image = ''", "empty"),
        ("job.default_image = 'a b'", "white space"),
        ("job.default_image = '--privileged'", "begins with \"-\""),
        ("profile.default.slots = 3", "is the top level"),
        ("profile.Big.slots = 3", "lower-case"),
        ("profile.-a.slots = 3", "lower-case"),
        (long_name.as_str(), "at most 32"),
        ("profile.slots = 3", "a profile needs a name"),
        ("[[job]]", "there can be only one"),
        ("job = []", "there can be only one"),
        ("job = 3", "write the header [job]"),
        ("memory = '4 GiB'", "it belongs in [job]"),
        ("timeout_margin = '4s'", "it belongs in [job]"),
        ("profiles.a.slots = 3", "did you mean \"profile\"?"),
    ] {
        let message = message(text);
        assert!(message.contains(part), "{text}\n{message}");
    }
}

#[test]
fn values_at_the_bounds_are_valid() {
    let run_dir = format!("run_dir = '/{}'", "x".repeat(56));
    let socket = format!("socket.path = '/{}'", "x".repeat(102));
    let name = format!("profile.{}.slots = 1", "x".repeat(32));
    for text in [
        "slots = 1",
        "slots = 1024\nsocket.max_connections = 1025",
        "slot_wait = '1ms'",
        "slot_wait = '24h'",
        "socket.allowed_users = []",
        "podman.command = '/usr/bin/podman'",
        "podman.user_namespace_ranges = 50276",
        "podman.user_namespace = 'host'",
        "job.grace = '4m'\njob.margin = '59s'",
        "metrics.listen = '127.0.0.1:9464'",
        "metrics.listen = '[::1]:9464'",
        "metrics.listen = '0.0.0.0:9464'\nmetrics.allow_remote = true",
        "history.keep = '1m'\nhistory.max_jobs = 1",
        "job.memory = '6 MiB'",
        "job.memory = '6291456B'",
        "job.cpus = 0.01",
        "job.cpus = 2",
        "job.pids = 16",
        "slots = 0x10",
        &run_dir,
        &socket,
        &name,
    ] {
        settings(text);
    }
}

#[test]
fn a_time_is_shown_as_people_write_it() {
    let shown = |seconds: u64| TimeSpan(Duration::from_secs(seconds)).to_string();
    let day = 24 * 60 * 60;
    let times = [shown(90 * day), shown(2 * day), shown(day), shown(90 * 60), shown(day + 60)];
    assert_eq!(times, ["90days", "2days", "1day", "1h 30m", "1day 1m"]);
}
