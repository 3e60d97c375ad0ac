//! The file of `windlass update`: one table, `[update]`, read and checked as the daemon's configuration is.
//!
//! What the keys mean is documented in `config/update.toml`. A host without the file has every default.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::errors::{ConfigErrors, Problem};
use super::fragment::Field;
use super::hours::Hours;
use super::read::read_values;
use super::schema::keys_of;
use super::settings::QuietHours;
use super::sources::Sources;
use super::suggest::nearest;
use super::texts::{Bounded, HostDirectory, Pattern, Text, WebAddress};
use super::values::TimeSpan;
use super::{MAX_PROBLEMS, syntax};

/// The only table.
const TABLE: &str = "update";
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How containers are updated.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateSettings {
    /// Patterns of images whose containers are updated without a label too.
    pub include: Vec<String>,
    /// When units may be restarted, in local time; empty: always.
    pub windows: Vec<QuietHours>,
    /// Whether new images are pulled outside the windows.
    pub download_only: bool,
    /// How long what was restarted has to stay up.
    pub settle: Duration,
    /// The most that a healthcheck is waited for.
    pub health_timeout: Duration,
    /// How long a unit may take to restart.
    pub restart_timeout: Duration,
    /// How long a pull may take.
    pub pull_timeout: Duration,
    /// How long any other call of podman, systemctl or a registry may take.
    pub timeout: Duration,
    /// Up to this long a run from the timer waits before it begins.
    pub delay: Duration,
    /// Units that are updated at once.
    pub max_parallel: usize,
    /// Images before the present one that are kept, for each container.
    pub keep_previous: usize,
    /// A program, with arguments, that gets the report of a run in which something happened.
    pub command: Vec<String>,
    /// Where figures for node_exporter are written.
    pub textfile_directory: Option<PathBuf>,
    /// Logins for registries, beside podman's own.
    pub auth_file: Option<PathBuf>,
    /// The feed of an image chain that is listened to.
    pub feed: Option<String>,
    /// The file with the token that it wants; none: the credential `feed-token`.
    pub feed_token_file: Option<PathBuf>,
    /// Certificates that the feed's is checked with, beside the host's.
    pub feed_ca_file: Option<PathBuf>,
    /// Up to this long a look waits that the feed is the reason of.
    pub feed_delay: Duration,
}

impl Default for UpdateSettings {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            windows: Vec::new(),
            download_only: true,
            settle: Duration::from_secs(10),
            health_timeout: 10 * MINUTE,
            restart_timeout: 10 * MINUTE,
            pull_timeout: 30 * MINUTE,
            timeout: 2 * MINUTE,
            delay: 15 * MINUTE,
            max_parallel: 1,
            keep_previous: 1,
            command: Vec::new(),
            textfile_directory: None,
            auth_file: None,
            feed: None,
            feed_token_file: None,
            feed_ca_file: None,
            feed_delay: Duration::ZERO,
        }
    }
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    update: UpdateKeys,
}

/// `[update]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct UpdateKeys {
    #[serde(skip_serializing_if = "Option::is_none")]
    include: Option<Vec<Text<Pattern>>>,
    windows: Option<Vec<Hours>>,
    download_only: Option<bool>,
    settle: Field<TimeSpan>,
    health_timeout: Field<TimeSpan>,
    restart_timeout: Field<TimeSpan>,
    pull_timeout: Field<TimeSpan>,
    timeout: Field<TimeSpan>,
    delay: Field<TimeSpan>,
    max_parallel: Option<Bounded<1, 64>>,
    keep_previous: Option<Bounded<0, 10>>,
    command: Field<Vec<String>>,
    textfile_directory: Option<Text<HostDirectory>>,
    auth_file: Option<Text<HostDirectory>>,
    feed: Option<Text<WebAddress>>,
    feed_token_file: Option<Text<HostDirectory>>,
    feed_ca_file: Option<Text<HostDirectory>>,
    feed_delay: Field<TimeSpan>,
}

/// Reads and checks the file at `path`; without one every key has its default.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(path: &Path) -> Result<UpdateSettings, ConfigErrors> {
    Sources::alone(path).map_or_else(|| Ok(UpdateSettings::default()), check)
}

/// Checks a text; `file` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<UpdateSettings, ConfigErrors> {
    check(Sources::text(file, text))
}

fn check(sources: Sources) -> Result<UpdateSettings, ConfigErrors> {
    let (result, mut problems, note) = read(&sources);
    if problems.is_empty() {
        return Ok(result);
    }
    problems.truncate(MAX_PROBLEMS);
    Err(ConfigErrors::new(sources, problems, note))
}

fn read(sources: &Sources) -> (UpdateSettings, Vec<Problem>, Option<&'static str>) {
    let defaults = UpdateSettings::default;
    let Some(source) = sources.iter().next() else { return (defaults(), Vec::new(), None) };
    if let Some(problem) = &source.unread {
        return (defaults(), vec![problem.clone()], None);
    }
    let parsed = syntax::parse(&source.text);
    let mut problems = parsed.problems;
    if !parsed.whole {
        return (defaults(), problems, Some("The rest of the file can be checked when this is mended."));
    }
    let mut table = parsed.table.into_inner();
    let mut unfit = Vec::new();
    for (key, value) in table.iter() {
        let name = key.get_ref().as_ref();
        if name != TABLE {
            let message = if keys_of::<UpdateKeys>().contains(&name) {
                "there is no such key at the top level; it belongs in [update]".to_owned()
            } else {
                "there is no such table; this file has only [update]".to_owned()
            };
            problems.push(Problem { key: name.to_owned(), span: Some(key.span()), message });
            unfit.push(name.to_owned());
        } else if !matches!(value.get_ref(), toml::de::DeValue::Table(_)) {
            let message = "must be a table: write the header [update] and its keys below".to_owned();
            problems.push(Problem { key: name.to_owned(), span: Some(value.span()), message });
            unfit.push(name.to_owned());
        }
    }
    unfit.iter().for_each(|name| drop(table.remove(name.as_str())));
    if let Some(toml::de::DeValue::Table(keys)) = table.get_mut(TABLE).map(toml::Spanned::get_mut) {
        let known = keys_of::<UpdateKeys>();
        let unknown: Vec<String> =
            keys.keys().map(|key| key.get_ref().to_string()).filter(|key| !known.contains(&key.as_str())).collect();
        for name in unknown {
            let span = keys.keys().find(|key| key.get_ref().as_ref() == name).map(toml::Spanned::span);
            let message = match nearest(&name, known.iter().copied()) {
                Some(key) => format!("there is no such key; did you mean {key:?}?"),
                None => format!("there is no such key; the keys in [update] are {}", known.join(", ")),
            };
            problems.push(Problem { key: format!("{TABLE}.{name}"), span, message });
            keys.remove(name.as_str());
        }
    }
    let file: File = read_values(&mut table, &mut problems);
    (settings(file.update, &mut problems), problems, None)
}

fn settings(keys: UpdateKeys, problems: &mut Vec<Problem>) -> UpdateSettings {
    let defaults = UpdateSettings::default();
    let mut span = |key: &str, field: Field<TimeSpan>, low: Duration, high: Duration, default: Duration| {
        let Some(given) = field else { return default };
        let value = given.get_ref().0;
        if value < low || value > high {
            let message =
                format!(r#"must be between "{}" and "{}", not "{}""#, TimeSpan(low), TimeSpan(high), given.get_ref());
            problems.push(Problem { key: format!("{TABLE}.{key}"), span: Some(given.span()), message });
        }
        value
    };
    let second = Duration::from_secs(1);
    let settle = span("settle", keys.settle, Duration::ZERO, HOUR, defaults.settle);
    let health_timeout = span("health_timeout", keys.health_timeout, second, DAY, defaults.health_timeout);
    let restart_timeout = span("restart_timeout", keys.restart_timeout, second, DAY, defaults.restart_timeout);
    let pull_timeout = span("pull_timeout", keys.pull_timeout, second, DAY, defaults.pull_timeout);
    let timeout = span("timeout", keys.timeout, second, HOUR, defaults.timeout);
    let delay = span("delay", keys.delay, Duration::ZERO, DAY, defaults.delay);
    let feed_delay = span("feed_delay", keys.feed_delay, Duration::ZERO, HOUR, defaults.feed_delay);
    let command = keys.command.map_or(Vec::new(), |given| {
        if given.get_ref().first().is_some_and(|program| !program.starts_with('/')) {
            let message = "begins with the program's absolute path, such as [\"/usr/local/bin/tell\"]".to_owned();
            problems.push(Problem { key: format!("{TABLE}.command"), span: Some(given.span()), message });
        }
        given.into_inner()
    });
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    UpdateSettings {
        include: keys.include.unwrap_or_default().into_iter().map(|pattern| pattern.0).collect(),
        windows: keys.windows.unwrap_or_default().into_iter().map(|hours| hours.0).collect(),
        download_only: keys.download_only.unwrap_or(defaults.download_only),
        settle,
        health_timeout,
        restart_timeout,
        pull_timeout,
        timeout,
        delay,
        max_parallel: keys.max_parallel.map_or(defaults.max_parallel, |number| count(number.0)),
        keep_previous: keys.keep_previous.map_or(defaults.keep_previous, |number| count(number.0)),
        command,
        textfile_directory: keys.textfile_directory.map(|path| path.0.into()),
        auth_file: keys.auth_file.map(|path| path.0.into()),
        feed: keys.feed.map(|url| url.0),
        feed_token_file: keys.feed_token_file.map(|path| path.0.into()),
        feed_ca_file: keys.feed_ca_file.map(|path| path.0.into()),
        feed_delay,
    }
}

/// The settings as a file that has them in effect.
///
/// # Errors
/// When TOML can't express them, which would be a defect.
pub fn to_toml(settings: &UpdateSettings) -> Result<String, toml::ser::Error> {
    let span = |duration: Duration| Some(toml::Spanned::new(0..0, TimeSpan(duration)));
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| Text::of(path.to_string_lossy()));
    toml::to_string(&File {
        update: UpdateKeys {
            include: Some(settings.include.iter().map(Text::of).collect()),
            windows: Some(settings.windows.iter().copied().map(Hours).collect()),
            download_only: Some(settings.download_only),
            settle: span(settings.settle),
            health_timeout: span(settings.health_timeout),
            restart_timeout: span(settings.restart_timeout),
            pull_timeout: span(settings.pull_timeout),
            timeout: span(settings.timeout),
            delay: span(settings.delay),
            max_parallel: Some(Bounded(count(settings.max_parallel))),
            keep_previous: Some(Bounded(count(settings.keep_previous))),
            command: Some(toml::Spanned::new(0..0, settings.command.clone())),
            textfile_directory: path(&settings.textfile_directory),
            auth_file: path(&settings.auth_file),
            feed: settings.feed.as_ref().map(Text::of),
            feed_token_file: path(&settings.feed_token_file),
            feed_ca_file: path(&settings.feed_ca_file),
            feed_delay: span(settings.feed_delay),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../config/update.toml");

    fn problems(text: &str) -> String {
        parse(Path::new("update.toml"), text).expect_err("has problems").to_string()
    }

    /// The shipped file with each commented key made a real one; prose has a space behind its `#`.
    fn uncommented() -> String {
        let real = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        SHIPPED.lines().map(real).collect()
    }

    #[test]
    fn the_shipped_file_gives_the_defaults_and_documents_every_key() {
        let parsed = parse(Path::new("update.toml"), SHIPPED).expect("valid");
        assert_eq!(parsed, UpdateSettings::default());
        let all = uncommented();
        parse(Path::new("update.toml"), &all).expect("valid with all keys");
        for key in keys_of::<UpdateKeys>() {
            assert!(all.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not documented");
        }
        // What is shown as a default is one, except for the keys that say that they have none.
        let shown = parse(Path::new("update.toml"), &all).expect("valid");
        let free = UpdateSettings {
            include: shown.include.clone(),
            windows: shown.windows.clone(),
            command: shown.command.clone(),
            textfile_directory: shown.textfile_directory.clone(),
            auth_file: shown.auth_file.clone(),
            feed: shown.feed.clone(),
            feed_token_file: shown.feed_token_file.clone(),
            feed_ca_file: shown.feed_ca_file.clone(),
            ..UpdateSettings::default()
        };
        assert_eq!(shown, free);
    }

    #[test]
    fn what_is_printed_reads_back_equal() {
        let text = uncommented();
        let settings = parse(Path::new("update.toml"), &text).expect("valid");
        let printed = to_toml(&settings).expect("TOML");
        assert_eq!(parse(Path::new("update.toml"), &printed).expect("valid"), settings, "{printed}");
    }

    #[test]
    fn a_mistake_is_named_with_its_place_and_what_would_be_right() {
        let said = problems("[update]\nwindow = [\"02:00-05:00\"]\nsettle = \"soon\"\nmax_paralel = 2\n");
        assert!(
            said.contains("update.toml:2:1: update.window: there is no such key; did you mean \"windows\"?"),
            "{said}"
        );
        assert!(said.contains("update.toml:3:10: update.settle: \"soon\" is not a duration"), "{said}");
        assert!(said.contains("did you mean \"max_parallel\"?"), "{said}");
        assert!(problems("settle = \"10s\"\n").contains("it belongs in [update]"));
        assert!(problems("[updates]\n").contains("this file has only [update]"));
        assert!(problems("[update]\ndelay = \"3days\"\n").contains(r#"must be between "0s" and "1day", not "3days""#));
        assert!(problems("[update]\ncommand = [\"tell\"]\n").contains("absolute path"));
        assert!(problems("[update]\nwindows = [\"2-5\"]\n").contains("22:00-06:00"));
        assert!(problems("[update]\nmax_parallel = 0\n").contains("must be between 1 and 64"));
    }

    #[test]
    fn a_host_without_the_file_has_the_defaults() {
        assert_eq!(load(Path::new("/nonexistent/update.toml")).expect("valid"), UpdateSettings::default());
    }
}
