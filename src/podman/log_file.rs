//! A service's log as conmon writes it (`k8s-file`), read from its file: `podman logs` keeps quiet about what it has missed.
//!
//! A file that has its greatest length is replaced by an empty one. Whoever reads slowly has the old one open still, and reads it to its
//! end. If more than one was replaced meanwhile, those between are lost, and that is said.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Longest line that is passed on, in bytes; of a longer one the rest is left out.
pub const LINE_MAX: usize = 4096;
/// Longest line of the file: what conmon reads at once (8 KiB), behind a time and a stream's name.
const RAW_MAX: usize = 16 << 10;

/// What a log has next.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// A line of the service's, or the beginning of one.
    Line {
        /// Without its end.
        text: String,
        /// Whether the rest is left out.
        cut: bool,
    },
    /// Some lines are lost.
    Missed,
}

/// A log that is being read.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    /// The beginning of a line of the file.
    raw: Vec<u8>,
    /// Lines that conmon has not had whole yet, of stdout and stderr.
    partial: [Partial; 2],
    /// Nothing more is written to the file that is open.
    is_replaced: bool,
    missed: bool,
}

#[derive(Debug, Default)]
struct Partial {
    kept: Vec<u8>,
    cut: bool,
}

impl LogFile {
    /// The log of a service that is about to be started: an empty file for conmon to write to, so that the first one can't be replaced
    /// unread.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::options().read(true).append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self { reader: Some(BufReader::new(file)), ..Self::unopened(path) })
    }

    /// The log that is here, from now on: what was said before may have been read, or not.
    #[must_use]
    pub fn from_now_on(path: PathBuf) -> Self {
        let file = File::open(&path).ok().filter(|mut file| file.seek(SeekFrom::End(0)).is_ok());
        Self { reader: file.map(BufReader::new), missed: true, ..Self::unopened(path) }
    }

    /// A log that is not there, and nothing has been missed of.
    #[must_use]
    pub fn absent(path: PathBuf) -> Self {
        Self::unopened(path)
    }

    fn unopened(path: PathBuf) -> Self {
        Self { path, reader: None, raw: Vec::new(), partial: Default::default(), is_replaced: false, missed: false }
    }

    /// What it is called.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes that a line that was taken has reached nobody.
    pub fn miss(&mut self) {
        self.missed = true;
    }

    /// What the log has next; none while that is nothing.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(&mut self) -> io::Result<Option<Said>> {
        loop {
            if std::mem::take(&mut self.missed) {
                return Ok(Some(Said::Missed));
            }
            let Some(reader) = &mut self.reader else {
                match File::open(&self.path) {
                    Ok(file) => self.reader = Some(BufReader::new(file)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                }
                continue;
            };
            if read_line(reader, &mut self.raw)? {
                let raw = std::mem::take(&mut self.raw);
                if let Some(said) = self.take(&raw) {
                    return Ok(Some(said));
                }
            } else if self.is_replaced {
                self.go_on()?;
            } else if is_replaced(reader.get_ref(), &self.path)? {
                // What was written since its end was seen is there to be read still.
                self.is_replaced = true;
            } else {
                return Ok(None);
            }
        }
    }

    /// Opens the file in the place of the one that has been read to its end.
    fn go_on(&mut self) -> io::Result<()> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.reader = None;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(before) = &self.reader {
            self.missed = !follows(&before.get_ref().metadata()?, &file.metadata()?);
        }
        if self.missed {
            // The rest of what had begun is lost.
            self.partial = Default::default();
        }
        (self.reader, self.is_replaced) = (Some(BufReader::new(file)), false);
        self.raw.clear();
        Ok(())
    }

    /// A line of the file, such as `2026-01-01T00:00:00.1+00:00 stdout F text`; P instead of F: more of it comes.
    fn take(&mut self, raw: &[u8]) -> Option<Said> {
        let mut words = raw.splitn(4, |byte| *byte == b' ');
        let (_time, stream, tag) = (words.next()?, words.next()?, words.next()?);
        let text = words.next().unwrap_or_default();
        let partial = &mut self.partial[usize::from(stream == b"stderr")];
        let room = text.len().min(LINE_MAX - partial.kept.len());
        partial.kept.extend_from_slice(&text[..room]);
        partial.cut |= room < text.len();
        if tag.starts_with(b"P") {
            return None;
        }
        let Partial { kept, cut } = std::mem::take(partial);
        Some(Said::Line { text: String::from_utf8_lossy(&kept).trim_end_matches('\r').to_owned(), cut })
    }
}

/// Adds to a line; true when its end was there, which is not kept. No more than [`RAW_MAX`] bytes are.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        let there = reader.fill_buf()?;
        if there.is_empty() {
            return Ok(false);
        }
        let end = there.iter().position(|byte| *byte == b'\n');
        let part = &there[..end.unwrap_or(there.len())];
        line.extend_from_slice(&part[..part.len().min(RAW_MAX - line.len())]);
        let used = end.map_or(there.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Whether another file is in the place of this one, or none.
fn is_replaced(file: &File, path: &Path) -> io::Result<bool> {
    let about = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) != (about.dev(), about.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether `after` has taken the place of `before` itself. conmon makes the new file, then moves it over the old one, which changes
/// the old one for the last time: a file that was made later has another one before it. False where a file system does not know.
fn follows(before: &Metadata, after: &Metadata) -> bool {
    let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(before.ctime()), u64::try_from(before.ctime_nsec())) else {
        return false;
    };
    let replaced = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds);
    after.created().is_ok_and(|created| created <= replaced)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Puts a file with this text into the place of the log, as conmon does.
    fn replace(path: &Path, text: &str) {
        // Files are told apart by times that the kernel counts in some milliseconds.
        std::thread::sleep(Duration::from_millis(20));
        let new = path.with_extension("tmp");
        std::fs::write(&new, text).expect("write");
        std::fs::rename(&new, path).expect("rename");
    }

    fn append(path: &Path, text: &str) {
        let mut file = File::options().append(true).create(true).open(path).expect("open");
        file.write_all(text.as_bytes()).expect("write");
    }

    fn line(text: &str) -> String {
        format!("2026-01-01T00:00:00.1+00:00 stdout F {text}\n")
    }

    fn all(log: &mut LogFile) -> Vec<String> {
        let said = std::iter::from_fn(|| log.read().expect("read"));
        said.map(|said| match said {
            Said::Line { text, cut } => format!("{text}{}", if cut { "…" } else { "" }),
            Said::Missed => "missed".to_owned(),
        })
        .collect()
    }

    #[test]
    fn a_log_is_read_over_one_change_of_files_and_says_what_it_has_missed_over_two() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("log");
        let mut log = LogFile::create(path.clone()).expect("create");
        assert_eq!(all(&mut log), [""; 0]);
        append(&path, &line("one"));
        append(&path, "2026-01-01T00:00:00.1+00:00 std");
        assert_eq!(all(&mut log), ["one"]);
        append(&path, "out F two\n");
        // Written after the reader has seen the end, and before the file was replaced.
        replace(&path, &line("three"));
        append(&path, &line("four"));
        assert_eq!(all(&mut log), ["two", "three", "four"]);
        append(&path, &line("five"));
        replace(&path, &line("lost"));
        replace(&path, &line("seven"));
        assert_eq!(all(&mut log), ["five", "missed", "seven"]);
        log.miss();
        assert_eq!(all(&mut log), ["missed"]);
        // Before the first look.
        let path = dir.path().join("fast");
        let mut fast = LogFile::create(path.clone()).expect("create");
        replace(&path, &line("lost"));
        replace(&path, &line("two"));
        assert_eq!(all(&mut fast), ["missed", "two"]);
        let path = dir.path().join("log");
        append(&path, &line("eight"));
        let mut late = LogFile::from_now_on(path.clone());
        append(&path, &line("nine"));
        assert_eq!(
            (all(&mut log), all(&mut late)),
            (vec!["eight".into(), "nine".into()], vec!["missed".into(), "nine".into()])
        );
    }

    #[test]
    fn parts_are_put_together_by_stream_and_of_a_line_without_an_end_the_beginning_is_kept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("log");
        let part = |stream: &str, tag: &str, text: &str| append(&path, &format!("T {stream} {tag} {text}\n"));
        part("stdout", "P", "be");
        part("stderr", "F", "an error\r");
        part("stdout", "F", "ginning");
        part("stdout", "F", "");
        (0..1000).for_each(|_| part("stdout", "P", &"x".repeat(8000)));
        part("stdout", "F", "end");
        part("stdout", "F", &"y".repeat(1 << 20));
        let mut log = LogFile::create(path.clone()).expect("create");
        let expected =
            ["an error", "beginning", "", &format!("{}…", "x".repeat(LINE_MAX)), &format!("{}…", "y".repeat(LINE_MAX))];
        assert_eq!(all(&mut log), expected);
        assert!(
            log.partial.iter().all(|partial| partial.kept.capacity() <= LINE_MAX) && log.raw.capacity() <= 2 * RAW_MAX
        );
    }
}
