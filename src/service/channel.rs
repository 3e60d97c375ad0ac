//! One caller's connection: frames in, replies out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::executor::ServiceLogs;
use crate::protocol::daemon::{Reply, Request};
use crate::protocol::frame::{Decoder, Frame, JOB_RESPONSE_MAX, Kind, MESSAGE_MAX, VARIABLES_MAX, encode_message};
use crate::protocol::stream::invalid;
use crate::sys::fds;

/// How long a caller may take to say what it wants.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long a caller may leave a reply unread.
const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// What is told beside everything else, line by line.
pub trait Lines: Send {
    /// The next line, whenever it comes. Cancelling this loses nothing.
    fn next(&mut self) -> impl Future<Output = String> + Send;
}

impl Lines for ServiceLogs {
    async fn next(&mut self) -> String {
        ServiceLogs::next(self).await
    }
}

/// A connection.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    decoder: Decoder,
    /// The last descriptor that came.
    fd: Option<OwnedFd>,
    /// What was begun to be sent: the rest of a frame, without which no other can be read.
    unsent: Vec<u8>,
}

impl Channel {
    /// Takes a connection over.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::new(MESSAGE_MAX), fd: None, unsent: Vec::new() }
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

    /// The next request; until it comes, lines go out as fast as they are taken, and no faster.
    pub async fn request_beside(&mut self, lines: &mut impl Lines) -> io::Result<Request> {
        let Self { stream, decoder, fd, unsent } = self;
        let passed_on = async {
            loop {
                // Neither a line that is there nor a socket that takes it makes this wait: others have their turn.
                tokio::task::coop::consume_budget().await;
                if unsent.is_empty() {
                    *unsent = encode_message(&Reply::Log { text: lines.next().await });
                }
                if write_some(stream, unsent).await.is_err() {
                    // Nobody is there any more: the end of what that one says is on its way.
                    std::future::pending().await
                }
            }
        };
        tokio::select! {
            biased;
            frame = read_frame(stream, decoder, fd) => frame?.message().map_err(invalid),
            () = passed_on => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn frame(&mut self) -> io::Result<Frame> {
        read_frame(&self.stream, &mut self.decoder, &mut self.fd).await
    }

    /// Sends a reply. What could not be sent in time goes before whatever is sent next.
    pub async fn send(&mut self, reply: &Reply) -> io::Result<()> {
        self.send_within(reply, REPLY_WITHIN).await
    }

    /// The same with another limit.
    pub async fn send_within(&mut self, reply: &Reply, limit: Duration) -> io::Result<()> {
        self.unsent.extend(encode_message(reply));
        self.flush(limit).await
    }

    /// Sends a reply with a descriptor attached.
    pub async fn send_with(&mut self, reply: &Reply, fd: &OwnedFd) -> io::Result<()> {
        self.flush(REPLY_WITHIN).await?;
        let bytes = encode_message(reply);
        let stream = &self.stream;
        let first = stream.async_io(Interest::WRITABLE, || fds::send(stream.as_fd(), &bytes, &[fd.as_fd()]));
        let sent = within(REPLY_WITHIN, first, "the reply was not read").await?;
        self.unsent.extend(&bytes[sent..]);
        self.flush(REPLY_WITHIN).await
    }

    /// Sends the rest of what was begun.
    pub async fn flush(&mut self, limit: Duration) -> io::Result<()> {
        let (stream, unsent) = (&self.stream, &mut self.unsent);
        let all = async {
            while !unsent.is_empty() {
                write_some(stream, unsent).await?;
            }
            Ok(())
        };
        within(limit, all, "the reply was not read").await
    }
}

/// Writes as much as is taken at once, and waits until that is something. Cancelling this loses nothing.
async fn write_some(stream: &UnixStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    loop {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => {
                bytes.drain(..count);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn read_frame(stream: &UnixStream, decoder: &mut Decoder, last: &mut Option<OwnedFd>) -> io::Result<Frame> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if let Some(frame) = decoder.next_frame().map_err(invalid)? {
            return Ok(frame);
        }
        let read = stream.async_io(Interest::READABLE, || fds::receive(stream.as_fd(), &mut buffer));
        let (count, fds) = read.await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        decoder.push(&buffer[..count]);
        // Of several only one is kept: no caller can make the daemon hold more.
        *last = fds.into_iter().next().or(last.take());
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>, what: &str) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", limit.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// So many lines were taken.
    struct Numbered(usize);

    impl Lines for Numbered {
        async fn next(&mut self) -> String {
            self.0 += 1;
            format!("{} {}", self.0, "x".repeat(4000))
        }
    }

    #[tokio::test]
    async fn lines_go_out_whole_and_in_order_however_slowly_and_often_interrupted_they_are_taken() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("set up");
        let mut channel = Channel::new(UnixStream::from_std(ours).expect("stream"));
        let mut numbered = Numbered(0);
        // Nobody reads: what does not fit waits, and whoever waits for a request is interrupted.
        for _ in 0..3 {
            let taken = timeout(Duration::from_millis(50), channel.request_beside(&mut numbered)).await;
            assert!(taken.is_err(), "{taken:?}");
        }
        let lines = numbered.0;
        assert!((2..10_000).contains(&lines), "{lines} lines were taken for one that does not read");
        assert!(channel.unsent.len() < 10_000);
        let late = channel.send_within(&Reply::Done, Duration::from_millis(50)).await;
        assert_eq!(late.expect_err("nobody reads").kind(), io::ErrorKind::TimedOut);
        let reader = std::thread::spawn(move || {
            let (mut theirs, mut bytes) = (theirs, Vec::new());
            theirs.read_to_end(&mut bytes).expect("read");
            bytes
        });
        channel.send(&Reply::Working).await.expect("sent");
        drop(channel);
        let mut decoder = Decoder::new(MESSAGE_MAX);
        decoder.push(&reader.join().expect("thread"));
        let mut replies = Vec::new();
        while let Some(frame) = decoder.next_frame().expect("whole frames") {
            replies.push(frame.message::<Reply>().expect("a reply"));
        }
        assert_eq!(replies.pop(), Some(Reply::Working));
        assert_eq!(replies.pop(), Some(Reply::Done));
        let number = |reply: &Reply| match reply {
            Reply::Log { text } => text.split(' ').next().and_then(|number| number.parse().ok()),
            _ => None,
        };
        assert_eq!(replies.iter().filter_map(number).collect::<Vec<usize>>(), (1..=lines).collect::<Vec<_>>());
    }
}
