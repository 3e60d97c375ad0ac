//! gitlab-runner's config.toml, as far as it concerns Windlass. Its tokens are not read into memory that anybody prints.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::run;

/// gitlab-runner's own defaults, in seconds (executors/custom/config.go, helpers/process/killer.go).
const EXEC_TIMEOUT: u64 = 3600;
const GRACEFUL_KILL: u64 = 600;
const FORCE_KILL: u64 = 10;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RunnerConfig {
    /// Jobs at once, of all runners.
    pub concurrent: Option<u32>,
    /// The runners.
    pub runners: Vec<Entry>,
}

/// A `[[runners]]` entry.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// GitLab.
    pub url: String,
    /// GitLab as jobs clone from it.
    pub clone_url: String,
    /// Its executor.
    pub executor: String,
    /// Jobs at once; 0: any number.
    pub limit: u32,
    /// Requests for jobs at once; 0: one.
    pub request_concurrency: u32,
    /// The executables.
    pub custom: Custom,
    /// Whether jobs may choose where they clone to.
    pub custom_build_dir: BuildDir,
    /// Certificates that the runner trusts.
    #[serde(rename = "tls-ca-file")]
    pub ca_file: String,
    /// How long a job may take to be prepared, the wait for a slot included (19.x): a duration of Go's, such as "5m".
    pub prepare_timeout: Option<toml::Value>,
    /// What differs from gitlab-runner's defaults.
    pub feature_flags: BTreeMap<String, toml::Value>,
}

/// Whether jobs may choose where they clone to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BuildDir {
    /// Whether they may.
    pub enabled: bool,
}

/// `[runners.custom]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "each is the key of that name")]
pub struct Custom {
    pub config_exec: String,
    pub config_args: Vec<String>,
    pub config_exec_timeout: i64,
    pub prepare_exec: String,
    pub prepare_args: Vec<String>,
    pub prepare_exec_timeout: i64,
    pub run_exec: String,
    pub run_args: Vec<String>,
    pub cleanup_exec: String,
    pub cleanup_args: Vec<String>,
    pub cleanup_exec_timeout: i64,
    pub graceful_kill_timeout: i64,
    pub force_kill_timeout: i64,
}

/// What is not above zero is the default.
fn or_default(value: i64, default: u64) -> u64 {
    u64::try_from(value).ok().filter(|value| *value > 0).unwrap_or(default)
}

impl Custom {
    /// The four executables: their key, path and arguments.
    pub fn executables(&self) -> [(&'static str, &str, &[String]); 4] {
        [
            ("config", &self.config_exec, &self.config_args),
            ("prepare", &self.prepare_exec, &self.prepare_args),
            ("run", &self.run_exec, &self.run_args),
            ("cleanup", &self.cleanup_exec, &self.cleanup_args),
        ]
    }

    /// In seconds.
    pub fn config_timeout(&self) -> u64 {
        or_default(self.config_exec_timeout, EXEC_TIMEOUT)
    }

    /// In seconds.
    pub fn prepare_timeout(&self) -> u64 {
        or_default(self.prepare_exec_timeout, EXEC_TIMEOUT)
    }

    /// In seconds.
    pub fn cleanup_timeout(&self) -> u64 {
        or_default(self.cleanup_exec_timeout, EXEC_TIMEOUT)
    }

    /// From SIGTERM to SIGKILL, in seconds.
    pub fn graceful_kill(&self) -> u64 {
        or_default(self.graceful_kill_timeout, GRACEFUL_KILL)
    }

    /// From SIGKILL to giving up, in seconds.
    pub fn force_kill(&self) -> u64 {
        or_default(self.force_kill_timeout, FORCE_KILL)
    }
}

impl Entry {
    /// Whether it is meant to run jobs with Windlass.
    pub fn is_ours(&self) -> bool {
        self.executor == "custom" && self.custom.executables().iter().any(|(_, path, _)| is_shim(path))
    }

    /// Its name, for messages.
    pub fn words(&self) -> String {
        format!("[[runners]] {:?}", self.name)
    }
}

/// Whether a path is that of one of Windlass's executables.
pub fn is_shim(path: &str) -> bool {
    Path::new(path).file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("windlass-"))
}

/// The value of an option in `--name value` or `--name=value`.
pub fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let mut rest = arguments.iter();
    let mut found = None;
    while let Some(argument) = rest.next() {
        if argument == name {
            found = rest.next().map(String::as_str);
        } else if let Some(value) = argument.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            found = Some(value);
        }
    }
    found
}

/// Why there is no configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// There is no file.
    Missing,
    /// This user may not read it.
    Denied,
    /// It can't be read, or is not TOML.
    Wrong(String),
}

/// Reads the file.
pub fn load(path: &Path) -> Result<RunnerConfig, Unread> {
    let text = run::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Unread::Missing,
        std::io::ErrorKind::PermissionDenied => Unread::Denied,
        _ => Unread::Wrong(error.to_string()),
    })?;
    // The whole message would show the line, which may be that of a token.
    toml::from_str(&text).map_err(|error| Unread::Wrong(error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_gitlab_runners_default() {
        let text = "concurrent = 4\n[session_server]\nx = 1\n[[runners]]\nname = 'a'\ntoken = 't'\nexecutor = 'custom'\n\
                    tls-ca-file = '/c'\n[runners.custom]\nrun_exec = '/l/windlass-run'\ncleanup_exec_timeout = 0\n[[runners]]\nexecutor = 'shell'\n";
        let config: RunnerConfig = toml::from_str(text).expect("valid");
        let custom = &config.runners[0].custom;
        assert_eq!((custom.config_timeout(), custom.cleanup_timeout(), custom.graceful_kill()), (3600, 3600, 600));
        assert!(config.runners[0].is_ours() && !config.runners[1].is_ours());
        assert_eq!((config.concurrent, config.runners[0].ca_file.as_str()), (Some(4), "/c"));
    }

    #[test]
    fn options_are_found_in_both_forms() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(option(&words(&["--socket", "/a", "--profile=big"]), "--profile"), Some("big"));
        assert_eq!(option(&words(&["--socket", "/a"]), "--socket"), Some("/a"));
        assert_eq!(option(&words(&["--socket"]), "--socket"), None);
        assert_eq!(option(&words(&["--sockets=x"]), "--socket"), None);
    }

    #[test]
    fn a_wrong_file_shows_no_token() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("config.toml");
        assert_eq!(load(&path), Err(Unread::Missing));
        std::fs::write(&path, "[[runners]]\ntoken = \"glrt-secret\n").expect("write");
        let Err(Unread::Wrong(words)) = load(&path) else { panic!("it is wrong") };
        assert!(!words.contains("secret"), "{words}");
    }
}
