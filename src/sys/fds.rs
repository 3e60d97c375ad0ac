//! Passing file descriptors over unix sockets (SCM_RIGHTS).
#![allow(
    unsafe_code,
    reason = "descriptors that the kernel hands over arrive as plain numbers; here they become owned"
)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// How many descriptors one message may carry: a stage's stdin, stdout and stderr.
pub const MAX_FDS: usize = 3;

/// How many the kernel lets a message carry (include/net/scm.h).
const SCM_MAX_FD: usize = 253;

/// Sends `bytes` with `fds` attached to their first byte; returns how many bytes went out.
///
/// # Errors
/// What sendmsg(2) says; `WouldBlock` on a non-blocking socket that is full.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    Ok(sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives bytes and the descriptors that came with them, close-on-exec.
///
/// # Errors
/// What recvmsg(2) says; `InvalidData` when more than [`MAX_FDS`] descriptors were attached (all are closed then).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    // Room for all that a sender can attach: those beyond the allowed are owned, and so closed.
    let mut control = nix::cmsg_space!([RawFd; SCM_MAX_FD]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for item in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(list) = item {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
            fds.extend(list.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) || fds.len() > MAX_FDS {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("more than {MAX_FDS} descriptors in one message"),
        ));
    }
    Ok((message.bytes, fds))
}

/// Takes ownership of a descriptor that this process inherited at its start, such as one of systemd's or podman's.
///
/// # Errors
/// `NotFound` when nothing is open under that number.
pub fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads the descriptor's flags and fails on one that is not open.
    if unsafe { nix::libc::fcntl(fd, nix::libc::F_GETFD) } < 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no descriptor {fd} was inherited")));
    }
    // SAFETY: it is open, and callers ask once, at the start of the program, for numbers that nothing here has opened.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    nix::fcntl::fcntl(&owned, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(owned)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_crosses_a_socket_and_still_works() {
        let (left, right) = UnixStream::pair().expect("pair");
        let (mut reader, writer) = io::pipe().expect("pipe");
        assert_eq!(send(left.as_fd(), b"hello", &[writer.as_fd()]).expect("send"), 5);
        drop(writer);
        let mut buffer = [0; 16];
        let (count, fds) = receive(right.as_fd(), &mut buffer).expect("receive");
        assert_eq!((&buffer[..count], fds.len()), (&b"hello"[..], 1));
        for fd in fds {
            std::fs::File::from(fd).write_all(b"through").expect("write");
        }
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }

    #[test]
    fn too_many_descriptors_are_an_error() {
        let (left, right) = UnixStream::pair().expect("pair");
        let fd = left.as_fd();
        send(left.as_fd(), b"x", &[fd, fd, fd, fd]).expect("send");
        let error = receive(right.as_fd(), &mut [0; 4]).expect_err("must be refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_number_that_is_not_open_is_not_inherited() {
        assert_eq!(inherited(987).expect_err("not open").kind(), io::ErrorKind::NotFound);
    }
}
