//! `windlass shell` in a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use windlass::sys::terminal;

use crate::command;
use crate::support::wait::seconds;
use crate::support::{Host, value};

/// `windlass shell` in a terminal of its own.
pub struct Typed {
    pub child: Child,
    pub master: OwnedFd,
    seen: Arc<Mutex<String>>,
}

impl Typed {
    pub fn start(host: &Host, arguments: &[&str], rows: u16, columns: u16) -> Self {
        let pty = terminal::open().unwrap();
        terminal::set_size(pty.master.as_fd(), rows, columns).unwrap();
        let mut command = command(host, "shell", arguments);
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        command.env("TERM", "vt100").stdin(end()).stdout(end()).stderr(end());
        terminal::lead_session(&mut command);
        terminal::take_terminal(&mut command);
        let child = command.spawn().unwrap();
        drop((command, pty.slave));
        let (seen, mut reader) = (Arc::<Mutex<String>>::default(), File::from(pty.master.try_clone().unwrap()));
        std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = reader.read(&mut buffer) {
                    seen.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
                }
            }
        });
        Self { child, master: pty.master, seen }
    }

    pub fn keys(&self, keys: &str) {
        File::from(self.master.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    pub fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    pub fn sees(&self, words: &str) {
        let since = std::time::Instant::now();
        while !self.seen().contains(words) {
            assert!(since.elapsed() < seconds(20), "{words:?} was not shown but:\n{}", self.seen());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub fn code(mut self) -> Option<i32> {
        value("windlass shell ends", seconds(20), || self.child.try_wait().unwrap()).code()
    }
}
