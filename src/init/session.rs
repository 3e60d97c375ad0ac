//! `shell` mode: a shell for an administrator, beside whatever the job runs. It comes by `podman exec`; its bytes travel in frames on standard
//! input and output, and its terminal is made here, inside the container: no terminal of the host's ever is in it.
//!
//! It ends nothing but itself. What it leaves goes with the other processes of the container at the end of the stage.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, fchown};

use super::stage::DEFAULT_PATH;
use super::{environment, shell, users};
use crate::protocol::frame::{Decoder, Kind, STAGE_MAX, encode, encode_message};
use crate::protocol::shell::{FromShell, Start, ToShell};
use crate::sys::process::{pidfd, run_as};
use crate::sys::terminal;

/// Longest piece of output in one frame, and most of the input that waits to be read by the shell, in bytes.
const PIECE: usize = 64 * 1024;
/// How long output may be silent after the shell's end until it counts as complete: what runs on in the background may hold it open.
const SILENCE: Duration = Duration::from_millis(200);
/// From SIGHUP to SIGKILL for a shell whose caller is gone.
const HANG_UP: Duration = Duration::from_secs(2);
/// What the terminal takes for the end of the input.
const END_OF_INPUT: u8 = 4;

/// A shell that runs.
struct Session {
    child: Child,
    pidfd: OwnedFd,
    /// Where its input goes; none: it gets no more.
    input: Option<OwnedFd>,
    /// Input that it has not taken yet.
    pending: Vec<u8>,
    /// What it prints.
    outputs: Vec<(Kind, OwnedFd)>,
    /// Its terminal, if it has one.
    terminal: Option<OwnedFd>,
    ended: bool,
}

/// Runs one.
pub fn run() -> Result<()> {
    let mut decoder = Decoder::new(STAGE_MAX);
    let mut buffer = vec![0; PIECE];
    let start: Start = loop {
        if let Some(frame) = decoder.next_frame()? {
            break frame.message()?;
        }
        match io::stdin().read(&mut buffer).context("read standard input")? {
            0 => return Ok(()),
            count => decoder.push(&buffer[..count]),
        }
    };
    let mut session = match begin(&start) {
        Ok(session) => session,
        Err(message) => return say(&FromShell::Refused { message }),
    };
    say(&FromShell::Started)?;
    if !session.serve(&mut decoder)? {
        session.hang_up();
        return Ok(());
    }
    let status = session.child.wait().context("wait for the shell")?;
    use std::os::unix::process::ExitStatusExt;
    say(&FromShell::Ended { code: status.code(), signal: status.signal() })
}

/// Starts it; an error is for people.
fn begin(start: &Start) -> Result<Session, String> {
    let line = if start.command.is_empty() { shell::command_line(&[], Path::new("/"))? } else { start.command.clone() };
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    let identity = match &start.user {
        None => None,
        Some(name) => {
            let mut user = users::find(name)?;
            users::add_groups(&mut user.identity, &start.groups)?;
            command.env_clear().env("PATH", DEFAULT_PATH).env("HOME", &user.home);
            command.envs(environment::of_container(std::env::vars_os()));
            Some(user.identity)
        }
    };
    command.envs(start.environment.iter().map(|(key, value)| (key, value)));
    if let Some(directory) = &start.path {
        command.env("PATH", environment::extended_path(&start.environment, DEFAULT_PATH, directory));
    }
    command
        .current_dir(start.directories.iter().find(|path| path.is_dir()).map_or(Path::new("/"), |path| path.as_path()));
    match &identity {
        Some(identity) => run_as(&mut command, identity, start.umask),
        None => terminal::lead_session(&mut command),
    }
    let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut of_terminal = None;
    if let Some(size) = start.terminal {
        let pty = terminal::open().map_err(failed("the container gives no terminal"))?;
        terminal::set_size(pty.master.as_fd(), size.rows, size.columns).map_err(failed("set the terminal's size"))?;
        if let Some(identity) = &identity {
            // Where that is denied, the user can't open its terminal by name, and works in it all the same.
            let _ = fchown(&pty.slave, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)));
        }
        let copy = || pty.slave.try_clone().map(Stdio::from).map_err(failed("share the terminal"));
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        terminal::take_terminal(&mut command);
        of_terminal = Some(pty.master);
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|error| format!("cannot start {} in the container: {error}", line[0]))?;
    // Its ends of the terminal are the child's alone from here on.
    drop(command);
    let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(|error| error.to_string())?;
    let pidfd = pidfd(pid).map_err(failed("watch the shell"))?;
    let mut outputs: Vec<(Kind, OwnedFd)> = Vec::new();
    let input = match &of_terminal {
        Some(master) => {
            outputs.push((Kind::Stdout, master.try_clone().map_err(failed("share the terminal"))?));
            Some(master.try_clone().map_err(failed("share the terminal"))?)
        }
        None => {
            outputs.extend(child.stdout.take().map(|pipe| (Kind::Stdout, pipe.into())));
            outputs.extend(child.stderr.take().map(|pipe| (Kind::Stderr, pipe.into())));
            child.stdin.take().map(OwnedFd::from)
        }
    };
    for fd in input.iter().chain(outputs.iter().map(|(_, fd)| fd)) {
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|error| format!("set the shell's pipes up: {error}"))?;
    }
    Ok(Session { child, pidfd, input, pending: Vec::new(), outputs, terminal: of_terminal, ended: false })
}

impl Session {
    /// Passes everything on until the shell has ended and its output is out; false when the caller is gone.
    fn serve(&mut self, decoder: &mut Decoder) -> Result<bool> {
        let stdin = io::stdin();
        let mut buffer = vec![0; PIECE];
        let mut closing = false;
        loop {
            if !self.take_frames(decoder, &mut closing)? {
                return Ok(false);
            }
            if self.ended && self.outputs.is_empty() {
                return Ok(true);
            }
            if closing && self.pending.is_empty() && self.terminal.is_none() {
                self.input = None;
            }
            let mut set = vec![
                PollFd::new(
                    stdin.as_fd(),
                    if self.pending.len() < PIECE { PollFlags::POLLIN } else { PollFlags::empty() },
                ),
                PollFd::new(self.pidfd.as_fd(), if self.ended { PollFlags::empty() } else { PollFlags::POLLIN }),
            ];
            let writing = self.input.as_ref().filter(|_| !self.pending.is_empty());
            set.extend(writing.map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLOUT)));
            let first = set.len();
            set.extend(self.outputs.iter().map(|(_, fd)| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
            let silence = PollTimeout::try_from(SILENCE.as_millis()).unwrap_or(PollTimeout::MAX);
            let count = match poll(&mut set, if self.ended { silence } else { PollTimeout::NONE }) {
                Err(Errno::EINTR) => continue,
                result => result.context("wait for the shell")?,
            };
            let ready = |index: usize| set.get(index).is_some_and(|polled| polled.any().unwrap_or(true));
            let (incoming, gone) = (ready(0), ready(1));
            let writable = first > 2 && ready(2);
            let printed: Vec<bool> = (first..set.len()).map(ready).collect();
            drop(set);
            if self.ended && count == 0 {
                return Ok(true);
            }
            self.ended |= gone;
            if incoming {
                match stdin.lock().read(&mut buffer).context("read standard input")? {
                    0 => return Ok(false),
                    count => decoder.push(&buffer[..count]),
                }
            }
            if writable {
                self.feed();
            }
            for index in (0..printed.len()).rev().filter(|index| printed[*index]) {
                if !copy(&self.outputs[index], &mut buffer)? {
                    self.outputs.remove(index);
                }
            }
        }
    }

    /// Takes what has come whole; false when it is nothing that the command says.
    fn take_frames(&mut self, decoder: &mut Decoder, closing: &mut bool) -> Result<bool> {
        while let Some(frame) = decoder.next_frame()? {
            match frame.kind {
                Kind::Stdin if frame.body.is_empty() => {
                    *closing = true;
                    if self.terminal.is_some() {
                        self.pending.push(END_OF_INPUT);
                    }
                }
                Kind::Stdin if self.input.is_some() => self.pending.extend(frame.body),
                Kind::Stdin => {}
                Kind::Message => {
                    let ToShell::Resize(size) = frame.message()?;
                    if let Some(terminal) = &self.terminal {
                        // One that is gone has no size.
                        let _ = terminal::set_size(terminal.as_fd(), size.rows, size.columns);
                    }
                }
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Gives the shell of its input what it takes now.
    fn feed(&mut self) {
        let Some(input) = &self.input else { return };
        match nix::unistd::write(input, &self.pending) {
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // It reads no more.
            Err(_) => {
                self.input = None;
                self.pending.clear();
            }
        }
    }

    /// Ends a shell whose caller is gone, as the end of a terminal line does.
    fn hang_up(mut self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        let _ = killpg(group, Signal::SIGHUP);
        // With the last descriptor of a terminal its foreground processes get the signal too.
        (self.input, self.terminal) = (None, None);
        self.outputs.clear();
        let mut set = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(HANG_UP.as_millis()).unwrap_or(PollTimeout::MAX);
        if !matches!(poll(&mut set, limit), Ok(1..)) {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Passes a piece of output on; false at its end. A terminal whose last process is gone says EIO.
fn copy((kind, from): &(Kind, OwnedFd), buffer: &mut [u8]) -> Result<bool> {
    match nix::unistd::read(from.as_fd(), buffer) {
        Ok(0) | Err(Errno::EIO) => Ok(false),
        Ok(count) => print(&encode(*kind, &buffer[..count])).map(|()| true),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(true),
        Err(error) => Err(error).with_context(|| format!("read descriptor {}", from.as_raw_fd())),
    }
}

fn say(message: &FromShell) -> Result<()> {
    print(&encode_message(message))
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.flush()).context("write standard output")
}
