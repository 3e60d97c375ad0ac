//! One caller's connection: frames in, replies out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::protocol::daemon::{Reply, Request};
use crate::protocol::frame::{Decoder, Frame, JOB_RESPONSE_MAX, Kind, MESSAGE_MAX, VARIABLES_MAX, encode_message};
use crate::protocol::stream::invalid;
use crate::sys::fds;

/// How long a caller may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long a caller may leave a reply unread.
const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    decoder: Decoder,
    /// The last descriptor that came.
    fd: Option<OwnedFd>,
}

impl Channel {
    /// Takes a connection over.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(MESSAGE_MAX), fd: None }
    }

    /// Whether the caller is root or the daemon's own user.
    pub fn is_administrator(&self) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        self.stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
    }

    /// The caller's user id, and its process where the kernel knows it.
    pub fn peer(&self) -> io::Result<(u32, Option<i32>)> {
        self.stream.peer_cred().map(|peer| (peer.uid(), peer.pid()))
    }

    /// The first request; slow and silent callers are cut off.
    pub async fn first_request(&mut self) -> io::Result<Request> {
        let frame = within(REQUEST_WITHIN, self.frame(), "no whole request").await?;
        frame.message().map_err(invalid)
    }

    /// The job response behind a request.
    pub async fn job_response(&mut self) -> io::Result<Vec<u8>> {
        self.long(Kind::JobResponse, JOB_RESPONSE_MAX, "job response").await
    }

    /// The job's variables behind a request and its job response.
    pub async fn variables(&mut self) -> io::Result<Vec<u8>> {
        self.long(Kind::Variables, VARIABLES_MAX, "list of variables").await
    }

    async fn long(&mut self, kind: Kind, max: usize, what: &str) -> io::Result<Vec<u8>> {
        self.decoder.set_max(max);
        let frame = within(REQUEST_WITHIN, self.frame(), &format!("no whole {what}")).await?;
        self.decoder.set_max(MESSAGE_MAX);
        if frame.kind != kind {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a {what} was expected")));
        }
        Ok(frame.body)
    }

    /// The descriptor that came with what was read last.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fd.take()
    }

    /// The next request, whenever it comes. Cancelling this loses nothing.
    pub async fn request(&mut self) -> io::Result<Request> {
        self.frame().await?.message().map_err(invalid)
    }

    async fn frame(&mut self) -> io::Result<Frame> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(invalid)? {
                return Ok(frame);
            }
            let stream = &self.stream;
            let read = stream.async_io(Interest::READABLE, || fds::receive(stream.as_fd(), &mut buffer));
            let (count, fds) = read.await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.decoder.push(&buffer[..count]);
            // Of several only one is kept: no caller can make the daemon hold more.
            self.fd = fds.into_iter().next().or(self.fd.take());
        }
    }

    /// Sends a reply.
    pub async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        let bytes = encode_message(reply);
        within(REPLY_WITHIN, self.stream.write_all(&bytes), "the reply was not read").await
    }

    /// Sends a reply with a descriptor attached.
    pub async fn send_with(&mut self, reply: &Reply, fd: &OwnedFd) -> io::Result<()> {
        let bytes = encode_message(reply);
        let stream = &self.stream;
        let first = stream.async_io(Interest::WRITABLE, || fds::send(stream.as_fd(), &bytes, &[fd.as_fd()]));
        let sent = within(REPLY_WITHIN, first, "the reply was not read").await?;
        within(REPLY_WITHIN, self.stream.write_all(&bytes[sent..]), "the reply was not read").await
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>, what: &str) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", limit.as_secs()))),
    }
}
