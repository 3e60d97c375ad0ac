//! One process, called as gitlab-runner calls it: both outputs are pipes, and it is done when they have been read to their end.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Result;

/// How much is read at once: what the writers of the log row write at once.
const PIECE: usize = 64 * 1024;
/// How much of an output is kept.
const KEPT: usize = 64 * 1024;

/// A process that ended well.
#[derive(Debug)]
pub struct Done {
    /// From its start to the end of its output and its exit.
    pub elapsed: Duration,
    /// The beginning of its output.
    pub stdout: Vec<u8>,
    /// How many bytes of output there were.
    pub bytes: u64,
}

/// Runs a command to its end. Its stdin is what the command says.
pub fn call(command: &mut Command) -> Result<Done> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |what: &str| format!("{name}: {what}");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let since = Instant::now();
    let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
    let stderr = child.stderr.take();
    let errors = std::thread::spawn(move || drain(stderr));
    let (stdout, bytes) = drain(child.stdout.take());
    let (stderr, _) = errors.join().map_err(|_| failed("its errors could not be read"))?;
    let status = child.wait().map_err(|error| failed(&error.to_string()))?;
    let elapsed = since.elapsed();
    if !status.success() {
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).trim().to_owned();
        return Err(failed(&format!("{status}, and said: {said}")));
    }
    Ok(Done { elapsed, stdout, bytes })
}

/// Reads to the end; returns the beginning, and how much there was.
fn drain(stream: Option<impl Read>) -> (Vec<u8>, u64) {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    let Some(mut stream) = stream else { return (kept, bytes) };
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece) {
            // A pipe that can't be read has ended as far as anyone can tell; the exit status says how.
            Ok(0) => return (kept, bytes),
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return (kept, bytes),
            Err(_) => {}
            Ok(count) => {
                bytes += count as u64;
                let room = KEPT.saturating_sub(kept.len()).min(count);
                kept.extend_from_slice(&piece[..room]);
            }
        }
    }
}
