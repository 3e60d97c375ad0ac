//! Every request, and what became of it.

use serde::Serialize;

use crate::clock::host_now;
use crate::faults::Trouble;
use crate::http::Request;

/// A request that came.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// Its number.
    pub id: u64,
    /// When it came, by the host's clock, in milliseconds since 1970.
    pub at: i64,
    /// GET, POST, ...
    pub method: String,
    /// Its path without the root, still encoded.
    pub path: String,
    /// What follows the question mark, still encoded.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; bytes that are no text are replaced.
    pub body: String,
    /// The status of the answer; none until there is one, and where none was sent.
    pub status: Option<u16>,
    /// How it went wrong.
    pub fault: Option<Trouble>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Seen {
    entries: Vec<Entry>,
    last: u64,
}

impl Seen {
    /// Remembers one that has just come.
    pub fn begin(&mut self, request: &Request, fault: Option<&Trouble>) -> u64 {
        self.last += 1;
        self.entries.push(Entry {
            id: self.last,
            at: host_now(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
            status: None,
            fault: fault.cloned(),
        });
        self.last
    }

    /// Remembers how one was answered.
    pub fn end(&mut self, id: u64, status: u16) {
        // From the end: it is one of the last.
        if let Some(entry) = self.entries.iter_mut().rev().find(|entry| entry.id == id) {
            entry.status = Some(status);
        }
    }

    /// All of them, in the order of their coming.
    pub fn all(&self) -> &[Entry] {
        &self.entries
    }

    /// Forgets them.
    pub fn forget(&mut self) {
        self.entries.clear();
    }
}
