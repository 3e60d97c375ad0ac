//! One call of a shim: under way, and over.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::attempt::{Progress, Runner};
use super::player::{Request, Stream};
use super::wait::{seconds, until, value};

/// How long a call may take unless a test says otherwise.
const CALL: Duration = seconds(60);

/// A call under way.
pub struct Call<'a> {
    pub(super) runner: &'a Runner<'a>,
    pub(super) call: u64,
    /// The shim's name, or the stage's.
    pub name: String,
    pub(super) stdout: PathBuf,
    pub(super) stderr: PathBuf,
}

/// How a call ended and what it printed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The shim's name, or the stage's.
    pub name: String,
    /// Its exit code; none after a signal.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
    /// Length and digest of its stdout.
    pub stream: Stream,
    /// How long it took until both pipes were read to their end, as far as the test saw.
    pub took: Duration,
}

impl Call<'_> {
    fn progress(&self) -> Progress {
        let known = self.runner.calls.0.lock().unwrap();
        let progress = known.get(&self.call).cloned().unwrap_or_default();
        assert!(progress.failed.is_none(), "cannot start {}: {:?}", self.name, progress.failed);
        progress
    }

    /// The shim's process id.
    pub fn pid(&self) -> i32 {
        value(&format!("{} is started", self.name), CALL, || self.progress().pid)
    }

    /// Whether the call is not over.
    pub fn is_running(&self) -> bool {
        let progress = self.progress();
        progress.exited.is_none() || progress.closed.is_none()
    }

    /// Waits for the exit and for the end of both pipes.
    pub fn wait(self) -> Finished {
        self.wait_for(CALL)
    }

    /// The same with another deadline.
    pub fn wait_for(self, limit: Duration) -> Finished {
        let start = Instant::now();
        let mut known = self.runner.calls.0.lock().unwrap();
        loop {
            let progress = known.entry(self.call).or_default().clone();
            assert!(progress.failed.is_none(), "cannot start {}: {:?}", self.name, progress.failed);
            if let (Some((code, signal)), Some((stream, _))) = (progress.exited, progress.closed) {
                drop(known);
                let (stdout, stderr) =
                    (fs::read(&self.stdout).unwrap_or_default(), fs::read(&self.stderr).unwrap_or_default());
                let _ = (fs::remove_file(&self.stdout), fs::remove_file(&self.stderr));
                return Finished { name: self.name, code, signal, stdout, stderr, stream, took: start.elapsed() };
            }
            let left = limit.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "{} is not over after {limit:?}: {progress:?}\n{}", self.name, self.output());
            known = self.runner.calls.1.wait_timeout(known, left).unwrap().0;
        }
    }

    /// What it printed so far, stdout first.
    pub fn output(&self) -> String {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        read(&self.stdout) + &read(&self.stderr)
    }

    /// Waits until it has printed `text`.
    pub fn wait_for_output(&self, text: &str) {
        until(&format!("{} prints {text:?}; it has printed {:?}", self.name, self.output()), CALL, || {
            if self.output().contains(text) {
                return true;
            }
            assert!(self.is_running(), "{} ended without printing {text:?}: {}", self.name, self.output());
            false
        });
    }

    /// SIGTERM to its process group, as gitlab-runner begins to end a call.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM, true);
    }

    /// A signal to its process group, or to the shim alone.
    pub fn signal(&self, signal: Signal, group: bool) {
        self.pid();
        self.runner.request(&Request::Signal { call: self.call, signal: signal as i32, group });
    }
}

impl Finished {
    /// All that it printed.
    pub fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }

    /// Fails the test when the exit code is another one.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{} (signal {:?}) printed:\n{}", self.name, self.signal, self.text());
        self
    }

    /// Fails the test when it did not print `text`.
    #[track_caller]
    pub fn expect_text(&self, text: &str) -> &Self {
        assert!(self.text().contains(text), "{} did not print {text:?} but:\n{}", self.name, self.text());
        self
    }
}
