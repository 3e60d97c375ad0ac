//! What a person is told about wrong files: every error, its place, and what to do.

use super::errors;
use crate::config::{MAX_PROBLEMS, Problem, load};

/// `KEY LINE` of each problem.
fn problems(text: &str) -> Vec<String> {
    let errors = errors(text);
    let line = |problem: &Problem| problem.span.as_ref().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
    errors.problems().iter().map(|problem| format!("{} {}", problem.key, line(problem))).collect()
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
