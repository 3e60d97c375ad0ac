//! What `windlass-run` does while its stage runs: talks to the container's init, stays in touch with the daemon, and passes a
//! termination on.
//!
//! The init holds the runner's pipes and may be frozen or lie. So it has to give a sign of life within grace and margin, and
//! a terminated stage has to end within them; else the daemon is asked to end the container.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::arguments::Call;
use super::link::{Attached, Link, daemon_wait};
use super::script::{Sink, feed};
use super::words::{self, Words};
use super::{Failure, missed};
use crate::protocol::daemon::{
    FailureClass, MissedStage, Reply as DaemonReply, Request as DaemonRequest, StageReady, StageStop,
};
use crate::protocol::frame::{Decoder, Kind, MESSAGE_MAX, encode};
use crate::protocol::init::{Exited, Reply, Request};
use crate::protocol::stream;
use crate::sys::process;

/// How often the init is asked for a sign of life, at most.
const PING: Duration = Duration::from_secs(5);
/// How often a daemon that went away is looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How long the daemon may take to say why a container is gone.
const WHY: Duration = Duration::from_secs(10);

/// How a stage came to its end.
#[derive(Debug)]
pub enum Outcome {
    /// The init reported its end.
    Exited {
        /// What it reported.
        exited: Exited,
        /// Whether the shim had been told to end it.
        terminated: bool,
    },
    /// It could not be started.
    Refused(FailureClass, String),
    /// The container or its init is lost; why.
    Lost(String),
}

/// The state of a running stage.
#[derive(Debug)]
pub struct StageLoop<'a> {
    call: &'a Call,
    daemon: Option<Link>,
    attach: DaemonRequest,
    next_look: Instant,
    init: UnixStream,
    decoder: Decoder,
    pass_pipes: bool,
    signals: io::PipeReader,
    /// Grace and margin together.
    bound: Duration,
    /// Since when a sign of life was asked for and has not come.
    asked: Option<Instant>,
    last_ping: Instant,
    terminated: Option<Instant>,
    sinks: Vec<Sink>,
    words: Words,
    /// Whether words of services come behind the stage's end.
    service_logs: bool,
    /// Whether whole words of it may wait unread, which had no room.
    behind: bool,
}

impl<'a> StageLoop<'a> {
    /// Takes over the connections to daemon and init.
    pub fn new(
        call: &'a Call,
        daemon: Link,
        init: OwnedFd,
        ready: &StageReady,
        signals: io::PipeReader,
        attach: DaemonRequest,
    ) -> Result<Self, Failure> {
        let bound = Duration::from_millis(ready.grace_ms.saturating_add(ready.margin_ms));
        let init = UnixStream::from(init);
        init.set_nonblocking(false)
            .and_then(|()| init.set_write_timeout(Some(bound)))
            .map_err(|error| Failure::system("set up the connection to the container's init", error))?;
        let now = Instant::now();
        Ok(Self {
            call,
            daemon: Some(daemon),
            attach,
            next_look: now,
            init,
            decoder: Decoder::new(MESSAGE_MAX),
            pass_pipes: ready.pass_pipes,
            signals,
            bound,
            asked: None,
            last_ping: now,
            terminated: None,
            sinks: Vec::new(),
            words: Words::default(),
            service_logs: ready.service_logs,
            behind: false,
        })
    }

    /// Runs the stage with this script.
    pub fn run(mut self, script: File, variables: Vec<(String, String)>) -> Result<Outcome, Failure> {
        if let Err(error) = self.begin(script, variables) {
            return Ok(self.lost(&format!("the container's init took no orders: {error}")));
        }
        loop {
            let full = self.behind || !self.words.take_more();
            let (init, daemon, signal) = self.wait(full)?;
            if signal {
                self.terminate();
            }
            let said = match (daemon, full) {
                (true, _) => self.hear_daemon(),
                // What has come already, and had no room.
                (false, true) => self.daemon_said(),
                (false, false) => None,
            };
            if let Some(reason) = said {
                return Ok(Outcome::Lost(reason));
            }
            if init {
                match self.hear_init() {
                    Ok(Some(outcome)) => return Ok(self.finish(outcome)),
                    Ok(None) => {}
                    Err(error) => {
                        let reason = if error.kind() == io::ErrorKind::UnexpectedEof {
                            "the job's container ended in the middle of the stage".to_owned()
                        } else {
                            format!("the container's init talks nonsense: {error}")
                        };
                        return Ok(self.lost(&reason));
                    }
                }
            }
            if !init && let Some(reason) = self.overdue(Instant::now()) {
                return Ok(self.lost(&reason));
            }
            self.keep_in_touch();
        }
    }

    fn begin(&mut self, script: File, variables: Vec<(String, String)>) -> io::Result<()> {
        let begin = Request::Begin { variables };
        if self.pass_pipes {
            let stdin = feed(script)?;
            let stdout = Sink::new(io::stdout())?;
            let stderr = Sink::new(io::stderr())?;
            stream::send_with_fds(&self.init, &begin, &[stdin.as_fd(), stdout.pipe.as_fd(), stderr.pipe.as_fd()])?;
            self.sinks = vec![stdout, stderr];
        } else {
            stream::send(&self.init, &begin)?;
            let (mut init, mut script) = (&self.init, script);
            // The relay at the other end takes it all in before it passes it on: nothing can block for long.
            let mut piece = vec![0; MESSAGE_MAX];
            loop {
                let count = script.read(&mut piece)?;
                init.write_all(&encode(Kind::Stdin, &piece[..count]))?;
                if count == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits for the init, the daemon, a signal or the next duty; says which of the three has something. `full`: the job log takes no more
    /// of the daemon's words, so the daemon waits.
    fn wait(&self, full: bool) -> Result<(bool, bool, bool), Failure> {
        let mut set = vec![
            PollFd::new(self.init.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        let mut timeout = self.ping_every();
        if full {
            timeout = timeout.min(words::LOOK);
        } else if let Some(daemon) = &self.daemon {
            set.push(PollFd::new(daemon.socket.as_fd(), PollFlags::POLLIN));
        } else {
            timeout = timeout.min(LOOK);
        }
        let timeout = PollTimeout::try_from(timeout.as_millis()).unwrap_or(PollTimeout::MAX);
        match poll(&mut set, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok((false, false, false)),
            Err(error) => return Err(Failure::system("wait for the stage", error)),
        }
        let ready = |index: usize| set.get(index).is_some_and(|polled| polled.any().unwrap_or(true));
        Ok((ready(0), ready(2), ready(1)))
    }

    fn ping_every(&self) -> Duration {
        PING.min(self.bound / 3).max(Duration::from_millis(10))
    }

    /// Reads once from the init and takes every whole frame.
    fn hear_init(&mut self) -> io::Result<Option<Outcome>> {
        let mut buffer = [0; 64 * 1024];
        // Plain read(2): what descriptors a hostile init attaches, the kernel drops.
        let count = match self.init.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Err(error) => return Err(error),
        };
        self.decoder.push(&buffer[..count]);
        while let Some(frame) = self.decoder.next_frame().map_err(stream::invalid)? {
            self.asked = None;
            match frame.kind {
                // Nobody to write to is no reason to end the stage.
                Kind::Stdout if !self.pass_pipes => {
                    drop(io::stdout().write_all(&frame.body).and_then(|()| io::stdout().flush()))
                }
                Kind::Stderr if !self.pass_pipes => drop(io::stderr().write_all(&frame.body)),
                _ => match frame.message().map_err(stream::invalid)? {
                    Reply::Exited(exited) => {
                        return Ok(Some(Outcome::Exited { exited, terminated: self.terminated.is_some() }));
                    }
                    Reply::Refused { class, message } => return Ok(Some(Outcome::Refused(class, message))),
                    Reply::Started | Reply::Pong | Reply::Ready { .. } | Reply::Idle => {}
                },
            }
        }
        Ok(None)
    }

    /// Reads from the daemon; a reason when it has ended the job.
    fn hear_daemon(&mut self) -> Option<String> {
        let daemon = self.daemon.as_mut()?;
        if daemon.fill().is_err() {
            // Restarting, most likely. The stage goes on.
            self.daemon = None;
            return None;
        }
        self.daemon_said()
    }

    fn daemon_said(&mut self) -> Option<String> {
        self.behind = false;
        while self.words.take_more() {
            match self.daemon.as_mut()?.buffered() {
                Ok(Some(DaemonReply::Failed { message, .. })) => return Some(message),
                Ok(Some(DaemonReply::Log { text })) => self.words.say(text),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(_) => {
                    self.daemon = None;
                    return None;
                }
            }
        }
        self.behind = true;
        None
    }

    fn terminate(&mut self) {
        let mut bytes = [0; 16];
        // What matters is that there was a signal.
        let _ = self.signals.read(&mut bytes);
        if self.terminated.is_none() {
            self.terminated = Some(Instant::now());
            // An init that can't take it is noticed by its silence.
            let _ = stream::send(&self.init, &Request::Terminate);
        }
    }

    /// Why the init has to be given up, if it has. Asked only when there is nothing to read from it: a shim that did not get to
    /// run for a while blames nobody for that.
    fn overdue(&self, now: Instant) -> Option<String> {
        let seconds = self.bound.as_secs_f32();
        let over = |since: Option<Instant>| since.is_some_and(|since| now > since + self.bound);
        if over(self.terminated) {
            return Some(format!("the stage did not end within {seconds} s of its termination"));
        }
        over(self.asked).then(|| format!("the container's init has been silent for {seconds} s"))
    }

    /// Asks the init for a sign of life, and looks for a daemon that went away.
    fn keep_in_touch(&mut self) {
        let now = Instant::now();
        if now >= self.last_ping + self.ping_every() {
            self.last_ping = now;
            self.asked.get_or_insert(now);
            // An init that can't take it is noticed by its silence.
            let _ = stream::send(&self.init, &Request::Ping);
        }
        if self.daemon.is_none() && now >= self.next_look {
            self.next_look = now + LOOK;
            self.daemon = self.reconnect();
        }
    }

    fn reconnect(&self) -> Option<Link> {
        let link = Link::connect(&self.call.socket).ok()?;
        link.send(&self.attach, &Attached::default()).ok()?;
        Some(link)
    }

    /// Gives the container up: the daemon ends it and may know more of the reason.
    fn lost(mut self, reason: &str) -> Outcome {
        let wait = WHY.max(self.bound);
        let until = Instant::now() + wait.min(daemon_wait(&self.call.socket));
        while Instant::now() < until {
            if self.daemon.is_none() {
                self.daemon = self.reconnect();
            }
            let Some(daemon) = &mut self.daemon else {
                std::thread::sleep(LOOK);
                continue;
            };
            let told = daemon.socket.set_read_timeout(Some(wait)).and_then(|()| {
                daemon.send(&DaemonRequest::StageLost { reason: reason.to_owned() }, &Attached::default())
            });
            if told.is_err() {
                self.daemon = None;
                continue;
            }
            loop {
                match self.daemon.as_mut().map(Link::receive) {
                    Some(Ok(DaemonReply::Failed { message, .. })) => return Outcome::Lost(message),
                    Some(Ok(_)) => {}
                    _ => {
                        self.daemon = None;
                        break;
                    }
                }
            }
        }
        Outcome::Lost(format!("{reason}; windlassd could not be asked why"))
    }

    /// Waits for what is left of the output and tells the daemon.
    fn finish(mut self, outcome: Outcome) -> Outcome {
        for sink in self.sinks.drain(..) {
            sink.finish(self.bound);
        }
        let (usage, code, stop) = match &outcome {
            Outcome::Exited { exited, terminated } => {
                (Some(exited.usage), exited.code.filter(|_| !terminated), stop(exited, *terminated))
            }
            Outcome::Refused(class, _) => (None, None, Some(StageStop::Refused(*class))),
            Outcome::Lost(_) => (None, None, Some(StageStop::Lost)),
        };
        let done = DaemonRequest::StageDone { usage, code, stop };
        let told = self.daemon.as_ref().is_some_and(|daemon| daemon.send(&done, &Attached::default()).is_ok());
        if let (false, DaemonRequest::Stage { stage, .. }) = (told, &self.attach) {
            missed::leave(&MissedStage { stage: stage.clone(), code, stop, ended: process::boot_millis() });
        }
        if let (true, true, Some(daemon)) = (told, self.service_logs, &mut self.daemon) {
            self.words.hear_the_last(daemon);
        }
        std::mem::take(&mut self.words).finish(self.bound);
        match outcome {
            // A signal of the last moment: after it there is no success.
            Outcome::Exited { exited, terminated } => {
                Outcome::Exited { exited, terminated: terminated || self.signalled() }
            }
            other => other,
        }
    }

    /// Whether a signal waits to be read.
    fn signalled(&self) -> bool {
        let mut set = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        poll(&mut set, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }
}

/// How a stage ended, where that is no exit code of its own.
fn stop(exited: &Exited, terminated: bool) -> Option<StageStop> {
    match (exited.code, exited.signal) {
        _ if terminated => Some(StageStop::Terminated),
        (Some(code), None) if u8::try_from(code).is_ok() => None,
        (None, Some(signal)) => Some(StageStop::Signal(signal)),
        _ => Some(StageStop::Lost),
    }
}
