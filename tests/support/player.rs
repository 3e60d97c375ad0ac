//! The process that plays gitlab-runner: the parent of the shims, which a test can kill without killing itself.
//!
//! It is the test program again, started with only the ignored test at the end of this file. It reads both pipes of
//! each call to their end, as Go's os/exec does, so when it is killed they break as gitlab-runner's would.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// Names the control socket to the process that plays gitlab-runner.
pub const SOCKET_VARIABLE: &str = "WINDLASS_TEST_PLAYER";
/// The name under which the test program finds the ignored test.
pub const TEST_NAME: &str = "support::player::plays_gitlab_runner";

/// What the test asks of it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Start a program.
    Start(Start),
    /// Send a signal to a program that it started, or to its whole process group.
    Signal {
        /// Which one.
        call: u64,
        /// The signal's number.
        signal: i32,
        /// Whether all of its process group gets it.
        group: bool,
    },
}

/// A program to start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The number by which events name it.
    pub call: u64,
    /// Program and arguments.
    pub arguments: Vec<Vec<u8>>,
    /// Its whole environment.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where it is started.
    pub directory: PathBuf,
    /// File for what it writes to stdout; without one only length and digest are kept.
    pub stdout: Option<PathBuf>,
    /// File for stderr.
    pub stderr: PathBuf,
}

/// What it tells the test.
#[derive(Debug, Serialize, Deserialize)]
pub enum Event {
    /// The program runs.
    Started { call: u64, pid: i32 },
    /// The program could not be started.
    Failed { call: u64, error: String },
    /// The program ended; its pipes may still be held by others.
    Exited { call: u64, code: Option<i32>, signal: Option<i32> },
    /// Both pipes were read to their end.
    Closed { call: u64, stdout: Stream, stderr: Stream },
}

/// What came through a pipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// How many bytes.
    pub length: u64,
    /// Their digest.
    pub digest: Digest,
}

/// A running FNV-1a digest: enough to see that no byte is lost, doubled or out of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Stream {
    /// Adds bytes to it.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let mut digest = self.digest.0;
        for byte in bytes {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.digest = Digest(digest);
    }
}

type Groups = Arc<Mutex<HashMap<u64, Pid>>>;
type Control = Arc<Mutex<UnixStream>>;

fn send(control: &Control, event: &Event) {
    let mut line = serde_json::to_vec(event).unwrap();
    line.push(b'\n');
    // Nobody listens once the test has ended; the reader notices that.
    let _ = control.lock().unwrap().write_all(&line);
}

fn serve(control: UnixStream) {
    let requests = BufReader::new(control.try_clone().unwrap());
    let control = Arc::new(Mutex::new(control));
    let groups = Groups::default();
    for line in requests.lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line).unwrap() {
            Request::Start(start) => launch(start, &control, &groups),
            Request::Signal { call, signal, group } => {
                let signal = Signal::try_from(signal).unwrap();
                if let Some(pid) = groups.lock().unwrap().get(&call) {
                    // It may have ended meanwhile.
                    let _ = if group { killpg(*pid, signal) } else { kill(*pid, signal) };
                }
            }
        }
    }
    for pid in groups.lock().unwrap().values() {
        let _ = killpg(*pid, Signal::SIGKILL);
    }
}

fn launch(start: Start, control: &Control, groups: &Groups) {
    let call = start.call;
    let mut arguments = start.arguments.into_iter().map(OsString::from_vec);
    let spawned = Command::new(arguments.next().unwrap())
        .args(arguments)
        .env_clear()
        .envs(start.environment.into_iter().map(|(key, value)| (OsString::from_vec(key), OsString::from_vec(value))))
        .current_dir(start.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return send(control, &Event::Failed { call, error: error.to_string() }),
    };
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    groups.lock().unwrap().insert(call, pid);
    send(control, &Event::Started { call, pid: pid.as_raw() });
    let stdout = drain(child.stdout.take().unwrap(), start.stdout);
    let stderr = drain(child.stderr.take().unwrap(), Some(start.stderr));
    let (control, groups) = (control.clone(), groups.clone());
    thread::spawn(move || {
        let status = child.wait().unwrap();
        groups.lock().unwrap().remove(&call);
        send(&control, &Event::Exited { call, code: status.code(), signal: status.signal() });
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        send(&control, &Event::Closed { call, stdout, stderr });
    });
}

fn drain(mut pipe: impl Read + Send + 'static, copy: Option<PathBuf>) -> thread::JoinHandle<Stream> {
    thread::spawn(move || {
        let mut copy = copy.map(|path| File::create(path).unwrap());
        let mut stream = Stream::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let length = pipe.read(&mut buffer).unwrap();
            if length == 0 {
                return stream;
            }
            stream.update(&buffer[..length]);
            if let Some(copy) = &mut copy {
                copy.write_all(&buffer[..length]).unwrap();
            }
        }
    })
}

#[test]
#[ignore = "the process that plays gitlab-runner for the other tests"]
fn plays_gitlab_runner() {
    if let Some(path) = std::env::var_os(SOCKET_VARIABLE) {
        serve(UnixStream::connect(path).unwrap());
    }
}
