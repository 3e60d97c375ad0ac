//! The stage's script and the shim's own output, as pipes: the only things that may cross into a container.
//!
//! SELinux lets a container use pipes that it is handed, and no regular file (container-selinux, container.te). So the script is
//! fed into a pipe, and where stdout or stderr is no pipe, a thread copies.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// Feeds `file` into a pipe; returns the end to read from.
///
/// # Errors
/// When no pipe can be made.
pub fn feed(mut file: File) -> io::Result<OwnedFd> {
    let (reader, mut writer) = io::pipe()?;
    // The shell may end without having read everything: then the pipe breaks, and that is that.
    thread::spawn(move || drop(io::copy(&mut file, &mut writer)));
    Ok(reader.into())
}

/// Where the stage's output goes.
#[derive(Debug)]
pub struct Sink {
    /// A pipe for the stage to write to.
    pub pipe: OwnedFd,
    copied: Option<Receiver<()>>,
}

impl Sink {
    /// `target` itself if it is a pipe, else a pipe that is copied to it.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn new(target: impl AsFd) -> io::Result<Self> {
        let target = target.as_fd().try_clone_to_owned()?;
        let mut file = File::from(target);
        if file.metadata()?.file_type().is_fifo() {
            return Ok(Self { pipe: file.into(), copied: None });
        }
        let (mut reader, writer) = io::pipe()?;
        let (done, copied) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                // Nobody to write to is no reason to stop the stage.
                let _ = file.write_all(&buffer[..count]);
            }
            let _ = done.send(());
        });
        Ok(Self { pipe: writer.into(), copied: Some(copied) })
    }

    /// Waits until everything was copied. The stage is over, so its end of the pipe is closed, unless its init lies: hence the
    /// bound.
    pub fn finish(self, bound: Duration) {
        drop(self.pipe);
        if let Some(copied) = self.copied {
            // An end of the thread counts as well as its word.
            let _ = copied.recv_timeout(bound);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regular_file_gets_the_output_through_a_pipe() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let sink = Sink::new(file.as_file()).expect("sink");
        let end = File::from(sink.pipe.try_clone().expect("clone"));
        assert!(end.metadata().expect("metadata").file_type().is_fifo());
        (&end).write_all(b"text").expect("write");
        drop(end);
        sink.finish(Duration::from_secs(60));
        assert_eq!(std::fs::read(file.path()).expect("read"), b"text");
    }

    #[test]
    fn a_script_longer_than_a_pipe_is_fed_whole() {
        let mut file = tempfile::tempfile().expect("file");
        let script = vec![b'#'; 300_000];
        file.write_all(&script).expect("write");
        io::Seek::rewind(&mut file).expect("rewind");
        let mut read = Vec::new();
        File::from(feed(file).expect("feed")).read_to_end(&mut read).expect("read");
        assert_eq!(read, script);
    }
}
