//! The page of a daemon under test, at a port of loopback.

use std::io;

use serde_json::Value;

use super::client::{self, Reply};

/// Where a page is.
#[derive(Debug, Clone, Copy)]
pub struct PageAt(pub u16);

impl PageAt {
    /// Settings with which the daemon serves it here.
    pub fn settings(self) -> String {
        format!("[page]\nlisten = '127.0.0.1:{}'\n", self.0)
    }

    /// The address of a path.
    pub fn url(self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.0)
    }

    /// What a path has.
    pub fn get(self, path: &str, headers: &[(&str, &str)]) -> Reply {
        client::ask(self.0, "GET", path, headers, b"").unwrap()
    }

    /// The same where the daemon may be away.
    pub fn try_get(self, path: &str) -> io::Result<Reply> {
        client::ask(self.0, "GET", path, &[], b"")
    }

    /// What the API says.
    pub fn api(self, path: &str) -> Value {
        let reply = self.get(&format!("/api/v1/{path}"), &[]);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }
}
