//! systemd, the system's or that of the user who calls: states of units, restarts, the order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use super::call::{CallError, Caller};
use super::judge::UnitState;
use super::order::{self, After};
use super::units::UnitName;

/// podman's own timer, which must not do the same work.
const RIVAL: &str = "podman-auto-update.timer";
/// How often a unit that is on its way is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A manager of systemd.
#[derive(Debug, Clone)]
pub struct Systemd {
    caller: Caller,
    user: bool,
    timeout: Duration,
    restart_timeout: Duration,
}

impl Systemd {
    /// The manager that root's, or this user's, units are of.
    #[must_use]
    pub fn new(caller: Caller, timeout: Duration, restart_timeout: Duration) -> Self {
        Self { caller, user: !geteuid().is_root(), timeout, restart_timeout }
    }

    /// The command that a person would give.
    #[must_use]
    pub fn command(&self, words: &str) -> String {
        format!("systemctl {}{words}", if self.user { "--user " } else { "" })
    }

    async fn call(&self, arguments: &[&str], limit: Duration) -> Result<String, CallError> {
        let user: &[&str] = if self.user { &["--user"] } else { &[] };
        self.caller.call("systemctl", &[user, arguments].concat(), limit).await
    }

    /// The state of a unit.
    ///
    /// # Errors
    /// systemctl's words.
    pub async fn state(&self, unit: &UnitName) -> Result<UnitState> {
        let properties = "--property=ActiveState,SubState,Result,NRestarts";
        Ok(parse_state(&self.call(&["show", properties, "--", unit.as_str()], self.timeout).await?))
    }

    /// Restarts a unit and waits for its start job.
    ///
    /// # Errors
    /// When the unit does not start, or takes too long.
    pub async fn restart(&self, unit: &UnitName) -> Result<(), CallError> {
        self.call(&["restart", "--", unit.as_str()], self.restart_timeout).await.map(drop)
    }

    /// Lets systemd forget how often a unit has failed: one that failed a few times in a row is not started any more.
    pub async fn forget_failures(&self, unit: &UnitName) {
        // A unit that has not failed has nothing to forget.
        let _ = self.call(&["reset-failed", "--", unit.as_str()], self.timeout).await;
    }

    /// Waits until systemd is done with what it was asked about a unit; returns its state then, or after the time of a restart.
    ///
    /// # Errors
    /// systemctl's words.
    pub async fn at_rest(&self, unit: &UnitName) -> Result<UnitState> {
        let since = Instant::now();
        loop {
            let state = self.state(unit).await?;
            if !state.is_moving() || since.elapsed() > self.restart_timeout {
                return Ok(state);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What each unit comes after.
    ///
    /// # Errors
    /// systemctl's words.
    pub async fn after(&self) -> Result<After> {
        let text = self.call(&["show", "--property=Id,After", "*"], self.timeout).await;
        Ok(order::parse(&text.context("ask systemd for the order of its units")?))
    }

    /// Refuses to work where podman's own timer does.
    ///
    /// # Errors
    /// When it does, and how to change that; or when no manager answers.
    pub async fn refuse_rival(&self) -> Result<()> {
        let properties = "--property=LoadState,ActiveState,UnitFileState";
        let text = self.call(&["show", properties, "--", RIVAL], self.timeout).await.with_context(|| {
            let own = "no manager of this user answers; `loginctl enable-linger` keeps one running";
            if self.user { own } else { "systemd does not answer" }
        })?;
        if let Some(state) = rival(&text) {
            bail!(
                "{RIVAL} is {state}, and would update the same containers; end that first: {}",
                self.command(&format!("disable --now {RIVAL}"))
            );
        }
        Ok(())
    }
}

fn properties(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

fn parse_state(text: &str) -> UnitState {
    let properties = properties(text);
    let value = |name: &str| (*properties.get(name).unwrap_or(&"")).to_owned();
    UnitState {
        active: value("ActiveState"),
        sub: value("SubState"),
        result: value("Result"),
        restarts: value("NRestarts").parse().unwrap_or(0),
    }
}

/// In which state podman's timer is that forbids to work beside it.
fn rival(text: &str) -> Option<&'static str> {
    let properties = properties(text);
    let is = |name: &str, words: &[&str]| properties.get(name).is_some_and(|value| words.contains(value));
    if is("ActiveState", &["active", "activating", "reloading"]) {
        Some("active")
    } else if is("UnitFileState", &["enabled", "enabled-runtime"]) {
        Some("enabled")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_unit_is_read() {
        let state = parse_state("ActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=5\n");
        let expected =
            UnitState { active: "failed".into(), sub: "failed".into(), result: "exit-code".into(), restarts: 5 };
        assert_eq!(state, expected);
        // A pod's unit of another kind has no restarts.
        assert_eq!(parse_state("ActiveState=active\nSubState=exited\n").restarts, 0);
    }

    #[test]
    fn podmans_timer_must_be_neither_active_nor_enabled() {
        let of = |active: &str, file: &str| {
            rival(&format!("LoadState=loaded\nActiveState={active}\nUnitFileState={file}\n"))
        };
        assert_eq!(of("inactive", "disabled"), None);
        assert_eq!(of("inactive", "masked"), None);
        assert_eq!(of("active", "disabled"), Some("active"));
        assert_eq!(of("inactive", "enabled"), Some("enabled"));
        assert_eq!(rival("LoadState=not-found\nActiveState=inactive\nUnitFileState=\n"), None);
    }
}
