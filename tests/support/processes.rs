//! Looking at processes through /proc.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process of this machine.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its arguments, joined by spaces.
    pub command: String,
}

impl Process {
    /// One of its files below /proc, as text; empty once it is gone.
    pub fn file(&self, name: &str) -> String {
        let bytes = fs::read(Path::new("/proc").join(self.pid.to_string()).join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid), signal).unwrap();
    }

    /// A field of /proc/PID/status.
    pub fn status(&self, field: &str) -> Option<String> {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    }
}

/// All processes that are not zombies.
pub fn all() -> Vec<Process> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(process).collect()
}

/// The process with that id; a zombie is none.
pub fn process(pid: i32) -> Option<Process> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|bytes| !bytes.is_empty())?;
    let command = bytes.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    Some(Process { pid, command: command.trim_end().to_owned() })
}

/// All that have `part` in their arguments.
pub fn with_argument(part: &str) -> Vec<Process> {
    all().into_iter().filter(|process| process.command.contains(part)).collect()
}

/// All that live in the pid namespace of this process, itself among them.
pub fn beside(pid: i32) -> Vec<Process> {
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(pid).expect("the process runs");
    all().into_iter().filter(|process| namespace(process.pid).is_some_and(|there| there == wanted)).collect()
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: i32) -> u64 {
    let process = process(pid).expect("the process runs");
    let text = process.status("VmRSS").expect("it has memory");
    text.split_whitespace().next().unwrap().parse().unwrap()
}
