//! What the daemon has for the job log while a stage runs: what services say. A thread writes it, so that a job log which takes
//! nothing holds up neither the stage nor its end, and no more is kept than a few lines: the rest waits with the daemon.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::link::Link;
use crate::protocol::daemon::Reply;

/// Lines that wait for the job log.
const LINES_MAX: usize = 256;
/// Between two looks at whether it takes more.
pub const LOOK: Duration = Duration::from_millis(5);
/// How long what services have said until the stage's end may take.
const LAST_WITHIN: Duration = Duration::from_secs(10);

/// Lines on their way to the job log.
#[derive(Debug, Default)]
pub struct Words {
    writer: Option<(SyncSender<String>, Receiver<()>)>,
    /// One too many.
    held: Option<String>,
}

impl Words {
    /// Whether there is room for a line.
    pub fn take_more(&mut self) -> bool {
        if let Some(text) = self.held.take() {
            self.say(text);
        }
        self.held.is_none()
    }

    /// Has a line written, for which there is room.
    pub fn say(&mut self, text: String) {
        let (sender, _) = self.writer.get_or_insert_with(start);
        // A thread that is gone has nobody to write to.
        if let Err(TrySendError::Full(text)) = sender.try_send(text) {
            self.held = Some(text);
        }
    }

    /// Takes what services have said until the stage's end: the daemon hangs up behind it.
    pub fn hear_the_last(&mut self, daemon: &mut Link) {
        let until = Instant::now() + LAST_WITHIN;
        while self.wait_for_room(until) {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match daemon.socket.set_read_timeout(Some(left)).and_then(|()| daemon.receive()) {
                Ok(Reply::Log { text }) => self.say(text),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits until there is room for a line; false when that takes longer than this.
    fn wait_for_room(&mut self, until: Instant) -> bool {
        while !self.take_more() {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// Waits until all is written, for no longer than this.
    pub fn finish(mut self, bound: Duration) {
        let until = Instant::now() + bound;
        self.wait_for_room(until);
        if let Some((sender, written)) = self.writer {
            drop(sender);
            // An end of the thread counts as well as its word.
            let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}

fn start() -> (SyncSender<String>, Receiver<()>) {
    let (sender, lines) = sync_channel::<String>(LINES_MAX);
    let (done, written) = channel();
    thread::spawn(move || {
        while let Ok(mut text) = lines.recv() {
            // One write for all that wait.
            text.push('\n');
            lines.try_iter().take(LINES_MAX).for_each(|line| text.extend([&line, "\n"]));
            // Nobody to write to is no reason to end the stage.
            drop(io::stderr().write_all(text.as_bytes()));
        }
        let _ = done.send(());
    });
    (sender, written)
}
