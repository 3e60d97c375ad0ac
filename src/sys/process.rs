//! Processes made or watched in ways that std has no safe call for.
#![allow(unsafe_code, reason = "pidfd_open has no wrapper in nix; what happens between fork and exec is unsafe in std")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setsid, setuid};

/// A descriptor that becomes readable when process `pid` ends (pidfd_open(2), Linux 5.3).
///
/// # Errors
/// `ESRCH` when there is no such process, `ENOSYS` on an older kernel.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: two integers in, a descriptor or an error out.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for this process (close-on-exec).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits for the end of a process, by its pidfd.
///
/// # Errors
/// What the runtime says when it can't wait for this descriptor.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;
    // SAFETY: an OwnedFd stays the same open descriptor until it is dropped, and nothing takes it out of the AsyncFd.
    let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::other)?;
    pidfd.readable().await.map(drop)
}

/// When a process started, in clock ticks since boot: with its number, that names it for good (/proc/PID/stat, field 22).
#[must_use]
pub fn start_time(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, parentheses too; 19 fields lie between it and the start time.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Milliseconds since boot, time asleep included: a clock that nobody sets.
#[must_use]
pub fn boot_millis() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    // It can't fail for this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        let (seconds, nanoseconds) =
            (u64::try_from(time.tv_sec()).unwrap_or(0), u64::try_from(time.tv_nsec()).unwrap_or(0));
        seconds * 1000 + nanoseconds / 1_000_000
    })
}

/// Lets this process have the disk and the CPU only when nobody else wants them (ioprio_set(2), class idle; nice 19).
pub fn yield_to_others() {
    /// `IOPRIO_WHO_PROCESS`, and class 3 (idle) in the three highest of 16 bits (linux/ioprio.h).
    const WHO_PROCESS: i32 = 1;
    const IDLE: i32 = 3 << 13;
    // SAFETY: integers in, an integer out. A kernel that refuses leaves the priority as it was, which is no reason not to work.
    unsafe {
        nix::libc::syscall(nix::libc::SYS_ioprio_set, WHO_PROCESS, 0, IDLE);
        nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, 19);
    }
}

/// Who a stage's shell runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id inside the container.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// Lets `command` run as `identity`, in a session of its own, with no signal blocked, and with this umask if one is given.
pub fn run_as(command: &mut Command, identity: &Identity, umask: Option<u32>) {
    let uid = Uid::from_raw(identity.uid);
    let gid = Gid::from_raw(identity.gid);
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    // SAFETY: between fork and exec only system calls run here; nothing allocates and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            // The init blocks the signals that it reads; std leaves the mask as it is.
            SigSet::empty().thread_set_mask()?;
            if let Some(umask) = umask {
                nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(umask));
            }
            setsid()?;
            setgroups(&groups)?;
            setgid(gid)?;
            setuid(uid)?;
            Ok(())
        });
    }
}

/// Lets `command` inherit `fd` under the number `number` (not close-on-exec there). The caller keeps `fd` open until
/// the command was started.
pub fn inherit_as(command: &mut Command, fd: &OwnedFd, number: RawFd) {
    let source = fd.as_raw_fd();
    // SAFETY: between fork and exec only system calls run here; nothing allocates and no lock is taken.
    unsafe {
        command.pre_exec(move || {
            let result = if source == number {
                nix::libc::fcntl(source, nix::libc::F_SETFD, 0)
            } else {
                nix::libc::dup2(source, number)
            };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_pidfd_tells_when_its_process_ends() {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::os::fd::AsFd;
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat");
        let fd = pidfd(Pid::from_raw(i32::try_from(child.id()).expect("pid"))).expect("pidfd");
        let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut set, PollTimeout::ZERO).expect("poll"), 0, "it still runs");
        drop(child.stdin.take());
        assert_eq!(poll(&mut set, PollTimeout::from(10_000_u16)).expect("poll"), 1);
        child.wait().expect("wait");
    }

    #[test]
    fn a_command_inherits_a_descriptor_under_the_number_it_was_given() {
        let (reader, mut writer) = io::pipe().expect("pipe");
        let mut command = Command::new("sh");
        command.args(["-c", "cat <&7"]).stdout(Stdio::piped());
        let fd = OwnedFd::from(reader);
        inherit_as(&mut command, &fd, 7);
        let mut child = command.spawn().expect("sh");
        writer.write_all(b"seen").expect("write");
        drop((writer, fd));
        let mut text = String::new();
        child.stdout.take().expect("stdout").read_to_string(&mut text).expect("read");
        child.wait().expect("wait");
        assert_eq!(text, "seen");
    }
}
