//! The checks that values go through: ranges, durations, paths, names. Each failure is noted and the rest goes on.

use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::errors::Problem;
use super::input::{Given, Origin};
use super::values::{Size, TimeSpan, Whole};

/// A Unix socket's path may have this many bytes (`sun_path` has 108, one of them ends it).
pub(super) const SOCKET_PATH_MAX: usize = 107;

/// The daemon makes its socket under the path with `.new` behind it, and renames it when its mode is right.
pub(super) const OWN_SOCKET_PATH_MAX: usize = SOCKET_PATH_MAX - ".new".len();

/// Notes what is wrong. A check that fails returns something harmless in place of the value, which is never used:
/// with a problem noted there are no settings.
#[derive(Debug)]
pub(super) struct Checker {
    pub problems: Vec<Problem>,
    /// So many of them are older than the checks.
    read: usize,
}

impl Checker {
    /// Goes on from the problems that reading has found.
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { read: problems.len(), problems }
    }

    /// Notes a problem, once: a value of `[job]` is looked at again for each profile that inherits it, and one that
    /// could not be read needs no second complaint.
    pub(super) fn wrong(&mut self, origin: &Origin, message: impl Into<String>) {
        let new = Problem { key: origin.key.clone(), span: origin.span.clone(), message: message.into() };
        let (read, checked) = self.problems.split_at(self.read);
        if !checked.contains(&new) && !read.iter().any(|old| old.key == new.key && old.span == new.span) {
            self.problems.push(new);
        }
    }

    /// Whether none of these values has a problem of its own, so that it makes sense to compare them.
    pub(super) fn sound(&self, origins: &[&Origin]) -> bool {
        !self.problems.iter().any(|problem| origins.iter().any(|origin| origin.key == problem.key))
    }

    /// A whole number from `low` to `high`; `why` ends the message.
    pub(super) fn whole<T>(&mut self, given: &Given<Whole>, low: T, high: T, why: &str) -> T
    where
        T: TryFrom<i128> + PartialOrd + Display + Copy,
    {
        match T::try_from(given.value.0) {
            Ok(value) if low <= value && value <= high => value,
            _ => {
                let sentence = format!("must be between {low} and {high}, not {}{why}", given.value.0);
                self.wrong(&given.origin, sentence);
                low
            }
        }
    }

    /// A duration of at least a millisecond and at most `high`.
    pub(super) fn duration(&mut self, given: &Given<TimeSpan>, high: Duration) -> Duration {
        let TimeSpan(value) = given.value;
        if value < Duration::from_millis(1) {
            self.wrong(&given.origin, r#"must be longer than nothing, such as "1s""#);
        } else if value > high {
            let message = format!(r#"must be at most "{}", not "{}""#, TimeSpan(high), given.value);
            self.wrong(&given.origin, message);
        }
        value
    }

    /// A size from `low` to `high` bytes; `why` ends the message.
    pub(super) fn size(&mut self, given: &Given<Size>, low: u64, high: u64, why: &str) -> u64 {
        let Size(value) = given.value;
        if value < low || value > high {
            let (low, high) = (Size(low), Size(high));
            self.wrong(&given.origin, format!(r#"must be between "{low}" and "{high}", not "{}"{why}"#, given.value));
        }
        value
    }

    /// An absolute path, without what would make two spellings of one place.
    pub(super) fn path(&mut self, given: &Given<String>) -> PathBuf {
        let text = given.value.as_str();
        let path = Path::new(text);
        let problem = if text.is_empty() {
            "must not be empty"
        } else if text.chars().any(char::is_control) {
            "must not contain control characters"
        } else if !path.is_absolute() {
            "must be an absolute path: it has to begin with \"/\""
        } else if path.components().any(|part| part == Component::ParentDir) {
            "must not contain \"..\"; write the path out"
        } else if path.parent().is_none() {
            "must not be the root directory"
        } else {
            // Collecting the components drops repeated and final slashes.
            return path.components().collect();
        };
        self.wrong(&given.origin, problem);
        PathBuf::new()
    }

    /// The path of a socket.
    pub(super) fn socket_path(&mut self, given: &Given<String>) -> PathBuf {
        let path = self.path(given);
        let length = path.as_os_str().len();
        if given.value.ends_with('/') {
            self.wrong(&given.origin, "must be the path of a socket, not of a directory: take away the final \"/\"");
        } else if length > OWN_SOCKET_PATH_MAX {
            let message = format!(
                "must have at most {OWN_SOCKET_PATH_MAX} bytes, this path has {length}: a Unix socket's may have \
                 {SOCKET_PATH_MAX}, and the daemon first makes it with \".new\" behind"
            );
            self.wrong(&given.origin, message);
        }
        path
    }

    /// A text that is a name of something: not empty, no white space, nothing invisible, not like an option.
    pub(super) fn name(&mut self, given: &Given<String>, what: &str) -> String {
        let text = given.value.as_str();
        let problem = if text.is_empty() {
            "must not be empty".to_owned()
        } else if text.contains(char::is_whitespace) || text.contains(char::is_control) {
            format!("{text:?} is not {what}: it contains white space or a control character")
        } else if text.starts_with('-') {
            format!("{text:?} is not {what}: it begins with \"-\"")
        } else {
            return given.value.clone();
        };
        self.wrong(&given.origin, problem);
        String::new()
    }
}
