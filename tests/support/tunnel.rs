//! A proxy that makes tunnels (RFC 9110, CONNECT), as stands between many hosts and the world.

use std::io::{BufRead, BufReader, Write, copy};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// One on loopback; it ends when it is dropped.
pub struct Tunnel {
    /// Where it listens.
    pub port: u16,
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU32>,
    to: Arc<Mutex<Vec<String>>>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Tunnel {
    /// Starts one.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, made, to) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
        let shared = (Arc::clone(&stop), Arc::clone(&made), Arc::clone(&to));
        let accepting = thread::spawn(move || {
            let (stop, made, to): (Arc<AtomicBool>, Arc<AtomicU32>, Arc<Mutex<Vec<String>>>) = shared;
            for caller in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                made.fetch_add(1, Ordering::Relaxed);
                let to = Arc::clone(&to);
                thread::spawn(move || serve(caller, &to));
            }
        });
        Self { port, stop, made, to, accepting: Some(accepting) }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many have connected to it.
    pub fn callers(&self) -> u32 {
        self.made.load(Ordering::Relaxed)
    }

    /// Where its tunnels went, as `HOST:PORT`.
    pub fn led_to(&self) -> Vec<String> {
        self.to.lock().unwrap().clone()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It waits for a caller.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.accepting.take().map(thread::JoinHandle::join);
    }
}

/// Leads one caller to where it wants; one that asks for something else is let go.
fn serve(caller: TcpStream, to: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(caller.try_clone().ok()?);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let place = lines.first()?.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let server = TcpStream::connect(&place).ok()?;
    to.lock().ok()?.push(place);
    let mut back = caller;
    back.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let mut answers = server.try_clone().ok()?;
    let returning = thread::spawn(move || {
        let _ = copy(&mut answers, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut server = server;
    let _ = copy(&mut reader, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Both);
    returning.join().ok()
}
