//! A shim's connection to the daemon, which may be away for a while.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::arguments::Call;
use crate::protocol::daemon::{FailureClass, ProcessId, Reply, Request};
use crate::protocol::frame::{Decoder, Kind, MESSAGE_MAX, encode};
use crate::protocol::stream;
use crate::sys::fds;

/// How long to wait for a daemon that is away when it has left no word of its own about that.
const DEFAULT_WAIT: Duration = Duration::from_secs(60);
/// Between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(100);
/// After this long the job log says what is waited for.
const SAY_SO: Duration = Duration::from_secs(2);

/// A connection that was served this long is no sign of a daemon that can't start.
const LASTING: Duration = Duration::from_secs(1);

/// What is sent with a request.
#[derive(Debug, Default)]
pub struct Attached {
    /// Frames behind it.
    pub frames: Vec<(Kind, Vec<u8>)>,
    /// A descriptor.
    pub fd: Option<OwnedFd>,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Link {
    /// The socket.
    pub socket: UnixStream,
    decoder: Decoder,
    fds: Vec<OwnedFd>,
}

impl Link {
    /// Connects once, without waiting.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        Ok(Self { socket, decoder: Decoder::new(MESSAGE_MAX), fds: Vec::new() })
    }

    /// Sends a request and what belongs to it.
    pub fn send(&self, request: &Request, behind: &Attached) -> io::Result<()> {
        let fds: Vec<_> = behind.fd.iter().map(AsFd::as_fd).collect();
        stream::send_with_fds(&self.socket, request, &fds)?;
        for (kind, bytes) in &behind.frames {
            io::Write::write_all(&mut &self.socket, &encode(*kind, bytes))?;
        }
        Ok(())
    }

    /// Waits for the next reply.
    pub fn receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(reply) = self.buffered()? {
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    /// A reply that has arrived already.
    pub fn buffered(&mut self) -> io::Result<Option<Reply>> {
        let frame = self.decoder.next_frame().map_err(stream::invalid)?;
        frame.map(|frame| frame.message().map_err(stream::invalid)).transpose()
    }

    /// Reads once what there is to read.
    pub fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8 * 1024];
        let (count, fds) = loop {
            match fds::receive(self.socket.as_fd(), &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.decoder.push(&buffer[..count]);
        self.fds.extend(fds);
        Ok(())
    }

    /// The descriptor that came with a reply.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop()
    }
}

/// What the daemon wrote beside its socket for the shims.
pub fn daemon_wait(socket: &Path) -> Duration {
    let read = || -> Option<Duration> {
        let text = std::fs::read(crate::protocol::daemon::shim_file(socket)).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        value.get("daemon_wait_ms")?.as_u64().map(Duration::from_millis)
    };
    read().unwrap_or(DEFAULT_WAIT)
}

/// Asks the daemon and waits for its answer, over restarts of the daemon too: `request` can be sent again until it was
/// answered. Lines for the job log go to `log`.
pub fn call(
    call: &Call,
    request: &Request,
    behind: &Attached,
    log: &mut dyn FnMut(&str),
) -> Result<(Reply, Link), Failure> {
    let wait = daemon_wait(&call.socket);
    let mut away = Away { since: Instant::now(), said: false };
    loop {
        let outcome = Link::connect(&call.socket).and_then(|link| ask(link, wait, request, behind, &mut away, log));
        let error = match outcome {
            Ok((Reply::Failed { class, message }, _)) => return Err(failed(class, message)),
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let socket = call.socket.display();
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                return Err(Failure::System(format!(
                    "this user may not use the daemon's socket {socket}: it has to be in the socket's group"
                )));
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let wait = wait.as_secs();
                return Err(Failure::System(format!(
                    "the daemon at {socket} has given no sign of life for {wait} s; its log may tell why"
                )));
            }
            io::ErrorKind::InvalidData => return Err(Failure::system(&format!("the daemon at {socket}"), error)),
            _ => {}
        }
        if away.since.elapsed() >= wait {
            let wait = wait.as_secs();
            return Err(Failure::System(format!(
                "no answer from the daemon at {socket} for {wait} s ({error}); is windlassd running?"
            )));
        }
        if !away.said && away.since.elapsed() >= SAY_SO {
            log(&format!("Waiting for windlassd at {socket}, up to {} s ({error})", wait.as_secs()));
            away.said = true;
        }
        thread::sleep(RETRY);
    }
}

/// Since when the daemon has not been heard, and whether the job log says so.
struct Away {
    since: Instant,
    said: bool,
}

fn ask(
    mut link: Link,
    wait: Duration,
    request: &Request,
    behind: &Attached,
    away: &mut Away,
    log: &mut dyn FnMut(&str),
) -> io::Result<(Reply, Link)> {
    let connected = Instant::now();
    // A daemon that works says so now and then.
    link.socket.set_read_timeout(Some(wait))?;
    // A daemon that refuses may close before it has read everything: its reason is waiting to be read all the same.
    let sent = link.send(request, behind);
    loop {
        match link.receive() {
            Ok(Reply::Log { text }) => log(&text),
            Ok(Reply::Working) => {}
            Ok(reply) => return Ok((reply, link)),
            Err(error) => {
                // It was there for a while, so the bound counts from now; one that always dies at once stays bounded.
                if connected.elapsed() >= LASTING {
                    away.since = Instant::now();
                }
                return Err(sent.err().unwrap_or(error));
            }
        }
    }
}

/// The daemon's verdict as a shim's.
pub fn failed(class: FailureClass, message: String) -> Failure {
    match class {
        FailureClass::Job => Failure::Job { message, code: 1 },
        FailureClass::System => Failure::System(message),
    }
}

/// The process that started this shim: gitlab-runner.
pub fn runner() -> ProcessId {
    identify(nix::unistd::getppid())
}

/// This shim.
pub fn this_process() -> ProcessId {
    identify(nix::unistd::getpid())
}

fn identify(pid: nix::unistd::Pid) -> ProcessId {
    ProcessId { pid: pid.as_raw(), start: crate::sys::process::start_time(pid).unwrap_or(0) }
}

/// Exits with the system's code at once when told to end: what these shims have asked for, the daemon ends by itself
/// when their connection closes.
pub fn exit_on_signals(code: u8) -> Result<(), Failure> {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register_conditional_shutdown(signal, code.into(), Arc::new(AtomicBool::new(true)))
            .map_err(|error| Failure::system("handle signals", error))?;
    }
    Ok(())
}
