//! What a test may not leave behind: leases, containers, networks, volumes, mounts, processes.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::host::Host;
use super::processes::{self, Process};

/// Leases that the daemon still has after `limit`.
pub fn leases(host: &Host, limit: Duration) -> Vec<String> {
    let start = Instant::now();
    loop {
        let there = match fs::read_dir(host.run_dir().join("leases")) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        if there.is_empty() {
            return Vec::new();
        }
        if start.elapsed() > limit {
            return there.iter().map(|path| format!("lease {}", path.display())).collect();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Finds what is left of a host whose daemon has ended, and removes it.
pub fn remove(host: &Host) -> Vec<String> {
    let mut left = Vec::new();
    let run_dir = host.run_dir().display().to_string();
    let label = format!("io.windlass.daemon={run_dir}");
    let ever = host.storage.containers_ever("io.windlass.daemon", &run_dir);
    for id in host.containers(&label) {
        left.push(format!("container {id}"));
        host.podman(&["rm", "--force", "--time", "0", &id]);
    }
    for kind in ["network", "volume"] {
        let names = host.podman(&[kind, "ls", "--quiet", "--filter", &format!("label={label}")]);
        for name in String::from_utf8_lossy(&names.stdout).lines() {
            left.push(format!("{kind} {name}"));
            host.podman(&[kind, "rm", "--force", name]);
        }
    }
    left.extend(mounts(host));
    left.extend(end_processes(host, &ever));
    left
}

fn mounts(host: &Host) -> Vec<String> {
    let dir = host.dir().display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(&dir)).map(|line| format!("mount {line}")).collect()
}

/// Processes that name the host's directory, or belong to one of its containers; they get a moment to end.
fn end_processes(host: &Host, containers: &[String]) -> Vec<String> {
    let dir = host.dir().display().to_string();
    let own = i32::try_from(std::process::id()).unwrap();
    let is_ours = |process: &Process| {
        let within = |text: &str| text.contains(&dir) || containers.iter().any(|id| text.contains(id.as_str()));
        process.pid != own
            && (within(&process.command) || within(&process.file("environ")) || within(&process.file("cgroup")))
    };
    let start = Instant::now();
    let mut there: Vec<Process>;
    loop {
        there = processes::all().into_iter().filter(is_ours).collect();
        if there.is_empty() || start.elapsed() > Duration::from_secs(5) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for process in &there {
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    there.iter().map(|process| format!("process {} {}", process.pid, process.command)).collect()
}
