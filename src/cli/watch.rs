//! `windlass status --watch`: the status again and again. In a terminal it stays in its place; elsewhere, and where `TERM` says that the
//! terminal can do nothing, it is written when it has changed.

use std::io::{self, IsTerminal, Write};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

/// How often the daemon is asked.
const PACE: Duration = Duration::from_secs(1);
/// Lines where a terminal does not say how many it has.
const LINES: u16 = 24;

/// Shows what `look` finds, until it is ended by a signal, or nobody reads any more. `look` gives the text, and what of it counts as a
/// change: ages do not.
///
/// # Errors
/// When it can't be written.
pub(super) fn watch(mut look: impl FnMut() -> (String, String)) -> Result<u8> {
    let mut out = io::stdout().lock();
    let is_terminal = out.is_terminal() && takes_sequences(std::env::var("TERM").ok().as_deref());
    let mut before = None;
    loop {
        let (text, counts) = look();
        let written = if is_terminal {
            let lines = terminal_size::terminal_size().map_or(LINES, |(_, height)| height.0);
            write(&mut out, &in_place(&text, lines))
        } else if before.as_ref() == Some(&counts) {
            Ok(())
        } else {
            let gap = if before.is_some() { "\n" } else { "" };
            write(&mut out, &format!("{gap}{text}"))
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            written => written?,
        }
        before = Some(counts);
        sleep(PACE);
    }
}

/// Whether a terminal of this kind takes sequences that move the cursor.
fn takes_sequences(kind: Option<&str>) -> bool {
    !matches!(kind, None | Some("" | "dumb"))
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The text over what was there, without flicker: each line is written over the old one and the rest of it erased, long ones are cut by
/// the terminal instead of wrapped, and what no longer fits below is left out.
fn in_place(text: &str, lines: u16) -> String {
    let most = usize::from(lines.max(2)) - 1;
    let count = text.lines().count();
    let mut shown: Vec<String> = text.lines().take(most).map(str::to_owned).collect();
    if count > most
        && let Some(last) = shown.last_mut()
    {
        *last = format!("... and {} more lines", count - most + 1);
    }
    format!("\u{1b}[?7l\u{1b}[H{}\u{1b}[K\r\n\u{1b}[J\u{1b}[?7h", shown.join("\u{1b}[K\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_that_can_do_nothing_gets_no_sequences() {
        assert!(takes_sequences(Some("xterm")) && takes_sequences(Some("linux")));
        assert!(!takes_sequences(Some("dumb")) && !takes_sequences(Some("")) && !takes_sequences(None));
    }

    #[test]
    fn a_terminal_gets_as_many_lines_as_it_has() {
        let text = in_place("one\ntwo\nthree\nfour\n", 4);
        assert!(text.contains("two\u{1b}[K") && text.contains("... and 2 more lines"), "{text:?}");
        assert!(!text.contains("three") && !text.contains("four"), "{text:?}");
        assert!(in_place("one\n", 24).starts_with("\u{1b}[?7l\u{1b}[Hone\u{1b}[K"));
    }
}
