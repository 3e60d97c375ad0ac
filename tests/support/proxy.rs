//! Something between podman and a registry that misbehaves as networks and registries do.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tempfile::TempDir;

use super::http::{Request, Response, Server};
use super::registry::{Registry, scratch};

/// What happens to a request instead of its answer.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// This status.
    Status(u16),
    /// Too many requests; come again after so many seconds.
    Later(u32),
    /// Half of the answer, then the end of the connection.
    Half,
}

/// A proxy before a registry.
pub struct Proxy {
    server: Server,
    state: Arc<Mutex<State>>,
    dir: TempDir,
}

#[derive(Default)]
struct State {
    manifests: VecDeque<Trouble>,
    blobs: VecDeque<Trouble>,
    seen: Vec<(Instant, String)>,
}

impl Proxy {
    /// Starts one; requests for manifests and for blobs meet these troubles first.
    pub fn start(registry: &Registry, manifests: &[Trouble], blobs: &[Trouble]) -> Self {
        let port = registry.port;
        let state = State { manifests: manifests.to_vec().into(), blobs: blobs.to_vec().into(), seen: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        let server = Server::start(move |request| {
            let trouble = {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                state.seen.push((Instant::now(), request.path.clone()));
                if request.path.contains("/manifests/") {
                    state.manifests.pop_front()
                } else if request.path.contains("/blobs/") {
                    state.blobs.pop_front()
                } else {
                    None
                }
            };
            match trouble {
                Some(Trouble::Status(status)) => Response::empty(status),
                Some(Trouble::Later(seconds)) => Response::empty(429).with("Retry-After", seconds.to_string()),
                Some(Trouble::Half) => forward(port, request).cut(),
                None => forward(port, request),
            }
        });
        let dir = scratch("proxy-");
        let conf = format!("[[registry]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n", server.port);
        std::fs::write(dir.path().join("registries.conf"), conf).unwrap();
        Self { server, state, dir }
    }

    /// From now on the next requests for manifests and for blobs meet these troubles, and no others.
    pub fn meet(&self, manifests: &[Trouble], blobs: &[Trouble]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.manifests = manifests.to_vec().into();
        state.blobs = blobs.to_vec().into();
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// An image of the registry, by way of this.
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.server.port)
    }

    /// podman's configuration for it: no TLS.
    pub fn registries_conf(&self) -> PathBuf {
        self.dir.path().join("registries.conf")
    }

    /// When requests came whose path contains this.
    pub fn seen(&self, what: &str) -> Vec<Instant> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.seen.iter().filter(|(_, path)| path.contains(what)).map(|(when, _)| *when).collect()
    }
}

fn forward(port: u16, request: &Request) -> Response {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut head = format!("{} {} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n", request.method, request.path);
    for (name, value) in &request.headers {
        if !matches!(name.as_str(), "host" | "connection" | "accept-encoding") {
            head += &format!("{name}: {value}\r\n");
        }
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(&request.body).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let mut response = Response::bytes(status, bytes[end + 4..].to_vec());
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if !matches!(name.to_lowercase().as_str(), "content-length" | "connection" | "transfer-encoding") {
            response = response.with(name, value);
        }
    }
    response
}
