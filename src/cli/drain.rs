//! `windlass drain` and `windlass undrain`: no new jobs for this host, and jobs again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::ask::{SOCKET, ask, unexpected};
use crate::protocol::daemon::{Reply, Request, Status};

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often it is asked what still runs.
const LOOK: Duration = Duration::from_millis(500);
/// How long it may be away meanwhile, for example restarting.
const AWAY: Duration = Duration::from_secs(60);

/// Takes no new jobs from now on; running ones go on to their end
///
/// New jobs wait as they do for a slot (slot_wait), and are run after `windlass undrain`. That nothing is taken outlasts restarts of
/// windlassd and of the host.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  windlass drain --wait && systemctl reboot\n  windlass undrain")]
pub struct DrainArgs {
    /// Wait until no job runs any more
    #[arg(long)]
    pub wait: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// Takes new jobs again
#[derive(Debug, Args)]
pub struct UndrainArgs {
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

/// Drains the host.
///
/// # Errors
/// When the daemon does not answer, or refuses; with `--wait`, when somebody else ends the drain.
pub fn run(arguments: &DrainArgs) -> Result<u8> {
    set(&arguments.socket, true)?;
    if arguments.wait {
        wait(&arguments.socket)?;
    }
    Ok(0)
}

/// Ends that.
///
/// # Errors
/// When the daemon does not answer, or refuses.
pub fn undo(arguments: &UndrainArgs) -> Result<u8> {
    set(&arguments.socket, false)?;
    Ok(0)
}

fn set(socket: &Path, on: bool) -> Result<()> {
    match ask(socket, &Request::Drain { on }, LIMIT)? {
        Reply::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

fn wait(socket: &Path) -> Result<()> {
    let mut heard = Instant::now();
    let mut said = String::new();
    loop {
        match ask(socket, &Request::Status, LIMIT) {
            Ok(Reply::Status(report)) => {
                heard = Instant::now();
                match left(&report.status)? {
                    None => return Ok(()),
                    Some(words) if words != said => {
                        eprintln!("{words}");
                        said = words;
                    }
                    Some(_) => {}
                }
            }
            Ok(_) => return Err(unexpected()),
            Err(error) if heard.elapsed() > AWAY => return Err(error).context("windlassd stays away"),
            // It may be restarting, and its jobs run on.
            Err(_) => {}
        }
        std::thread::sleep(LOOK);
    }
}

/// What still runs, in words; none: nothing.
fn left(status: &Status) -> Result<Option<String>> {
    if status.daemon.drained_since.is_none() {
        bail!("somebody has ended the drain (windlass undrain); new jobs are taken");
    }
    let held = status.slots.iter().filter_map(|slot| slot.lease.as_ref());
    let jobs: Vec<String> = held
        .map(|id| {
            // One that has only just taken its slot is not listed yet.
            let lease = status.leases.iter().find(|lease| lease.id == *id);
            lease.map_or_else(|| "a new one".to_owned(), |lease| lease.job_id.to_string())
        })
        .collect();
    Ok((!jobs.is_empty()).then(|| format!("waiting for {} job(s) to end: {}", jobs.len(), jobs.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::daemon::{DaemonStatus, SlotStatus};

    fn status(drained: bool, lease: Option<&str>) -> Status {
        Status {
            daemon: DaemonStatus {
                version: String::new(),
                pid: 1,
                started_at: String::new(),
                warnings: Vec::new(),
                drained_since: drained.then(|| "2026-01-01T00:00:00Z".to_owned()),
            },
            slots: vec![SlotStatus {
                profile: "default".to_owned(),
                index: 0,
                lease: lease.map(str::to_owned),
                goes: false,
            }],
            leases: Vec::new(),
        }
    }

    #[test]
    fn a_slot_that_is_held_is_waited_for_before_its_lease_is_listed() {
        assert_eq!(left(&status(true, None)).expect("drained"), None);
        let words = left(&status(true, Some("0123"))).expect("drained").expect("held");
        assert!(words.starts_with("waiting for 1 job(s)"), "{words}");
    }

    #[test]
    fn a_drain_that_somebody_ended_is_not_waited_for() {
        assert!(left(&status(false, None)).is_err());
    }
}
