//! Between the caller's streams and the shell's: keys one way, output the other, the window's size, and the end.
//!
//! Input has a thread of its own: a shell that reads nothing must not keep its output from being shown. What comes from the container is input from
//! the job: frames are capped, and codes checked.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::iterator::Signals;

use super::terminal::Raw;
use crate::protocol::daemon::{Reply, Request};
use crate::protocol::frame::{Decoder, Kind, MESSAGE_MAX, encode, encode_message};
use crate::protocol::shell::{FromShell, Size, ToShell};
use crate::protocol::stream;
use crate::sys::terminal;

/// Longest piece of input in one frame, in bytes.
const PIECE: usize = 16 * 1024;
/// How long the daemon may take to say why a shell did not begin.
const WHY: Duration = Duration::from_secs(10);
/// Exit code of a shell that was ended: 128 and SIGKILL, as a shell would say it.
const KILLED: u8 = 137;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// By itself, with this exit code.
    Exited(u8),
    /// It was ended.
    Killed,
    /// It never began; why, if the container has said so.
    Refused(Option<String>),
}

/// One frame at a time goes to the shell.
type ToFarSide = Arc<Mutex<UnixStream>>;

/// Passes everything on until the shell has ended; returns its exit code.
pub fn run(daemon: &UnixStream, shell: UnixStream, is_terminal: bool) -> Result<u8> {
    let to_shell: ToFarSide = Arc::new(Mutex::new(shell.try_clone().context("share the connection to the shell")?));
    let raw = Raw::begin(is_terminal)?;
    forward_signals(&to_shell, &raw, is_terminal)?;
    thread::spawn(move || forward_input(&to_shell));
    let end = show(&shell);
    raw.end();
    let end = end?;
    if is_terminal && end == End::Killed {
        eprintln!(
            "\r\nwindlass: the shell was ended with all processes of its container, as at each end of a stage, or the container is gone"
        );
    }
    let code = if let End::Exited(code) = &end { Some(i32::from(*code)) } else { None };
    let result = match end {
        End::Exited(code) => Ok(code),
        End::Killed => Ok(KILLED),
        End::Refused(Some(message)) => Err(anyhow!("{message}")),
        End::Refused(None) => Err(anyhow!("{}", why(daemon))),
    };
    // For the daemon's log; a daemon that is away notes no end.
    let _ = stream::send(daemon, &Request::ShellDone { code });
    result
}

/// Why a shell did not begin, in the daemon's words.
fn why(daemon: &UnixStream) -> String {
    let _ = daemon.set_read_timeout(Some(WHY));
    match stream::receive_message(daemon, &mut Decoder::new(MESSAGE_MAX)) {
        Ok(Reply::Failed { message, .. }) => message,
        _ => "the shell could not be started, and windlassd does not say why; its log may".to_owned(),
    }
}

fn send(to: &ToFarSide, bytes: &[u8]) -> io::Result<()> {
    to.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
}

/// Ends with the input, or with the shell.
fn forward_input(to: &ToFarSide) {
    let mut buffer = vec![0; PIECE];
    loop {
        let count = match io::stdin().lock().read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(count) => count,
            Err(_) => 0,
        };
        if send(to, &encode(Kind::Stdin, &buffer[..count])).is_err() || count == 0 {
            return;
        }
    }
}

/// Tells the far side of a window's new size. Other signals end this program, with the terminal as it was.
fn forward_signals(to: &ToFarSide, raw: &Raw, is_terminal: bool) -> Result<()> {
    if !is_terminal {
        return Ok(());
    }
    let mut signals = Signals::new([SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT]).context("handle signals")?;
    let (to, raw) = (Arc::clone(to), raw.clone());
    thread::spawn(move || {
        for signal in signals.forever() {
            if signal != SIGWINCH {
                raw.end();
                std::process::exit(128 + signal);
            }
            if let Some((rows, columns)) = terminal::size(io::stdin().as_fd()) {
                // A shell that has just ended needs no size.
                let _ = send(&to, &encode_message(&ToShell::Resize(Size { rows, columns })));
            }
        }
    });
    Ok(())
}

/// Shows what the shell prints, to its end.
fn show(mut shell: &UnixStream) -> Result<End> {
    let (mut decoder, mut buffer, mut began) = (Decoder::new(MESSAGE_MAX + 1024), vec![0; MESSAGE_MAX], false);
    loop {
        while let Some(frame) = decoder.next_frame().context("understand the shell")? {
            match frame.kind {
                Kind::Stdout => put(io::stdout().lock(), &frame.body)?,
                Kind::Stderr => put(io::stderr().lock(), &frame.body)?,
                _ => match frame.message().context("understand the shell")? {
                    FromShell::Started => began = true,
                    FromShell::Refused { message } => return Ok(End::Refused(Some(printable(&message)))),
                    FromShell::Ended { code, signal } => return Ok(verdict(code, signal)),
                },
            }
        }
        match shell.read(&mut buffer) {
            Ok(0) if began => return Ok(End::Killed),
            Ok(0) => return Ok(End::Refused(None)),
            Ok(count) => decoder.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(End::Killed),
            Err(error) => return Err(error).context("read from the shell"),
        }
    }
}

fn put(mut to: impl Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).and_then(|()| to.flush()).context("write what the shell prints")
}

/// An end that can't be is one by force.
fn verdict(code: Option<i32>, signal: Option<i32>) -> End {
    let code = match (code, signal) {
        (Some(code), None) => u8::try_from(code).ok(),
        (None, Some(signal)) => u8::try_from(signal).ok().and_then(|signal| signal.checked_add(128)),
        _ => None,
    };
    code.map_or(End::Killed, End::Exited)
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_signals_are_the_shells_own_and_others_are_none() {
        for code in 0..=255 {
            assert_eq!(verdict(Some(code), None), End::Exited(u8::try_from(code).expect("small")));
        }
        assert_eq!(verdict(None, Some(15)), End::Exited(143));
        for (code, signal) in [(None, None), (Some(256), None), (Some(-1), None), (Some(1), Some(1)), (None, Some(300))]
        {
            assert_eq!(verdict(code, signal), End::Killed, "{code:?} {signal:?}");
        }
    }

    #[test]
    fn what_comes_in_frames_is_shown_and_the_end_is_told_from_a_loss() {
        let shown = |messages: &[FromShell]| {
            let (near, mut far) = UnixStream::pair().expect("pair");
            for message in messages {
                far.write_all(&encode_message(message)).expect("write");
            }
            drop(far);
            show(&near).expect("valid")
        };
        assert_eq!(shown(&[FromShell::Started, FromShell::Ended { code: Some(3), signal: None }]), End::Exited(3));
        assert_eq!(shown(&[FromShell::Started]), End::Killed);
        assert_eq!(shown(&[]), End::Refused(None));
        let refused = FromShell::Refused { message: "no\x1b[2J shell".to_owned() };
        assert_eq!(shown(&[refused]), End::Refused(Some("no[2J shell".to_owned())));
    }
}
