//! As much of an HTTP server as a fake GitLab needs: one thread per connection, keep-alive, bodies by length or in chunks.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, POST, ...
    pub method: String,
    /// Path and query.
    pub path: String,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: bool,
}

impl Response {
    /// One without a body.
    pub const fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), cut: false }
    }

    /// One with a JSON body.
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::bytes(status, body.to_string().into_bytes()).with("Content-Type", "application/json")
    }

    /// One with this body.
    pub const fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body, cut: false }
    }

    /// One of which half the body comes before the connection ends.
    pub const fn cut(mut self) -> Self {
        self.cut = true;
        self
    }

    /// With this header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

/// A server on loopback; it ends when it is dropped.
pub struct Server {
    /// Where it listens.
    pub port: u16,
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts one.
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::listen(None, handler)
    }

    /// Starts one with TLS.
    pub fn with_tls(
        tls: Arc<rustls::ServerConfig>,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(tls), handler)
    }

    fn listen(
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, handler) = (Arc::new(AtomicBool::new(false)), Arc::new(handler));
        let stopped = stop.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (handler, stopped, tls) = (handler.clone(), stopped.clone(), tls.clone());
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
                    // A client that breaks off has its reasons, such as a certificate that it does not trust.
                    let _ = match tls {
                        None => serve(stream, &*handler, &stopped),
                        Some(tls) => {
                            let session = rustls::ServerConnection::new(tls).unwrap();
                            serve(rustls::StreamOwned::new(session, stream), &*handler, &stopped)
                        }
                    };
                });
            }
        });
        Self { port, stop }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, so that it sees the flag.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: impl Read + Write, handler: &Handler, stopped: &AtomicBool) -> io::Result<()> {
    // Requests and answers take turns: one stream does for both ways.
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let response = handler(&request);
        let writer = reader.get_mut();
        let mut head = format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", response.status, response.body.len());
        for (name, value) in &response.headers {
            head += &format!("{name}: {value}\r\n");
        }
        writer.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method == "HEAD" {
            continue; // RFC 9110: a body would be taken for the next answer.
        }
        if response.cut {
            return writer.write_all(&response.body[..response.body.len() / 2]);
        }
        writer.write_all(&response.body)?;
        writer.flush()?;
    }
    Ok(())
}

fn read(reader: &mut BufReader<impl Read + Write>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        let values: &mut String = headers.entry(name.trim().to_lowercase()).or_default();
        // Of several with one name, all count.
        let comma = if values.is_empty() { "" } else { ", " };
        values.push_str(&format!("{comma}{}", value.trim()));
    }
    if headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        reader.get_mut().write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            reader.by_ref().take(size).read_to_end(&mut body)?;
            reader.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length").and_then(|value| value.parse().ok()) {
        reader.by_ref().take(length).read_to_end(&mut body)?;
    }
    Ok(Some(Request { method, path, headers, body }))
}
