//! A stage that runs: its shell, its pipes, and the way to its end.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::wait::WaitStatus;
use nix::unistd::{Gid, Pid, Uid, fchown};

use super::pump::{Pump, pipe};
use super::usage::Snapshot;
use super::{environment, shell, users};
use crate::protocol::daemon::FailureClass;
use crate::protocol::init::{Exited, Stage};
use crate::sys::process::{Identity, run_as};

/// PATH of an image that sets none, as podman has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often processes that were killed are looked for again: some fork faster than one signal reaches them all.
const KILL_AGAIN: Duration = Duration::from_millis(10);

/// Where a stage is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The shell runs.
    Running,
    /// Every process was asked to end; at this time they are killed.
    Terminating(Instant),
    /// Every process was killed; some have not gone yet.
    Killing,
    /// No process is left; the last output is on its way. With a time when nobody may be there to read it.
    Draining(Option<Instant>),
    /// All done.
    Over,
}

/// A stage that runs.
#[derive(Debug)]
pub struct Running {
    main: Pid,
    ended: Option<Exited>,
    phase: Phase,
    /// stdin, stdout and stderr, until each has come to its end.
    pub pumps: [Option<Pump>; 3],
    grace: Duration,
    before: Snapshot,
    caller_gone: bool,
}

impl Running {
    /// Starts the stage's shell. `pipes`: stdin to read from, stdout and stderr to write to.
    ///
    /// # Errors
    /// A message for the job log, and whose failure it is.
    pub fn start(stage: &Stage, pipes: Vec<OwnedFd>) -> Result<Self, (FailureClass, String)> {
        let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(pipes).map_err(|pipes| {
            let count = pipes.len();
            let hint = "does this host's SELinux policy keep them out? [job] exec = \"podman\" works without";
            (FailureClass::System, format!("{count} of 3 pipes arrived in the container; {hint}"))
        })?;
        let job = |message| (FailureClass::Job, message);
        let mut user = users::find(&stage.user).map_err(job)?;
        users::add_groups(&mut user.identity, &stage.groups).map_err(job)?;
        let line = if stage.command.is_empty() {
            shell::command_line(&stage.entrypoint, Path::new("/")).map_err(job)?
        } else {
            stage.command.clone()
        };
        let failed = |error: std::io::Error| (FailureClass::System, format!("cannot make the stage's pipes: {error}"));
        let (child_stdin, to_stdin) = pipe().map_err(failed)?;
        let (from_stdout, child_stdout) = pipe().map_err(failed)?;
        let (from_stderr, child_stderr) = pipe().map_err(failed)?;
        for fd in [&child_stdin, &child_stdout, &child_stderr] {
            give(fd, &user.identity);
        }
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env_clear().env("PATH", DEFAULT_PATH).env("HOME", &user.home);
        command.envs(environment::of_container(std::env::vars_os()));
        command.envs(stage.environment.iter().map(|(key, value)| (key, value)));
        if let Some(directory) = &stage.path {
            command.env("PATH", environment::extended_path(&stage.environment, DEFAULT_PATH, directory));
        }
        command.stdin(Stdio::from(child_stdin)).stdout(Stdio::from(child_stdout)).stderr(Stdio::from(child_stderr));
        run_as(&mut command, &user.identity, stage.umask);
        let before = Snapshot::take();
        let child = command
            .spawn()
            .map_err(|error| (class_of(&error), format!("cannot start {} in the image: {error}", line[0])))?;
        let main =
            i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| (FailureClass::System, error.to_string()))?;
        Ok(Self {
            main,
            ended: None,
            phase: Phase::Running,
            pumps: [
                Some(Pump::new(stdin, to_stdin)),
                Some(Pump::new(from_stdout, stdout)),
                Some(Pump::new(from_stderr, stderr)),
            ],
            grace: Duration::from_millis(stage.grace_ms),
            before,
            caller_gone: false,
        })
    }

    /// Notes the end of a process, if it is the stage's shell.
    pub fn reaped(&mut self, status: WaitStatus) {
        let ended = match status {
            WaitStatus::Exited(pid, code) if pid == self.main => Exited { code: Some(code), ..Exited::default() },
            WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                Exited { signal: Some(signal as i32), ..Exited::default() }
            }
            _ => return,
        };
        self.ended = Some(ended);
    }

    /// Asks every process to end.
    pub fn terminate(&mut self, now: Instant) {
        if self.phase == Phase::Running {
            signal_all(Signal::SIGTERM);
            self.phase = Phase::Terminating(now + self.grace);
        }
    }

    /// The shim is gone: nobody waits for the result, and perhaps nobody reads the output.
    pub fn abandon(&mut self, now: Instant) {
        self.caller_gone = true;
        self.terminate(now);
        if let Phase::Draining(until) = &mut self.phase {
            *until = Some(now + self.grace);
        }
    }

    /// Goes on as far as it can. `processes_left`: whether this init still has processes.
    pub fn advance(&mut self, now: Instant, processes_left: bool) {
        if self.phase == Phase::Running && self.ended.is_some() {
            self.kill_all();
        }
        if let Phase::Terminating(until) = self.phase
            && processes_left
            && now >= until
        {
            self.kill_all();
        }
        if matches!(self.phase, Phase::Terminating(_) | Phase::Killing) {
            if processes_left {
                if self.phase == Phase::Killing {
                    signal_all(Signal::SIGKILL);
                }
            } else {
                // Nobody is left to read the script, and the ends of the other pipes are their last writers' ends.
                self.pumps[0] = None;
                self.phase = Phase::Draining(self.caller_gone.then(|| now + self.grace));
            }
        }
        if let Phase::Draining(until) = self.phase {
            let drained = self.pumps.iter().all(Option::is_none);
            if drained || until.is_some_and(|until| now >= until) {
                self.pumps = [None, None, None];
                self.phase = Phase::Over;
            }
        }
    }

    fn kill_all(&mut self) {
        signal_all(Signal::SIGKILL);
        self.phase = Phase::Killing;
    }

    /// When [`Running::advance`] has to be called again at the latest.
    pub fn wake_at(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Terminating(until) => Some(until),
            Phase::Killing => Some(now + KILL_AGAIN),
            Phase::Draining(until) => until,
            Phase::Running | Phase::Over => None,
        }
    }

    /// How it ended, once it is over.
    pub fn result(&self) -> Option<Exited> {
        if self.phase != Phase::Over {
            return None;
        }
        // Without a status of its own the shell went down with the rest.
        let ended = self.ended.unwrap_or(Exited { signal: Some(Signal::SIGKILL as i32), ..Exited::default() });
        Some(Exited { usage: Snapshot::take().since(self.before), ..ended })
    }
}

/// A program that is missing or can't be run is the image's fault; a host without processes or memory is not.
fn class_of(error: &std::io::Error) -> FailureClass {
    match error.raw_os_error() {
        // Too long an environment (E2BIG) is the job's own doing.
        Some(nix::libc::EAGAIN | nix::libc::ENOMEM | nix::libc::EMFILE | nix::libc::ENFILE) => FailureClass::System,
        _ => FailureClass::Job,
    }
}

/// Makes a pipe the stage's user's own: otherwise it can't open /dev/stdout and /dev/stderr.
fn give(fd: &OwnedFd, identity: &Identity) {
    if fchown(fd, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid))).is_err() {
        // Without CAP_CHOWN. If this fails too, only those two names do not work.
        let _ = fchmod(fd, Mode::from_bits_truncate(0o666));
    }
}

/// Signals every process of the container but process 1 and this one.
fn signal_all(signal: Signal) {
    match kill(Pid::from_raw(-1), signal) {
        // None there is as good as signalled.
        Ok(()) | Err(Errno::ESRCH) => {}
        // A policy forbids it (seccomp, for example): the daemon kills the container when the bound is over.
        Err(error) => eprintln!("windlass-init: cannot signal the stage's processes: {error}"),
    }
}
