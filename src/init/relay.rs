//! `exec` mode: the stage's bytes travel in frames on standard input and output, for hosts whose policy lets no pipe
//! into a container. To the engine this looks like a shim that hands over three pipes.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

use crate::protocol::frame::{Decoder, Kind, MESSAGE_MAX, STAGE_MAX, encode, head};
use crate::protocol::init::{Reply, Request};
use crate::protocol::stream;

/// Longest piece of output in one frame, in bytes.
const PIECE: usize = 64 * 1024;

type Output = Arc<Mutex<io::Stdout>>;
type Copies = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// Starts the threads that relay between standard input and output and the engine at the other end of `engine`.
pub fn start(engine: UnixStream) -> Result<()> {
    super::engine::block_signals()?;
    let output: Output = Arc::new(Mutex::new(io::stdout()));
    let copies: Copies = Arc::default();
    let incoming = engine.try_clone().context("share the engine's socket")?;
    let (in_output, in_copies) = (Arc::clone(&output), Arc::clone(&copies));
    thread::spawn(move || {
        // Whatever ends the input, the engine has to learn of it: it ends the stage then.
        if let Err(error) = relay_requests(&incoming, &in_output, &in_copies) {
            eprintln!("windlass-init: {error:#}");
        }
        let _ = incoming.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        if let Err(error) = relay_replies(&engine, &output, &copies) {
            eprintln!("windlass-init: {error:#}");
        }
        // The engine ends the program: at once after a stage, and after it has ended one whose caller is gone.
        let _ = engine.shutdown(Shutdown::Both);
    });
    Ok(())
}

/// From standard input to the engine.
fn relay_requests(engine: &UnixStream, output: &Output, copies: &Copies) -> Result<()> {
    let mut decoder = Decoder::new(STAGE_MAX);
    let mut script: Option<Sender<Vec<u8>>> = None;
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; PIECE];
    loop {
        while let Some(frame) = decoder.next_frame()? {
            match frame.kind {
                Kind::Message => match frame.message()? {
                    request @ Request::Begin { .. } => script = Some(begin(engine, &request, output, copies)?),
                    request => stream::send(engine, &request).context("pass a request on")?,
                },
                Kind::Stdin if frame.body.is_empty() => script = None,
                Kind::Stdin => {
                    if let Some(script) = &script {
                        // The shell may have ended without reading all of its script.
                        let _ = script.send(frame.body);
                    }
                }
                kind => anyhow::bail!("a frame of kind {kind:?} on standard input"),
            }
        }
        match input.read(&mut buffer).context("read standard input")? {
            0 => return Ok(()),
            count => decoder.push(&buffer[..count]),
        }
    }
}

/// Makes the pipes of a stage and lets it begin; what is sent to the result becomes its standard input.
fn begin(engine: &UnixStream, request: &Request, output: &Output, copies: &Copies) -> Result<Sender<Vec<u8>>> {
    let (stdin, to_stdin) = io::pipe().context("make a pipe")?;
    let (from_stdout, stdout) = io::pipe().context("make a pipe")?;
    let (from_stderr, stderr) = io::pipe().context("make a pipe")?;
    stream::send_with_fds(engine, request, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
        .context("begin the stage")?;
    let (sender, pieces) = channel();
    thread::spawn(move || feed(to_stdin, &pieces));
    let mut list = copies.lock().unwrap_or_else(PoisonError::into_inner);
    for (kind, from) in [(Kind::Stdout, from_stdout), (Kind::Stderr, from_stderr)] {
        let output = Arc::clone(output);
        list.push(thread::spawn(move || copy(kind, from, &output)));
    }
    Ok(sender)
}

fn feed(mut to: io::PipeWriter, pieces: &Receiver<Vec<u8>>) {
    for piece in pieces {
        if to.write_all(&piece).is_err() {
            return;
        }
    }
}

fn copy(kind: Kind, mut from: io::PipeReader, output: &Output) {
    let mut buffer = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        if output
            .write_all(&head(kind, count))
            .and_then(|()| output.write_all(&buffer[..count]))
            .and_then(|()| output.flush())
            .is_err()
        {
            return;
        }
    }
}

/// From the engine to standard output, until the stage's end.
fn relay_replies(engine: &UnixStream, output: &Output, copies: &Copies) -> Result<()> {
    let mut decoder = Decoder::new(MESSAGE_MAX);
    loop {
        let frame = stream::receive(engine, &mut decoder).context("read from the engine")?;
        let last = matches!(frame.message()?, Reply::Exited(_) | Reply::Refused { .. });
        if last {
            // The engine has closed its ends: what these threads still hold is the last of the output.
            for thread in copies.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                let _ = thread.join();
            }
        }
        let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
        output
            .write_all(&encode(Kind::Message, &frame.body))
            .and_then(|()| output.flush())
            .context("write standard output")?;
        if last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::encode_message;

    #[test]
    fn a_reply_is_passed_on_byte_for_byte() {
        let bytes = encode_message(&Reply::Started);
        let mut decoder = Decoder::new(MESSAGE_MAX);
        decoder.push(&bytes);
        let frame = decoder.next_frame().expect("valid").expect("whole");
        assert_eq!(encode(Kind::Message, &frame.body), bytes);
    }
}
