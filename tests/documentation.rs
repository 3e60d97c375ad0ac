//! What README.md and docs/ say, against what is there: keys, links, commands. Nothing is started.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

/// What stands before a command in a line of shell, or of advice.
const BEFORE: [&str; 7] = ["sudo", "&&", "||", "|", ";", "mend", "$"];
/// What ends a command.
const AFTER: [&str; 6] = ["--", "|", "&&", "||", ";", "\\"];
/// Tables whose keys are names that users choose.
const FREE: [&str; 2] = ["[podman.environment]", "[chain.args]"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README.md and all of docs/.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    assert!(pages.len() > 10, "{pages:?}");
    pages.sort();
    pages.insert(0, root().join("README.md"));
    pages
}

/// A page's lines inside of code blocks, and those outside.
fn code_and_prose(text: &str) -> (Vec<&str>, Vec<&str>) {
    let mut is_code = false;
    let (mut code, mut prose) = (Vec::new(), Vec::new());
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if is_code {
            code.push(line);
        } else {
            prose.push(line);
        }
    }
    assert!(!is_code, "a code block has no end");
    (code, prose)
}

/// Every other part between backticks: what is code in prose, or what is not.
fn spans(prose: &[&str], is_code: bool) -> Vec<String> {
    let text = prose.join("\n");
    text.split('`').skip(usize::from(is_code)).step_by(2).map(str::to_owned).collect()
}

/// The anchors of a page, as GitLab and GitHub make them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in code_and_prose(text).1 {
        let Some(heading) = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')) else {
            continue;
        };
        let kept = heading.to_lowercase().replace(' ', "-");
        let slug: String = kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let count = counts.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

#[test]
fn links_lead_somewhere() {
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        // A link's words may be code, its target is not.
        let prose = code_and_prose(&text).1.join("\n");
        for target in prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if target.starts_with("http") {
                continue;
            }
            count += 1;
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
            let file = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(file.exists(), "{}: there is no {target}", page.display());
            if let Some(anchor) = anchor {
                assert!(anchors(&read(&file)).contains(anchor), "{}: no heading for {target}", page.display());
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
}

#[test]
fn each_page_is_in_the_readme() {
    let readme = read(&root().join("README.md"));
    for page in pages().iter().skip(1) {
        let link = format!("](docs/{})", page.file_name().unwrap().to_str().unwrap());
        assert!(readme.contains(&link), "README.md lacks a link {link}");
    }
}

/// What is wrong with a command behind its first word; none: nothing.
fn wrong(words: &[&str]) -> Option<String> {
    let mut whole = windlass::cli::Arguments::command();
    whole.build();
    let mut command: &Command = &whole;
    let mut may_go_down = true;
    for word in words.iter().take_while(|word| !AFTER.contains(word)) {
        if let Some(option) = word.strip_prefix("--") {
            let name = option.split('=').next().unwrap_or_default();
            if !command.get_arguments().any(|argument| argument.get_long() == Some(name)) {
                return Some(format!("`{}` has no --{name}", command.get_name()));
            }
        } else if may_go_down && command.has_subcommands() {
            match command.find_subcommand(word) {
                Some(below) => command = below,
                None => return Some(format!("`{}` has no command {word:?}", command.get_name())),
            }
        } else {
            may_go_down = false;
        }
    }
    None
}

#[test]
fn commands_and_their_options_exist() {
    let mut count = 0;
    for page in pages() {
        let text = read(&page);
        let (code, prose) = code_and_prose(&text);
        let mut lines: Vec<String> = code.iter().map(|line| (*line).to_owned()).collect();
        lines.extend(spans(&prose, true));
        for line in lines {
            let words: Vec<&str> = line.split(" #").next().unwrap().split_whitespace().collect();
            for (at, word) in words.iter().enumerate() {
                if *word != "windlass" || at > 0 && !BEFORE.contains(&words[at - 1]) {
                    continue;
                }
                count += 1;
                if let Some(problem) = wrong(&words[at + 1..]) {
                    panic!("{}: {problem}, in: {line}", page.display());
                }
            }
        }
    }
    assert!(count > 100, "only {count} commands were found");
}

#[test]
fn what_is_no_command_is_seen() {
    assert_eq!(wrong(&["chain", "status", "images/app", "--json"]), None);
    assert_eq!(wrong(&["try", "--image", "alpine", "--", "uname", "--all"]), None);
    assert!(wrong(&["chain", "stat"]).unwrap().contains("\"stat\""));
    assert!(wrong(&["status", "--verbose"]).unwrap().contains("--verbose"));
    assert!(wrong(&["statsu"]).is_some());
}

/// The tables of a shipped file with their keys, commented out or not; prose has a space behind its `#`.
fn shipped(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut table = "The top level".to_owned();
    for line in read(&root().join("config").join(name)).lines() {
        let line = line.strip_prefix('#').unwrap_or(line);
        if line.starts_with('[') {
            table = line.replace("profile.big", "profile.NAME");
            tables.entry(table.clone()).or_default();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| is_key(key)) {
            // Those of [profile.NAME.job] are those of [job].
            if !FREE.contains(&table.as_str()) && table != "[profile.NAME.job]" {
                tables.entry(table.clone()).or_default().insert(key.to_owned());
            }
        }
    }
    tables
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_')
}

/// The same of docs/configuration.md: the first cells of the tables below each `### ` heading.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut table = None;
    let text = read(&root().join("docs/configuration.md"));
    for line in code_and_prose(&text).1 {
        if line.starts_with('#') {
            table = line.strip_prefix("### ").map(|heading| heading.replace('`', ""));
            tables.extend(table.iter().map(|table| (table.clone(), BTreeSet::new())));
        } else if let (Some(table), Some(row)) = (&table, line.strip_prefix("| `")) {
            let key = row.split('`').next().unwrap().to_owned();
            assert!(tables.get_mut(table).unwrap().insert(key), "{table}: twice: {line}");
        }
    }
    tables
}

#[test]
fn every_key_is_documented_and_no_other() {
    let documented = documented();
    let mut expected = shipped("windlass.toml");
    let of_updates = shipped("update.toml");
    assert!(expected.len() > 15 && of_updates.contains_key("[update]"), "{expected:?}");
    expected.extend(of_updates);
    for (table, keys) in &expected {
        let there = documented.get(table).unwrap_or_else(|| panic!("docs/configuration.md has no heading for {table}"));
        assert_eq!(there, keys, "docs/configuration.md against the shipped file: {table}");
    }
    let more: Vec<&String> = documented.keys().filter(|table| !expected.contains_key(*table)).collect();
    assert!(more.is_empty(), "docs/configuration.md has tables that no shipped file has: {more:?}");
}

#[test]
fn the_job_that_builds_an_image_is_the_same_everywhere() {
    let job = |file: &str| {
        let text = read(&root().join(file));
        let rest = text.split_once("```yaml\nbuild:\n").unwrap_or_else(|| panic!("{file} has no such job")).1;
        rest.split_once("```").unwrap().0.to_owned()
    };
    // tests/builds.rs runs the one of docs/jobs.md.
    assert_eq!(job("README.md"), job("docs/jobs.md"));
}
