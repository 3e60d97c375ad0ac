//! Programs that an update calls: podman, systemctl. With a clean environment, within a bound, and with what they said.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use thiserror::Error;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::podman::environment::environment;
use crate::podman::message::said;
use crate::podman::process::{End, supervise};

/// A program that failed.
#[derive(Debug, Clone, Error)]
#[error("{what}: {message}")]
pub struct CallError {
    /// The program and what it was asked to do, such as `podman pull`.
    pub what: String,
    /// Its own words, in one line.
    pub message: String,
    /// Its exit code; none when it could not be started, was killed, or took too long.
    pub code: Option<i32>,
}

/// Calls programs.
#[derive(Debug, Clone)]
pub struct Caller {
    environment: Vec<(OsString, OsString)>,
}

impl Caller {
    /// One that gives programs what a session of this user would have.
    #[must_use]
    pub fn new() -> Self {
        Self { environment: environment() }
    }

    /// Runs `program`, and returns what it printed. One whose time is over is asked to end.
    ///
    /// # Errors
    /// When it can't be started, fails, or takes longer than `limit`.
    pub async fn call(&self, program: &str, arguments: &[&str], limit: Duration) -> Result<String, CallError> {
        let words = arguments.iter().filter(|word| !word.starts_with('-')).take(1);
        let what = std::iter::once(&program).chain(words).copied().collect::<Vec<_>>().join(" ");
        let failed = |message: String, code| CallError { what: what.clone(), message, code };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Messages are passed on, and some are looked at.
        command.env("LC_ALL", "C.UTF-8").current_dir("/").process_group(0).kill_on_drop(false);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}"), None))?;
        match supervise(child, limit, CancellationToken::new()).await {
            Ok(End::Exited(status, stdout, _)) if status.success() => Ok(stdout),
            Ok(End::Exited(status, _, stderr)) => Err(failed(said(&stderr), status.code())),
            Ok(End::TimedOut | End::Stopped) => {
                Err(failed(format!("no end within {}", humantime::format_duration(limit)), None))
            }
            Err(error) => Err(failed(error.to_string(), None)),
        }
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_said_comes_back() {
        let caller = Caller::new();
        let minute = Duration::from_secs(60);
        assert_eq!(caller.call("sh", &["-c", "echo yes"], minute).await.expect("succeeds"), "yes\n");
        let error = caller.call("sh", &["-c", "echo Error: no >&2; exit 3"], minute).await.expect_err("fails");
        assert_eq!((error.message.as_str(), error.code), ("no", Some(3)));
        let error = caller.call("/nonexistent", &[], minute).await.expect_err("fails");
        assert!(error.to_string().starts_with("/nonexistent: cannot be started"), "{error}");
    }

    #[tokio::test]
    async fn one_that_does_not_end_is_ended() {
        let error = Caller::new().call("sleep", &["60"], Duration::from_millis(10)).await.expect_err("fails");
        assert_eq!(error.to_string(), "sleep 60: no end within 10ms");
    }
}
