//! Terminals: their size, and processes that have one of their own.
#![allow(
    unsafe_code,
    reason = "these ioctls have no safe wrapper in nix; what happens between fork and exec is unsafe in std"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize};
use nix::sys::signal::SigSet;
use nix::unistd::setsid;

/// A new terminal, both ends close-on-exec: a shell that held the far end of its own would never see it hang up.
///
/// # Errors
/// What openpty(3) or fcntl(2) say.
pub fn open() -> io::Result<OpenptyResult> {
    let pty = nix::pty::openpty(None, None)?;
    for end in [&pty.master, &pty.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(pty)
}

/// Lines, and characters of a line; none: it is no terminal.
#[must_use]
pub fn size(fd: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills in the struct that it is given, or fails.
    let result = unsafe { nix::libc::ioctl(fd.as_raw_fd(), nix::libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some((size.ws_row, size.ws_col))
}

/// Gives a terminal another size; what runs in it gets SIGWINCH.
///
/// # Errors
/// What ioctl(2) says.
pub fn set_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel reads the struct that it is given.
    let result = unsafe { nix::libc::ioctl(fd.as_raw_fd(), nix::libc::TIOCSWINSZ, &raw const size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets `command` run in a session of its own, with no signal blocked.
pub fn lead_session(command: &mut Command) {
    // SAFETY: between fork and exec only system calls run here; nothing allocates and no lock is taken.
    unsafe {
        command.pre_exec(|| {
            SigSet::empty().thread_set_mask()?;
            setsid()?;
            Ok(())
        });
    }
}

/// Makes the standard input of `command` the terminal of its session, which it has to lead by then.
pub fn take_terminal(command: &mut Command) {
    // SAFETY: between fork and exec only system calls run here; nothing allocates and no lock is taken.
    unsafe {
        command.pre_exec(|| {
            if nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_terminal_has_the_size_that_it_was_given_and_a_pipe_has_none() {
        let pty = open().expect("pty");
        set_size(pty.master.as_fd(), 33, 77).expect("set");
        assert_eq!(size(pty.slave.as_fd()), Some((33, 77)));
        let (reader, _writer) = io::pipe().expect("pipe");
        assert_eq!(size(reader.as_fd()), None);
    }
}
