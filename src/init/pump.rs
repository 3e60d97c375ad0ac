//! Moves bytes from one pipe to another without copying them (splice(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SpliceFFlags, fcntl, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Capacity asked for the pipes made here, in bytes: the most that an unprivileged process may have by default.
const PIPE_SIZE: i32 = 1024 * 1024;
/// Most bytes moved before other work gets its turn.
const TURN: usize = 16 * 1024 * 1024;

/// Makes a pipe, as large as the kernel allows.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
    // A smaller pipe does as well: past a per-user total the kernel refuses.
    let _ = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE));
    Ok((reader, writer))
}

/// A pump between two pipes.
#[derive(Debug)]
pub struct Pump {
    from: OwnedFd,
    /// None once its reader is gone: what still comes is thrown away, so that the writer goes on.
    to: Option<OwnedFd>,
    waits: Waits,
}

/// What a pump waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    Source,
    Destination,
}

impl Pump {
    /// A pump that waits for bytes in `from`.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self { from, to: Some(to), waits: Waits::Source }
    }

    /// What to poll for before the next [`Pump::step`].
    pub fn interest(&self) -> (BorrowedFd<'_>, PollFlags) {
        match (self.waits, &self.to) {
            (Waits::Destination, Some(to)) => (to.as_fd(), PollFlags::POLLOUT),
            _ => (self.from.as_fd(), PollFlags::POLLIN),
        }
    }

    /// Moves what can be moved now; true at the end of the source.
    pub fn step(&mut self) -> io::Result<bool> {
        let mut moved = 0;
        while moved < TURN {
            let Some(to) = &self.to else { return self.discard() };
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
            match splice(&self.from, None, to, None, PIPE_SIZE.unsigned_abs() as usize, flags) {
                Ok(0) => return Ok(true),
                Ok(count) => moved += count,
                Err(Errno::EAGAIN) => {
                    self.waits = if self.readable()? { Waits::Destination } else { Waits::Source };
                    return Ok(false);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE) => self.to = None,
                Err(error) => return Err(error.into()),
            }
        }
        self.waits = Waits::Source;
        Ok(false)
    }

    /// Nobody reads any more: throws away what is there.
    fn discard(&mut self) -> io::Result<bool> {
        self.waits = Waits::Source;
        let mut buffer = [0; 64 * 1024];
        for _ in 0..TURN / buffer.len() {
            if !self.readable()? {
                break;
            }
            match nix::unistd::read(&self.from, &mut buffer) {
                Ok(0) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Bytes or the end of file are there.
    fn readable(&self) -> io::Result<bool> {
        let mut set = [PollFd::new(self.from.as_fd(), PollFlags::POLLIN)];
        Ok(super::uninterrupted(|| poll(&mut set, PollTimeout::ZERO))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_the_end_is_seen() {
        let (source, mut writer) = io::pipe().expect("pipe");
        let (mut reader, destination) = io::pipe().expect("pipe");
        let mut pump = Pump::new(source.into(), destination.into());
        assert!(!pump.step().expect("nothing yet"));
        writer.write_all(b"one two").expect("write");
        assert!(!pump.step().expect("step"));
        drop(writer);
        assert!(pump.step().expect("end"));
        drop(pump);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "one two");
    }

    #[test]
    fn a_full_destination_is_waited_for() {
        let (source, writer) = pipe().expect("pipe");
        let (_reader, destination) = io::pipe().expect("pipe");
        let mut pump = Pump::new(source, destination.into());
        File::from(writer).write_all(&vec![b'x'; 500_000]).expect("write");
        assert!(!pump.step().expect("step"));
        assert_eq!(pump.interest().1, PollFlags::POLLOUT);
    }

    #[test]
    fn a_reader_that_leaves_does_not_stop_the_writer() {
        let (source, writer) = pipe().expect("pipe");
        let (reader, destination) = io::pipe().expect("pipe");
        let mut pump = Pump::new(source, destination.into());
        drop(reader);
        let mut writer = File::from(writer);
        for _ in 0..4 {
            writer.write_all(&vec![b'x'; 900_000]).expect("write");
            assert!(!pump.step().expect("step"));
        }
        drop(writer);
        assert!(pump.step().expect("end"));
    }
}
