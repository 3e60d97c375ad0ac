//! The init's loop: connections, one stage at a time, and the reaping of every orphan.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::connection::{Connection, Role};
use super::stage::Running;
use super::{environment, shell, uninterrupted, users};
use crate::protocol::daemon::FailureClass;
use crate::protocol::init::{Exited, Reply, Request};

/// Connections at once; more are closed. A job has one for its stage, and the daemon now and then another.
const CONNECTIONS_MAX: usize = 32;

/// What a polled descriptor belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    Pump(usize),
}

/// The init's state.
#[derive(Debug)]
pub struct Engine {
    listener: Option<UnixListener>,
    signals: SignalFd,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// The stage that runs, and the connection that wanted it.
    stage: Option<(u64, Running)>,
    /// Ends when this connection and its stage have (`exec` mode).
    single: bool,
}

impl Engine {
    /// An engine that takes connections from `listener`, or serves just one.
    pub fn new(listener: Option<UnixListener>, single: Option<UnixStream>) -> Result<Self> {
        block_signals()?;
        let set = own_signals();
        let signals =
            SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("make a signalfd")?;
        let mut engine =
            Self { listener, signals, connections: BTreeMap::new(), next: 0, stage: None, single: single.is_some() };
        if let Some(socket) = single {
            engine.add(socket);
        }
        Ok(engine)
    }

    /// Serves until told to end (SIGTERM), or until its one connection is done.
    pub fn run(mut self) -> Result<()> {
        let mut processes_left = false;
        loop {
            let now = Instant::now();
            if let Some((_, running)) = &mut self.stage {
                running.advance(now, processes_left);
            }
            self.finish_stage();
            self.begin_next();
            if self.single && self.connections.is_empty() && self.stage.is_none() {
                return Ok(());
            }
            for source in self.wait(now)? {
                match source {
                    Source::Signals => {
                        if self.told_to_end() {
                            // The other processes of the container end with process 1.
                            return Ok(());
                        }
                    }
                    Source::Listener => self.accept(),
                    Source::Connection(id) => self.serve(id),
                    Source::Pump(index) => self.pump(index),
                }
            }
            processes_left = self.reap();
        }
    }

    /// Waits until something is to do; returns what.
    fn wait(&self, now: Instant) -> Result<Vec<Source>> {
        let mut sources = vec![(Source::Signals, self.signals.as_fd(), PollFlags::POLLIN)];
        if let Some(listener) = &self.listener {
            sources.push((Source::Listener, listener.as_fd(), PollFlags::POLLIN));
        }
        for (id, connection) in &self.connections {
            let output = if connection.has_output() { PollFlags::POLLOUT } else { PollFlags::empty() };
            sources.push((Source::Connection(*id), connection.socket.as_fd(), PollFlags::POLLIN | output));
        }
        let mut wake = None;
        if let Some((_, running)) = &self.stage {
            wake = running.wake_at(now);
            for (index, pump) in running.pumps.iter().enumerate() {
                if let Some(pump) = pump {
                    let (fd, flags): (BorrowedFd<'_>, PollFlags) = pump.interest();
                    sources.push((Source::Pump(index), fd, flags));
                }
            }
        }
        let timeout = match wake {
            None => PollTimeout::NONE,
            // Rounded up: waking too early would only mean another turn.
            Some(at) => {
                PollTimeout::try_from(at.saturating_duration_since(now).as_millis() + 1).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut set: Vec<PollFd<'_>> = sources.iter().map(|(_, fd, flags)| PollFd::new(*fd, *flags)).collect();
        match poll(&mut set, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for something to do"),
        }
        let ready = set.iter().zip(&sources).filter(|(polled, _)| polled.any().unwrap_or(true));
        Ok(ready.map(|(_, (source, _, _))| *source).collect())
    }

    /// Reads the signals; true when one of them asks this init to end.
    fn told_to_end(&mut self) -> bool {
        let mut end = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            // A sender outside this container's process namespace has no number here. The job has no say in this.
            end |= signal.ssi_signo != Signal::SIGCHLD as u32 && signal.ssi_pid == 0;
        }
        end
    }

    /// Reaps what has ended; true while this init has processes.
    fn reap(&mut self) -> bool {
        loop {
            match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return true,
                Ok(status) => {
                    if let Some((_, running)) = &mut self.stage {
                        running.reaped(status);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        if let Ok((socket, _)) = listener.accept() {
            self.add(socket);
        }
    }

    fn add(&mut self, socket: UnixStream) {
        if self.connections.len() < CONNECTIONS_MAX
            && let Ok(connection) = Connection::new(socket)
        {
            self.connections.insert(self.next, connection);
            self.next += 1;
        }
    }

    fn serve(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (requests, mut alive) = connection.read();
        for request in requests {
            alive = alive && self.answer(id, request);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            alive = alive && connection.flush();
        }
        if !alive {
            self.connections.remove(&id);
            if let Some((owner, running)) = &mut self.stage
                && *owner == id
            {
                running.abandon(Instant::now());
            }
        }
    }

    /// Does what a connection asks; false when the connection is of no more use.
    fn answer(&mut self, id: u64, request: Request) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        match request {
            Request::Ping => connection.send(&Reply::Pong),
            Request::Probe { user, entrypoint } => {
                let found = users::find(&user);
                let found = found.and_then(|user| shell::command_line(&entrypoint, Path::new("/")).map(|_| user));
                let reply = match found {
                    Ok(users::User { identity, .. }) => Reply::Ready { ids: Some((identity.uid, identity.gid)) },
                    Err(message) => Reply::Refused { class: FailureClass::Job, message },
                };
                connection.send(&reply)
            }
            Request::Stage(stage) if matches!(connection.role, Role::Idle) => {
                connection.role = Role::Told(Box::new(stage));
                true
            }
            Request::Begin { variables } => {
                let pipes = connection.take_fds();
                match std::mem::replace(&mut connection.role, Role::Idle) {
                    Role::Told(mut stage) => {
                        stage.environment.extend(environment::of_job(variables, &stage.files));
                        connection.role = Role::Queued(stage, pipes);
                        true
                    }
                    _ => false,
                }
            }
            Request::Terminate => match (&connection.role, &mut self.stage) {
                (Role::Running, Some((owner, running))) if *owner == id => {
                    running.terminate(Instant::now());
                    true
                }
                (Role::Queued(..), _) => {
                    connection.role = Role::Idle;
                    connection
                        .send(&Reply::Exited(Exited { signal: Some(Signal::SIGTERM as i32), ..Exited::default() }))
                }
                _ => true,
            },
            Request::WaitIdle => {
                if self.stage.is_none() {
                    connection.send(&Reply::Idle)
                } else {
                    connection.role = Role::WaitsIdle;
                    true
                }
            }
            Request::Stage(_) => false,
        }
    }

    fn pump(&mut self, index: usize) {
        if let Some((_, running)) = &mut self.stage
            && let Some(pump) = &mut running.pumps[index]
            // A pipe that fails has nothing more to give; its stage goes on.
            && pump.step().unwrap_or(true)
        {
            running.pumps[index] = None;
        }
    }

    /// Reports a stage that is over.
    fn finish_stage(&mut self) {
        let Some((owner, result)) = self.stage.as_ref().and_then(|(owner, running)| Some((*owner, running.result()?)))
        else {
            return;
        };
        self.stage = None;
        self.reply(owner, &Reply::Exited(result));
        let waiting: Vec<u64> =
            self.connections.iter().filter(|(_, c)| matches!(c.role, Role::WaitsIdle)).map(|(id, _)| *id).collect();
        for id in waiting {
            self.reply(id, &Reply::Idle);
        }
    }

    /// Starts the stage that has waited longest, when none runs.
    fn begin_next(&mut self) {
        while self.stage.is_none() {
            let queued =
                self.connections.iter_mut().find(|(_, connection)| matches!(connection.role, Role::Queued(..)));
            let Some((&id, connection)) = queued else { return };
            let Role::Queued(stage, pipes) = std::mem::replace(&mut connection.role, Role::Running) else { return };
            match Running::start(&stage, pipes) {
                Ok(running) => {
                    self.stage = Some((id, running));
                    let _ = connection.send(&Reply::Started);
                }
                Err((class, message)) => self.reply(id, &Reply::Refused { class, message }),
            }
        }
    }

    /// Sends the last reply of what a connection asked for; a peer that is gone is noticed when its socket is read.
    fn reply(&mut self, id: u64, reply: &Reply) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.role = Role::Idle;
            let _ = connection.send(reply);
        }
    }
}

/// The signals that the loop reads.
fn own_signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect()
}

/// Blocks the signals that the loop reads. To be called before any thread is started: one that does not block them takes them.
pub fn block_signals() -> Result<()> {
    uninterrupted(|| own_signals().thread_block()).context("block signals")
}
