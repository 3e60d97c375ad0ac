//! Raw conversations with the daemon's socket, for tests of what it makes of strangers and of broken frames.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The protocol's version.
pub const VERSION: u8 = 1;
/// The kind of a frame that holds a JSON message.
pub const MESSAGE: u8 = 0;
/// The kind of a frame that holds a job response.
pub const JOB_RESPONSE: u8 = 1;

/// The head of a frame.
pub fn head(version: u8, kind: u8, length: u32) -> Vec<u8> {
    [&[b'W', b'L', version, kind][..], &length.to_be_bytes()].concat()
}

/// A whole frame.
pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [head(VERSION, kind, u32::try_from(body.len()).unwrap()), body.to_vec()].concat()
}

/// The frame that asks for the daemon's status.
pub fn status() -> Vec<u8> {
    frame(MESSAGE, br#"{"request":"status"}"#)
}

/// The frame that asks for a lease in the name of this process; the job response has to follow.
pub fn config() -> Vec<u8> {
    let request =
        format!(r#"{{"request":"config","profile":null,"runner":{{"pid":{},"start":0}}}}"#, std::process::id());
    frame(MESSAGE, request.as_bytes())
}

/// A connection on which nothing was said yet.
pub fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// Says something, then reads until the daemon hangs up.
pub fn say(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = connect(socket);
    // The daemon may hang up in the middle of it.
    let _ = stream.write_all(bytes);
    read_to_end(&mut stream)
}

/// Says something and nothing more, then reads until the daemon hangs up.
pub fn say_and_stop(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = connect(socket);
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    read_to_end(&mut stream)
}

/// All that the daemon says until it hangs up.
pub fn read_to_end(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // Bytes that the daemon never read: its end was a reset.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the daemon does not hang up: {error}; it said {:?}", String::from_utf8_lossy(&bytes)),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
