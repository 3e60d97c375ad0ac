//! One connection to the init: frames and descriptors in, replies out, never blocking.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::protocol::frame::{Decoder, STAGE_MAX, encode_message};
use crate::protocol::init::{Reply, Request, Stage};
use crate::sys::fds;

/// Replies that wait for a peer that does not read, in bytes; a peer this far behind is dropped.
const BACKLOG_MAX: usize = 64 * 1024;

/// What a connection is for, as far as that is known.
#[derive(Debug)]
pub enum Role {
    /// Nothing was asked that lasts.
    Idle,
    /// It was told which stage comes, not yet to begin.
    Told(Box<Stage>),
    /// It wants its stage to run and waits for another's end.
    Queued(Box<Stage>, Vec<OwnedFd>),
    /// Its stage runs.
    Running,
    /// It wants to know when no stage runs.
    WaitsIdle,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: UnixStream,
    /// What it is for.
    pub role: Role,
    decoder: Decoder,
    fds: VecDeque<OwnedFd>,
    out: Vec<u8>,
}

impl Connection {
    /// Takes a connection over.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, role: Role::Idle, decoder: Decoder::new(STAGE_MAX), fds: VecDeque::new(), out: Vec::new() })
    }

    /// Reads what is there; the second value is false when the peer is gone or talks nonsense.
    pub fn read(&mut self) -> (Vec<Request>, bool) {
        let mut requests = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match fds::receive(self.socket.as_fd(), &mut buffer) {
                Ok((0, _)) => return (requests, false),
                Ok((count, fds)) => {
                    self.decoder.push(&buffer[..count]);
                    self.fds.extend(fds);
                    if self.fds.len() > fds::MAX_FDS {
                        return (requests, false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (requests, true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return (requests, false),
            }
            loop {
                match self.decoder.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => match frame.message() {
                        Ok(request) => requests.push(request),
                        Err(_) => return (requests, false),
                    },
                    Err(_) => return (requests, false),
                }
            }
        }
    }

    /// The descriptors that have arrived.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        self.fds.drain(..).collect()
    }

    /// Sends a reply, now or when the peer reads on; false when the peer is gone.
    pub fn send(&mut self, reply: &Reply) -> bool {
        self.out.extend_from_slice(&encode_message(reply));
        self.flush()
    }

    /// Sends what waits; false when the peer is gone or too far behind.
    pub fn flush(&mut self) -> bool {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.out.len() <= BACKLOG_MAX,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Whether replies wait to be sent.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }
}
