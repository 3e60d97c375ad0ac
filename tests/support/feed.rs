//! The feed from both sides: a listener, and one that is odd.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::wait::{seconds, until};

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// From where to go on.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// What it says.
    pub data: Value,
}

/// A listener: a connection of its own, whose lines are read as they come.
pub struct Listener {
    stream: TcpStream,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    /// Connects, with this token, and goes on from `last`.
    pub fn connect(port: u16, token: &str, last: Option<&str>) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let head = format!("GET /feed HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n{last}\r\n");
        (&stream).write_all(head.as_bytes()).unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let (reader, noted) = (BufReader::new(stream.try_clone().unwrap()), Arc::clone(&lines));
        thread::spawn(move || {
            for line in reader.lines() {
                let Ok(line) = line else { return };
                noted.lock().unwrap().push(line);
            }
        });
        Self { stream, lines }
    }

    /// All that has come, chunks' lengths and all.
    pub fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// The status and the headers.
    pub fn head(&self) -> String {
        let is_there = || self.lines.lock().unwrap().iter().any(String::is_empty);
        until("the feed answers", seconds(30), is_there);
        self.lines
            .lock()
            .unwrap()
            .iter()
            .take_while(|line| !line.is_empty())
            .map(|line| line.to_lowercase() + "\n")
            .collect()
    }

    /// The events that have come.
    pub fn events(&self) -> Vec<Event> {
        let lines = self.lines.lock().unwrap();
        let (mut events, mut id, mut kind) = (Vec::new(), String::new(), String::new());
        for line in lines.iter() {
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut kind);
            } else if let Some(text) = line.strip_prefix("data: ") {
                events.push(Event { id: id.clone(), kind: kind.clone(), data: serde_json::from_str(text).unwrap() });
            }
        }
        events
    }

    /// Waits until so many events have come; returns all.
    pub fn until_events(&self, count: usize) -> Vec<Event> {
        until(&format!("{count} events came"), seconds(60), || self.events().len() >= count);
        self.events()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A feed that says what it is told to.
pub struct OddFeed {
    /// Where it is.
    pub port: u16,
    connections: Arc<Mutex<Vec<Connection>>>,
}

/// A connection to it.
struct Connection {
    head: String,
    stream: TcpStream,
}

impl OddFeed {
    /// Starts one, whose answers begin with this: a status line, and headers.
    pub fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections: Arc<Mutex<Vec<Connection>>> = Arc::default();
        let noted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                let mut head = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
                let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\nConnection: close\r\n\r\n").as_bytes());
                noted.lock().unwrap().push(Connection { head: head.to_lowercase(), stream });
            }
        });
        Self { port, connections }
    }

    /// One that is a feed as far as its head goes.
    pub fn ok() -> Self {
        Self::start("200 OK\r\nContent-Type: text/event-stream")
    }

    /// The heads of all requests.
    pub fn heads(&self) -> Vec<String> {
        self.connections.lock().unwrap().iter().map(|connection| connection.head.clone()).collect()
    }

    /// Waits for so many connections; the head of the last.
    pub fn until_asked(&self, count: usize) -> String {
        until(&format!("it was asked {count} times"), seconds(60), || self.heads().len() >= count);
        self.heads().pop().unwrap()
    }

    /// Says something to whoever listens.
    pub fn say(&self, text: &str) {
        let mut connections = self.connections.lock().unwrap();
        let _ = connections.last_mut().expect("somebody listens").stream.write_all(text.as_bytes());
    }

    /// Ends all connections.
    pub fn cut(&self) {
        for connection in self.connections.lock().unwrap().iter() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}
