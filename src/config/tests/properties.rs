//! What holds for every file: printed settings read back the same, and nothing makes the reader panic.

use std::path::Path;

use proptest::prelude::*;

use super::{settings, shipped};
use crate::config::{parse, to_toml};

/// A line `KEY = VALUE`, or none.
fn line(key: &'static str, value: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    let line = move |value: Option<String>| value.map_or_else(String::new, |value| format!("{key} = {value}\n"));
    proptest::option::of(value).prop_map(line).boxed()
}

fn duration(most: u64) -> impl Strategy<Value = String> {
    (1..most).prop_map(|millis| format!("'{millis}ms'"))
}

fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| toml::Value::String(text.replace('\0', "")).to_string())
}

fn job() -> BoxedStrategy<String> {
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
        .boxed()
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
            proptest::collection::vec("'[a-z_][a-z0-9_.-]{0,9}[$]?'", 0..3)
                .prop_map(|users| format!("[{}]", users.join(","))),
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
        let mut text = shipped::uncommented();
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
