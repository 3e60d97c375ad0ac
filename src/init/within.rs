//! `windlass-init within`: a program that gets a bounded time. A check of health (HEALTHCHECK) that hangs is ended where it runs:
//! a `podman exec` that is ended leaves its program behind.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Runs the program of this line with whatever it starts, for so many milliseconds; what it prints is lost.
///
/// # Errors
/// When it does not end in time, or not well.
pub fn run(milliseconds: &str, line: &[String]) -> Result<()> {
    let limit = milliseconds.parse().map(Duration::from_millis);
    let limit = limit.with_context(|| format!("{milliseconds:?} is no number of milliseconds"))?;
    let Some((program, arguments)) = line.split_first() else { bail!("there is no program to run") };
    let mut command = Command::new(program);
    // Without a stream of this process's: what goes on in the background must not hold it open.
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {program}"))?;
    let group = Pid::from_raw(i32::try_from(child.id())?);
    let (sender, receiver) = mpsc::sync_channel(1);
    let waiter = std::thread::spawn(move || {
        // Nobody listens any more when its time was over.
        let _ = sender.send(child.wait());
    });
    match receiver.recv_timeout(limit) {
        Ok(status) => match status.with_context(|| format!("wait for {program}"))? {
            status if status.success() => Ok(()),
            status => bail!("{program}: {status}"),
        },
        Err(_) => {
            // Not yet waited for, or gone this moment.
            let _ = killpg(group, Signal::SIGKILL);
            // Else it would be a zombie of the service's.
            let _ = waiter.join();
            bail!("{program} has not ended within {limit:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(limit: &str, script: &str) -> Result<()> {
        run(limit, &["sh", "-c", script].map(str::to_owned))
    }

    #[test]
    fn a_program_that_ends_in_time_says_how_it_is() {
        assert!(shell("60000", "true").is_ok());
        assert!(shell("60000", "exit 3").expect_err("it failed").to_string().contains('3'));
        assert!(run("60000", &["/does/not/exist".to_owned()]).is_err());
        assert!(run("soon", &["true".to_owned()]).is_err() && run("1", &[]).is_err());
    }

    #[test]
    fn one_that_hangs_is_ended_with_what_it_has_started() {
        let directory = tempfile::tempdir().expect("tempdir");
        let file = directory.path().join("child");
        let since = Instant::now();
        let hangs = format!("sleep 1000 & echo $! >'{}'; wait", file.display());
        assert!(shell("300", &hangs).expect_err("it hangs").to_string().contains("within"));
        assert!(since.elapsed() < Duration::from_secs(500));
        let child: i32 = std::fs::read_to_string(file).expect("it began").trim().parse().expect("an id");
        // It was killed; its end comes when it has a turn, and nobody waits for it here.
        let lives = || {
            let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            !(state.is_empty() || state.contains(") Z") || state.contains(") X"))
        };
        while lives() {
            assert!(since.elapsed() < Duration::from_secs(60), "it runs on");
            std::thread::yield_now();
        }
    }
}
