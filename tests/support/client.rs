//! One HTTP request over a connection of its own, and what came back, whole or not.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body, as far as it came.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header, by its name in lower case; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON; panics where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whether all of the body came that was promised.
    pub fn is_whole(&self) -> bool {
        self.header("content-length").parse() == Ok(self.body.len()) || self.header("content-length").is_empty()
    }
}

/// Sends a request to a port of this machine; an error where nothing came back at all.
pub fn ask(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
    send(&format!("127.0.0.1:{port}"), port, method, path, headers, body)
}

/// The same for a server that is asked by another name.
pub fn ask_as(host: &str, port: u16, method: &str, path: &str) -> Reply {
    send(host, port, method, path, &[], b"").unwrap()
}

fn send(host: &str, port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    head += &format!("Content-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(&[format!("{head}\r\n").as_bytes(), body].concat())?;
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    // Whatever came before the connection broke counts.
    let Some(end) = head else { return Err(ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())) };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.lines();
    let status =
        lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Ok(Reply { status, headers: lines.filter_map(pair).collect(), body: bytes[end + 4..].to_vec() })
}
