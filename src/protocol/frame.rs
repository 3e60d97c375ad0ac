//! Frames: an 8-byte head (magic, version, kind, length) and a body of bounded length.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The version of everything in this directory; a peer with another one is refused by name.
pub const VERSION: u8 = 1;
/// Bytes of a frame's head.
pub const HEAD: usize = 8;
/// Longest body of a message, in bytes.
pub const MESSAGE_MAX: usize = 64 * 1024;
/// Longest job response, in bytes; GitLab's are some ten kilobytes, with long scripts some hundred.
pub const JOB_RESPONSE_MAX: usize = 8 * 1024 * 1024;
/// Longest list of a job's variables, in bytes. The kernel lets a program's environment have 6 MiB at most.
pub const VARIABLES_MAX: usize = 8 * 1024 * 1024;
/// Longest body of a message to an init, in bytes: a stage with the job's variables.
pub const STAGE_MAX: usize = VARIABLES_MAX;

const MAGIC: [u8; 2] = *b"WL";

/// What a frame's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A JSON message.
    Message = 0,
    /// A job response, as gitlab-runner wrote it.
    JobResponse = 1,
    /// A piece of the stage's script; an empty one is its end.
    Stdin = 2,
    /// A piece of the stage's standard output.
    Stdout = 3,
    /// A piece of the stage's standard error.
    Stderr = 4,
    /// The job's variables as gitlab-runner gives them to its executables: a JSON object of names and values.
    Variables = 5,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        [Self::Message, Self::JobResponse, Self::Stdin, Self::Stdout, Self::Stderr, Self::Variables]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// The body.
    pub body: Vec<u8>,
}

/// Why bytes are not a frame.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// Something else than Windlass talks here.
    #[error("these bytes are no Windlass frame")]
    Magic,
    /// The other side is of another release.
    #[error(
        "the other side speaks protocol version {0}, this program version {VERSION}: both must be of the same release"
    )]
    Version(u8),
    /// A kind that this version does not know.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// Longer than agreed.
    #[error("a frame of {length} bytes, at most {max} are allowed here")]
    TooLong {
        /// Announced length in bytes.
        length: usize,
        /// Allowed length in bytes.
        max: usize,
    },
    /// Not the message that was expected.
    #[error("unreadable message: {0}")]
    Message(String),
}

/// The bytes of one frame.
#[must_use]
pub fn encode(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend_from_slice(&head(kind, body.len()));
    bytes.extend_from_slice(body);
    bytes
}

/// The head of a frame whose body of `length` bytes follows.
#[must_use]
pub fn head(kind: Kind, length: usize) -> [u8; HEAD] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [MAGIC[0], MAGIC[1], VERSION, kind as u8, length[0], length[1], length[2], length[3]]
}

/// The bytes of one message.
#[must_use]
pub fn encode_message<M: Serialize>(message: &M) -> Vec<u8> {
    // The messages here are structs of strings and numbers with string keys: serialising them cannot fail.
    encode(Kind::Message, &serde_json::to_vec(message).unwrap_or_default())
}

impl Frame {
    /// The message in this frame.
    ///
    /// # Errors
    /// When it is no message or not one of type `M`.
    pub fn message<M: DeserializeOwned>(&self) -> Result<M, FrameError> {
        if self.kind != Kind::Message {
            return Err(FrameError::Message(format!("a frame of kind {:?} where a message was expected", self.kind)));
        }
        serde_json::from_slice(&self.body).map_err(|error| FrameError::Message(error.to_string()))
    }
}

/// Makes frames of bytes as they come. It never reserves memory on the word of a length: what it holds, was received.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    max: usize,
}

impl Decoder {
    /// A decoder that accepts bodies of up to `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { buffer: Vec::new(), max }
    }

    /// Changes the longest body accepted, in bytes.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a frame has begun and not ended.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame, if there is one.
    ///
    /// # Errors
    /// On bytes that can't be a frame; the connection is of no use afterwards.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let magic = self.buffer.len().min(2);
        if self.buffer[..magic] != MAGIC[..magic] {
            return Err(FrameError::Magic);
        }
        if let Some(&version) = self.buffer.get(2)
            && version != VERSION
        {
            return Err(FrameError::Version(version));
        }
        let Some(head) = self.buffer.first_chunk::<HEAD>() else { return Ok(None) };
        let kind = Kind::parse(head[3]).ok_or(FrameError::Kind(head[3]))?;
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > self.max {
            return Err(FrameError::TooLong { length, max: self.max });
        }
        if self.buffer.len() < HEAD + length {
            return Ok(None);
        }
        let rest = self.buffer.split_off(HEAD + length);
        let mut body = std::mem::replace(&mut self.buffer, rest);
        body.drain(..HEAD);
        Ok(Some(Frame { kind, body }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut_into_pieces(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6), step in 1_usize..50) {
            let bytes: Vec<u8> = bodies.iter().flat_map(|body| encode(Kind::Stdout, body)).collect();
            let mut decoder = Decoder::new(300);
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().expect("valid") {
                    seen.push(frame.body);
                }
            }
            prop_assert_eq!(seen, bodies);
            prop_assert!(!decoder.is_partial());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut decoder = Decoder::new(16);
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    fn refused(bytes: &[u8]) -> FrameError {
        let mut decoder = Decoder::new(100);
        decoder.push(bytes);
        decoder.next_frame().expect_err("must be refused")
    }

    #[test]
    fn strangers_are_refused_at_their_first_byte() {
        assert_eq!(refused(b"GET / HTTP/1.1"), FrameError::Magic);
        assert_eq!(refused(b"x"), FrameError::Magic);
    }

    #[test]
    fn another_version_is_named() {
        assert_eq!(refused(b"WL\x09"), FrameError::Version(9));
    }

    #[test]
    fn a_long_frame_is_refused_by_its_head_alone() {
        assert_eq!(refused(&head(Kind::Message, 101)), FrameError::TooLong { length: 101, max: 100 });
    }
}
