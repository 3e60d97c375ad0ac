//! Asking the daemon, and showing tables of what it says.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::protocol::daemon::{Reply, Request};
use crate::protocol::frame::Decoder;
use crate::protocol::stream;

/// Longest answer that is read, in bytes: some ten thousand leases or lanes.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// The daemon's socket unless something else is said.
pub const SOCKET: &str = "/run/windlass/windlass.sock";

/// Asks the daemon at this socket.
///
/// # Errors
/// When it does not answer within `limit`, or refuses.
pub fn ask(socket: &Path, request: &Request, limit: Duration) -> Result<Reply> {
    let stream = UnixStream::connect(socket).with_context(|| match std::fs::metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("windlassd is not running: there is no socket {}", socket.display())
        }
        _ => format!("cannot reach windlassd at {}", socket.display()),
    })?;
    stream.set_read_timeout(Some(limit)).context("set up the connection")?;
    // A daemon that refuses may hang up before it has read the question: its reason is there to be read all the same.
    let sent = stream::send(&stream, request);
    let reply = stream::receive_message(&stream, &mut Decoder::new(ANSWER_MAX));
    match reply.map_err(|error| sent.err().unwrap_or(error)).context("ask windlassd")? {
        Reply::Failed { message, .. } => bail!("{message}"),
        reply => Ok(reply),
    }
}

/// For an answer to another question.
#[must_use]
pub fn unexpected() -> anyhow::Error {
    anyhow::anyhow!("windlassd gave another answer than was expected; are both of the same release?")
}

/// Rows as lines with columns of equal width.
#[must_use]
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
