//! What a daemon tells systemd, heard by a test in systemd's place.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use super::wait::{seconds, value};

/// A socket that stands in for systemd's. The messages are kept for as long as the test runs.
pub struct Notices {
    dir: TempDir,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Notices {
    /// Listens from now on.
    pub fn listen() -> Self {
        let dir = tempfile::Builder::new().prefix("wl-notify-").tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                notes.lock().unwrap().push(text);
            }
        });
        Self { dir, heard }
    }

    /// What the daemon needs in its environment to be heard.
    pub fn environment(&self) -> Vec<(String, String)> {
        vec![("NOTIFY_SOCKET".into(), self.dir.path().join("notify").display().to_string())]
    }

    /// How many messages have come so far.
    pub fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// The messages that came behind the first `from`.
    pub fn since(&self, from: usize) -> Vec<String> {
        self.heard.lock().unwrap()[from..].to_vec()
    }

    /// How many of them have this line.
    pub fn having(&self, line: &str) -> usize {
        self.since(0).iter().filter(|message| message.lines().any(|there| there == line)).count()
    }

    /// The status line that was told last.
    pub fn status(&self) -> Option<String> {
        let messages = self.since(0);
        messages
            .iter()
            .rev()
            .flat_map(|message| message.lines())
            .find_map(|line| Some(line.strip_prefix("STATUS=")?.into()))
    }

    /// Waits until the status line contains this.
    pub fn wait_for_status(&self, part: &str) {
        value(&format!("the status line contains {part:?}"), seconds(20), || {
            self.status().filter(|status| status.contains(part))
        });
    }

    /// Waits for a message with this line behind the first `from`; returns how many there are up to it.
    pub fn wait_for(&self, from: usize, line: &str) -> usize {
        value(&format!("{line} is told"), seconds(20), || {
            let at = self.since(from).iter().position(|message| message.lines().any(|there| there == line))?;
            Some(from + at + 1)
        })
    }
}
