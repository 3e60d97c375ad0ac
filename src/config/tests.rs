//! The configuration as a whole: the shipped file, what a person is told about wrong files, printing and reading back.

#![allow(clippy::unwrap_used, reason = "a failing test should say where")]

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SHIPPED: &str = include_str!("../../config/windlass.toml");

fn settings(text: &str) -> Settings {
    parse(Path::new("w.toml"), text).unwrap_or_else(|errors| panic!("{errors}\n--- of\n{text}"))
}

fn errors(text: &str) -> ConfigErrors {
    match parse(Path::new("w.toml"), text) {
        Ok(settings) => panic!("no errors in {text:?}: {settings:?}"),
        Err(errors) => errors,
    }
}

/// `KEY LINE` of each problem.
fn problems(text: &str) -> Vec<String> {
    let errors = errors(text);
    let line = |problem: &Problem| problem.span.as_ref().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
    errors.problems().iter().map(|problem| format!("{} {}", problem.key, line(problem))).collect()
}

fn message(text: &str) -> String {
    let errors = errors(text);
    assert_eq!(errors.problems().len(), 1, "{errors}");
    errors.problems()[0].message.clone()
}

/// The shipped file with each commented key and header made a real one; prose has a space behind its `#`.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => format!("{key}\n"),
        _ => format!("{line}\n"),
    };
    SHIPPED.lines().map(line).collect()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let found = settings("");
    assert_eq!(found.run_dir, Path::new("/run/windlass"));
    assert_eq!(found.socket.path, Path::new("/run/windlass/windlass.sock"));
    assert_eq!(found.socket.allowed_users, ["gitlab-runner"]);
    assert_eq!(found.profiles.keys().collect::<Vec<_>>(), ["default"]);
    let profile = &found.profiles["default"];
    assert_eq!((profile.slots, profile.slot_wait), (2, Duration::from_secs(600)));
    assert_eq!((profile.job.memory, profile.job.cpus, profile.job.pids), (None, None, None));
    let separate = UserNamespace::Separate { first: 1_000_000_000, size: 65_536, ranges: 1024 };
    assert_eq!(found.podman.user_namespace, separate);
}

#[test]
fn the_shipped_file_gives_exactly_the_defaults() {
    assert_eq!(settings(SHIPPED), settings(""));
}

#[test]
fn the_shipped_file_documents_every_key_and_stays_valid_with_all_of_them() {
    let text = uncommented();
    settings(&text);
    let document: toml::Table = text.parse().unwrap();
    for (header, keys) in schema::tables() {
        let mut table = &document;
        for name in header.split('.').filter(|name| !name.is_empty()) {
            let name = if name == "NAME" { "big" } else { name };
            table = table.get(name).and_then(toml::Value::as_table).unwrap_or_else(|| panic!("no [{header}]"));
        }
        for key in keys {
            assert!(table.contains_key(*key), "{key} is not in [{header}]");
        }
    }
}

#[test]
fn the_values_that_the_shipped_file_calls_defaults_are_the_defaults() {
    let mut found = settings(&uncommented());
    found.profiles.remove("big").unwrap();
    found.podman.environment.clear();
    found.socket.group = None;
    let job = &mut found.profiles.get_mut("default").unwrap().job;
    (job.default_image, job.memory, job.cpus, job.pids) = (None, None, None, None);
    assert_eq!(found, settings(""));
}

#[test]
fn a_profile_takes_what_it_leaves_out_from_the_top_level() {
    let text = r#"
        slots = 3
        [job]
        memory = "1 GiB"
        grace = "5s"
        [profile.big]
        slot_wait = "1h"
        job.memory = "8 GiB"
    "#;
    let big = &settings(text).profiles["big"];
    assert_eq!((big.slots, big.slot_wait), (3, Duration::from_secs(3600)));
    assert_eq!((big.job.memory, big.job.grace), (Some(8 << 30), Duration::from_secs(5)));
}

#[test]
fn paths_are_taken_in_their_plain_form() {
    let found = settings("run_dir = '/run//x/./y/'");
    assert_eq!(found.run_dir.as_os_str(), "/run/x/y");
    assert_eq!(found.socket.path, Path::new("/run/x/y/windlass.sock"));
}

#[test]
fn errors_of_every_kind_are_reported_in_one_go_and_in_order() {
    let text = "slot = 3\nslot_wait = 10m\nstate_dir = 'x'\n[socket]\nallowed_users = ['a', 3, '', 4]\nmax_connections = 0\n\
                [sockets]\npath = '/x'\n[job]\nexec = init\nmemory = 5\ncpus = 'two'\nmemory = 6\n";
    assert_eq!(
        problems(text),
        [
            "slot 1",
            "slot_wait 2",
            "state_dir 3",
            "socket.allowed_users[1] 5",
            "socket.allowed_users[2] 5",
            "socket.allowed_users[3] 5",
            "socket.max_connections 6",
            "sockets 7",
            "job.exec 10",
            "job.memory 11",
            "job.cpus 12",
            "memory 13",
        ]
    );
}

#[test]
fn an_error_shows_file_line_column_key_and_the_place() {
    let text = "# first\n[job]\n\tgrace = '9m' # long\n";
    assert_eq!(
        errors(text).to_string(),
        "w.toml:3:10: job.grace: must be at most \"5m\", not \"9m\"\n  3 |  grace = '9m' # long\n    |          ^^^^"
    );
}

#[test]
fn places_are_counted_in_characters_also_behind_a_byte_order_mark_and_before_carriage_returns() {
    let shown = errors("\u{feff}slots = 0\r\n'größe' = 1\r\n").to_string();
    assert!(shown.contains("w.toml:1:9: slots:") && shown.contains("  1 | slots = 0\n    |         ^\n"), "{shown}");
    assert!(shown.ends_with("  2 | 'größe' = 1\n    | ^^^^^^^"), "{shown}");
}

#[test]
fn long_lines_and_control_characters_are_shown_tamed() {
    let shown = errors(&format!("[podman]\nenvironment.A = '{}'\nzz\u{1b} = 1\n", "y".repeat(4000))).to_string();
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let shown = errors(&format!("state_dir = '{}'\n", "y".repeat(4000))).to_string();
    assert!(shown.lines().all(|line| line.len() < 200), "{shown}");
    let shown = errors(&format!("podman.environment = {{ A = '{}', B = 3 }}\n", "y".repeat(400))).to_string();
    let (line, caret) = shown.rsplit_once('\n').unwrap();
    assert_eq!(line.lines().last().unwrap().find("3 }"), caret.find('^'), "{shown}");
}

#[test]
fn behind_a_list_that_is_not_closed_nothing_is_guessed() {
    let text = "slots = 0\n[socket]\nallowed_users = ['a',\nmax_connections = 3\n[job]\ngrace = '1s'\n";
    assert_eq!(problems(text), ["syntax 3"]);
    assert!(errors(text).to_string().ends_with("The rest of the file can be checked when this is mended."));
    assert_eq!(problems("[socket\npath = '/x'\nslots = 3\n"), ["syntax 1"]);
    assert_eq!(problems("socket]\nzzz = '/x'\n"), ["syntax 1"]);
}

#[test]
fn mistakes_of_syntax_are_explained() {
    for (text, key, part) in [
        ("slots: 3\n", "syntax", "there is no `=` here"),
        ("slots 3\n", "syntax", "there is no `=` here"),
        ("slots =\n", "slots", "has no value"),
        ("run_dir = /run/x\n", "run_dir", "text must be in quotes: \"/run/x\""),
        ("slot_wait = \u{201c}5m\u{201d}\n", "slot_wait", "text must be in quotes: \"5m\""),
        ("job.network = none\n", "job.network", "text must be in quotes: \"none\""),
        ("slot_wait = '5m\n", "slot_wait", "closing quote is missing"),
        ("slots = 1\nslots = 1\n", "slots", "given twice"),
        ("slots = 010\n", "syntax", "leading zero"),
    ] {
        let errors = errors(text);
        assert_eq!(errors.problems().len(), 1, "{errors}");
        let problem = &errors.problems()[0];
        assert_eq!(problem.key, key, "{errors}");
        assert!(problem.message.contains(part), "{errors}");
    }
}

#[test]
fn impossible_values_are_refused_with_what_would_be_valid() {
    let long = format!("run_dir = '/{}'", "x".repeat(57));
    let long_name = format!("profile.{}.slots = 1", "x".repeat(33));
    let long_socket = format!("socket.path = '/{}'", "x".repeat(107));
    for (text, part) in [
        ("slots = 0", "between 1 and 1024"),
        ("slots = 1025", "between 1 and 1024"),
        ("slots = -1", "not -1"),
        ("slots = 99999999999999999999999999", "between 1 and 1024"),
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
        ("run_dir = 'run'", "absolute"),
        ("run_dir = ''", "empty"),
        ("run_dir = '/'", "root directory"),
        ("run_dir = '/run/../etc'", "\"..\""),
        ("run_dir = \"/run/\\u0000\"", "control characters"),
        ("run_dir = '/var/lib/windlass/'", "must be different"),
        (long.as_str(), "at most 57 bytes, this path has 58: <run_dir>/leases/<32 digits>/init.sock"),
        (long_socket.as_str(), "may have 107 bytes, this one has 108"),
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
        "job.memory = '6 MiB'",
        "job.memory = '6291456B'",
        "job.cpus = 0.01",
        "job.cpus = 2",
        "job.pids = 16",
        "slots = 0x10",
        &run_dir,
        &name,
    ] {
        settings(text);
    }
}

#[test]
fn a_value_of_the_job_is_reported_once_however_many_profiles_inherit_it() {
    assert_eq!(problems("job.cpus = 0\n[profile.a]\n[profile.b]\n"), ["job.cpus 1"]);
}

#[test]
fn a_file_full_of_mistakes_is_reported_in_part() {
    let text: String = (0..5000).map(|number| format!("key{number} = {number}\n")).collect();
    let errors = errors(&text);
    assert_eq!(errors.problems().len(), MAX_PROBLEMS);
    assert!(errors.to_string().ends_with("There are more errors than these."), "{errors}");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("windlass.toml");
    let shown = load(&file).unwrap_err().to_string();
    assert!(shown.contains("no such file") && shown.contains("/usr/share/doc/windlass/windlass.toml"), "{shown}");
    assert!(load(directory.path()).unwrap_err().to_string().contains("can't be read"));
    std::fs::write(&file, b"slots = 3\nrun_dir = '/r\xff'\n").unwrap();
    let shown = load(&file).unwrap_err().to_string();
    assert!(shown.contains(":2:14: syntax: the file is not UTF-8"), "{shown}");
    std::fs::write(&file, "#".repeat(300 << 10)).unwrap();
    assert!(load(&file).unwrap_err().to_string().contains("larger than"), "too large a file");
    std::fs::write(&file, "slots = 3\n").unwrap();
    assert_eq!(load(&file).unwrap().profiles["default"].slots, 3);
}

/// A line `KEY = VALUE`, or none.
fn line(key: &'static str, value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::option::of(value)
        .prop_map(move |value| value.map_or_else(String::new, |value| format!("{key} = {value}\n")))
}

fn duration(most: u64) -> impl Strategy<Value = String> {
    (1..most).prop_map(|millis| format!("'{millis}ms'"))
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| toml::Value::String(text.replace('\0', "")).to_string())
}

fn job() -> impl Strategy<Value = String> {
    let size = (6u64 << 20..1 << 50).prop_map(|bytes| format!("'{bytes} B'"));
    let round_size = (6u64..1 << 20).prop_map(|count| format!("'{count} MiB'"));
    let image = "[a-z0-9./:@_-]{0,40}".prop_map(|rest| format!("'r{rest}'"));
    (
        line("exec", "'(init|podman)'"),
        line("grace", duration(120_000)),
        line("margin", duration(120_000)),
        line("timeout_margin", duration(86_400_000)),
        line("default_image", image),
        line("pull_policy", "'(if-not-present|always|never)'"),
        line("memory", prop_oneof![size, round_size]),
        line("cpus", (0.01f64..4096.0).prop_map(|cpus| format!("{cpus:?}"))),
        line("pids", (16u32..4_194_304).prop_map(|pids| pids.to_string())),
        line("network", "'(private|host|none)'"),
    )
        .prop_map(|(a, b, c, d, e, f, g, h, i, j)| [a, b, c, d, e, f, g, h, i, j].concat())
}

fn file() -> impl Strategy<Value = String> {
    let path = || "(/[a-zA-Z0-9_. -]{0,3}[a-z]){1,8}/?".prop_map(|path| format!("'{path}'"));
    let top = (
        line("run_dir", path()),
        line("state_dir", path().prop_map(|path| path.replacen('/', "/state/", 1))),
        line("slots", (1u32..20).prop_map(|slots| slots.to_string())),
        line("slot_wait", duration(86_400_000)),
    );
    let socket = (
        line("path", path().prop_map(|path| path.replace("/'", "'"))),
        line(
            "allowed_users",
            proptest::collection::vec("'[a-z_.-]{0,9}[$]?x'", 0..3).prop_map(|users| {
                let users: Vec<String> = users.iter().map(|user| user.replace("'-", "'")).collect();
                format!("[{}]", users.join(","))
            }),
        ),
        line("max_connections", (200u32..65_536).prop_map(|count| count.to_string())),
    );
    let environment = proptest::collection::btree_map("X[A-Z_0-9]{0,8}", text(), 0..3)
        .prop_map(|map| map.iter().map(|(name, value)| format!("environment.{name} = {value}\n")).collect::<String>());
    let podman = (
        line("command", prop_oneof![path(), "'[a-z]{1,9}'"]),
        prop_oneof![
            Just("user_namespace = 'host'\n".to_owned()),
            line("user_namespace_ranges", (200u32..1024).prop_map(|count| count.to_string()))
        ],
        environment,
    );
    let profiles = proptest::collection::btree_map("[a-z0-9][a-z0-9-]{0,8}", (1u32..20, job()), 0..4).prop_map(|map| {
        let one = |(name, (slots, job))| format!("[profile.{name}]\nslots = {slots}\n[profile.{name}.job]\n{job}");
        map.into_iter().filter(|(name, _)| name != "default").map(one).collect::<String>()
    });
    (top, socket, podman, job(), profiles).prop_map(|(top, socket, podman, job, profiles)| {
        let top = [top.0, top.1, top.2, top.3].concat();
        let socket = [socket.0, socket.1, socket.2].concat();
        let podman = [podman.0, podman.1, podman.2].concat();
        format!("{top}[socket]\n{socket}[podman]\n{podman}[job]\n{job}{profiles}")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_settings_read_back_the_same(text in file()) {
        let found = settings(&text);
        let printed = to_toml(&found).unwrap();
        prop_assert_eq!(&settings(&printed), &found, "{}", printed);
    }

    /// Whatever is done to the shipped file, there are settings or errors that can be shown, never a panic.
    #[test]
    fn a_damaged_file_never_panics(at in any::<prop::sample::Index>(), cut in 0usize..40, junk in any::<String>()) {
        let mut text = uncommented();
        let start = text.floor_char_boundary(at.index(text.len()));
        let end = text.floor_char_boundary((start + cut).min(text.len()));
        text.replace_range(start..end, &junk);
        if let Err(errors) = parse(Path::new("w.toml"), &text) {
            prop_assert!(!errors.problems().is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn any_text_never_panics(text in "[\\[\\]{}=.,'\"#a-z0-9\n\r\t é-]{0,200}") {
        if let Err(errors) = parse(Path::new("w.toml"), &text) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }
}
