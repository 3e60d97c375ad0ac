//! Blocking reads and writes of frames, for the programs without an async runtime.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{Decoder, Frame, encode_message};
use crate::sys::fds;

/// Sends one message.
///
/// # Errors
/// What the socket says.
pub fn send<M: Serialize>(mut socket: &UnixStream, message: &M) -> io::Result<()> {
    socket.write_all(&encode_message(message))
}

/// Sends one message with descriptors attached.
///
/// # Errors
/// What the socket says.
pub fn send_with_fds<M: Serialize>(
    mut socket: &UnixStream,
    message: &M,
    fds: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = encode_message(message);
    // The descriptors travel with the first byte; what a short write leaves follows without them.
    let sent = fds::send(socket.as_fd(), &bytes, fds)?;
    socket.write_all(&bytes[sent..])
}

/// The next frame; `UnexpectedEof` when the peer is gone.
///
/// # Errors
/// What the socket says, and `InvalidData` for bytes that are no frame.
pub fn receive(mut socket: &UnixStream, decoder: &mut Decoder) -> io::Result<Frame> {
    let mut buffer = [0; 64 * 1024];
    loop {
        if let Some(frame) = decoder.next_frame().map_err(invalid)? {
            return Ok(frame);
        }
        match socket.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => decoder.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The next message.
///
/// # Errors
/// As [`receive`]; `InvalidData` also for a message of another type.
pub fn receive_message<M: DeserializeOwned>(socket: &UnixStream, decoder: &mut Decoder) -> io::Result<M> {
    receive(socket, decoder)?.message().map_err(invalid)
}

/// A frame error as an I/O error.
pub fn invalid(error: super::FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
