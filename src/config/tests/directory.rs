//! A configuration in several files.

use std::path::Path;
use std::time::Duration;

use crate::config::{ConfigErrors, Settings, drop_ins, load};

/// Reads a main file and these beside it, by their names.
fn read(main: &str, beside: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), main, beside);
    load(&directory.path().join("w.toml"))
}

fn write(directory: &Path, main: &str, beside: &[(&str, &str)]) {
    std::fs::write(directory.join("w.toml"), main).unwrap();
    std::fs::create_dir(directory.join("conf.d")).unwrap();
    for (name, text) in beside {
        std::fs::write(directory.join("conf.d").join(name), text).unwrap();
    }
}

/// What a person is told, with the directory's own name taken away.
fn told(main: &str, beside: &[(&str, &str)]) -> String {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), main, beside);
    let errors = load(&directory.path().join("w.toml")).expect_err("wrong").to_string();
    errors.replace(&format!("{}/", directory.path().display()), "")
}

#[test]
fn a_later_files_key_replaces_an_earlier_ones_and_nothing_else() {
    let main = "slots = 3\n[job]\ngrace = '5s'\nallowed_images = ['a', 'b']\nenvironment = { A = '1', B = '1' }\n";
    let found = read(
        main,
        &[
            ("20-late.toml", "slots = 5\n[job.environment]\nB = '3'\n"),
            ("10-early.toml", "slots = 4\nslot_wait = '1h'\n[job]\nallowed_images = ['c']\nenvironment.B = '2'\n"),
        ],
    )
    .unwrap();
    let default = &found.profiles["default"];
    assert_eq!((default.slots, default.slot_wait), (5, Duration::from_secs(3600)));
    assert_eq!(default.job.grace, Duration::from_secs(5));
    assert_eq!(default.job.environment["A"], "1");
    assert_eq!(default.job.environment["B"], "3");
    assert_eq!(default.job.policy.last().unwrap().allowed_images.as_deref(), Some(&["c".to_owned()][..]));
}

#[test]
fn a_profile_of_its_own_file_inherits_from_all_of_the_top_level() {
    let found = read("", &[("big.toml", "[profile.big]\nslots = 7\n"), ("wait.toml", "slot_wait = '1m'\n")]).unwrap();
    let big = &found.profiles["big"];
    assert_eq!((big.slots, big.slot_wait), (7, Duration::from_secs(60)));
}

#[test]
fn only_files_that_end_in_toml_and_are_no_editors_count() {
    read("", &[("README", "nonsense"), ("a.toml~", "nonsense"), (".#a.toml", "nonsense"), ("b.toml", "")]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "", &[("b.toml", ""), ("a.toml", ""), ("c.conf", "")]);
    let names: Vec<_> = drop_ins(&directory.path().join("w.toml")).unwrap();
    assert_eq!(names, ["a.toml", "b.toml"].map(|name| directory.path().join("conf.d").join(name)));
}

#[test]
fn every_error_names_its_own_file_line_and_key() {
    let shown = told(
        "slots = -1\n",
        &[("1.toml", "# x\nslot = 3\n[job]\ngrace = 5\n"), ("2.toml", "\n\n[job]\nmargin = '9m'\n")],
    );
    assert_eq!(
        shown,
        "w.toml:1:9: slots: must be between 0 and 1024, not -1\n  1 | slots = -1\n    |         ^^\n\
         conf.d/1.toml:2:1: slot: there is no such key; did you mean \"slots\"?\n  2 | slot = 3\n    | ^^^^\n\
         conf.d/1.toml:4:9: job.grace: a duration needs a unit and quotes, such as \"10s\", \"5m\" or \"1h 30m\", \
         not the bare number 5\n  4 | grace = 5\n    |         ^\n\
         conf.d/2.toml:4:10: job.margin: must be at most \"5m\", not \"9m\"\n  4 | margin = '9m'\n    |          ^^^^"
    );
}

#[test]
fn keys_of_two_files_that_do_not_go_together_are_reported_where_one_of_them_is() {
    let shown = told("[socket]\nmax_connections = 10\n", &[("many.toml", "\nslots = 20\n")]);
    assert!(shown.starts_with("w.toml:2:19: socket.max_connections: there are 20 slots in all"), "{shown}");
}

#[test]
fn what_a_later_file_replaces_has_to_be_sound_too() {
    let shown = told("slots = 'many'\n", &[("1.toml", "slots = 2\n")]);
    assert!(shown.starts_with("w.toml:1:9: slots:"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read_or_is_not_toml_hides_no_errors_of_the_others() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "slot = 1\n", &[("1.toml", "slots = [\n"), ("3.toml", "slott = 1\n")]);
    std::fs::create_dir(directory.path().join("conf.d/2.toml")).unwrap();
    std::fs::write(directory.path().join("conf.d/4.toml"), b"\xff").unwrap();
    let errors = load(&directory.path().join("w.toml")).expect_err("wrong");
    let shown = errors.to_string();
    for part in [
        "w.toml:1:1: slot:",
        "conf.d/1.toml:1:9: syntax: the `[` here is never closed",
        "conf.d/2.toml: can't be read",
        "conf.d/3.toml:1:1: slott:",
        "conf.d/4.toml:1:1: syntax: the file is not UTF-8",
    ] {
        assert!(shown.contains(part), "{part:?} is missing:\n{shown}");
    }
    assert_eq!(errors.problems().len(), 5, "{shown}");
}

#[test]
fn several_wrong_items_of_a_list_are_reported_once_each() {
    let shown = told("[purge]\npinned_images = [1, '', 'alpine']\nmax_age = '1h'\n", &[]);
    assert_eq!(shown.matches("purge.pinned_images").count(), 2, "{shown}");
}
