//! A reverse proxy that serves a server below a path of its own, as the block for nginx of docs/watching.md does.

use std::io::{BufRead, BufReader, Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// One on loopback; it ends when it is dropped.
pub struct Prefix {
    /// Where it listens.
    pub port: u16,
    stop: Arc<AtomicBool>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Prefix {
    /// Serves what is at this port of loopback below `path`, which has no slash at its end; the server sees the rest of each path.
    pub fn start(path: &'static str, server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let accepting = thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                thread::spawn(move || serve(&caller, path, server));
            }
        });
        Self { port, stop, accepting: Some(accepting) }
    }

    /// The address of a path of the server's.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a caller.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.accepting.take().map(thread::JoinHandle::join);
    }
}

/// Hands on one request, and its answer for as long as that goes on.
fn serve(mut caller: &TcpStream, path: &str, port: u16) -> Option<()> {
    let mut reader = BufReader::new(caller.try_clone().ok()?);
    let mut lines = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if name == "content-length" {
            length = line.split(':').nth(1)?.trim().parse().ok()?;
        }
        // As nginx: the host is the server's, and each request has a connection of its own, of HTTP/1.0.
        if !["host", "connection", "x-forwarded-proto", "x-forwarded-for"].contains(&name.as_str()) {
            lines.push(line);
        }
    }
    let request = lines.first()?.clone();
    let Some((method, rest)) = request.split_once(' ').filter(|(_, rest)| rest.starts_with(&format!("{path}/"))) else {
        let _ = caller.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return None;
    };
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
        let _ = caller.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return None;
    };
    lines[0] = format!("{method} {}", &rest[path.len()..]).replace("HTTP/1.1", "HTTP/1.0");
    let head = format!(
        "{}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\nX-Forwarded-Proto: http\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
        lines.join("\r\n")
    );
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    server.write_all(head.as_bytes()).and_then(|()| server.write_all(&body)).ok()?;
    let _ = copy(&mut server, &mut caller);
    let _ = caller.shutdown(Shutdown::Both);
    Some(())
}
