//! The files that a configuration is read from: the main one, and what is in conf.d beside it.
//!
//! They are put one behind the other, and a place is a range of bytes of the whole. So a place needs no file of its own.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::errors::Problem;

/// The directory beside the main file.
const DIRECTORY: &str = "conf.d";

/// A larger file is no configuration.
const MAX_FILE: u64 = 256 << 10;

/// More files than this are no configuration either.
const MAX_FILES: usize = 100;

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub path: PathBuf,
    /// Empty where it could not be read.
    pub text: String,
    /// Where it begins in the whole.
    pub start: usize,
    /// Why nothing is known of what it says.
    pub unread: Option<Problem>,
}

/// All of them, in the order in which they count.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(Vec<Source>);

impl Sources {
    /// A single text under the name of a file.
    pub(super) fn text(path: &Path, text: &str) -> Self {
        let mut sources = Self::default();
        sources.add(path.to_owned(), Ok(text.as_bytes().to_vec()));
        sources
    }

    /// Reads one file that has no conf.d; none where it is not there.
    pub(super) fn alone(path: &Path) -> Option<Self> {
        let bytes = match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            bytes => bytes.map_err(|error| unreadable(&error)),
        };
        let mut sources = Self::default();
        sources.add(path.to_owned(), bytes);
        Some(sources)
    }

    /// Reads the main file and those in its conf.d.
    pub(super) fn open(main: &Path) -> Self {
        let mut sources = Self::default();
        sources.add(main.to_owned(), read(main).map_err(|error| no_main_file(&error)));
        if sources.0[0].unread.is_some() {
            return sources;
        }
        match drop_ins(main) {
            Ok(paths) if paths.len() > MAX_FILES => {
                let message = format!("has {} files, which no configuration has; {MAX_FILES} are read", paths.len());
                sources.add(directory(main), Err(message));
            }
            Ok(paths) => {
                for path in paths {
                    let bytes = read(&path).map_err(|error| unreadable(&error));
                    sources.add(path, bytes);
                }
            }
            Err(error) => sources.add(directory(main), Err(unreadable(&error))),
        }
        sources
    }

    fn add(&mut self, path: PathBuf, bytes: Result<Vec<u8>, String>) {
        // A byte lies between two files, so that the end of one is not the beginning of the next.
        let start = self.0.last().map_or(0, |last| last.start + last.text.len() + 1);
        let problem = |key: &str, at: Range<usize>, message| Problem {
            key: key.to_owned(),
            span: Some(start + at.start..start + at.end),
            message,
        };
        let (text, unread) = match bytes.map(String::from_utf8) {
            Ok(Ok(text)) => (text, None),
            Ok(Err(error)) => {
                let at = error.utf8_error().valid_up_to();
                let message = "the file is not UTF-8 text: this byte belongs to no character".to_owned();
                (String::from_utf8_lossy(error.as_bytes()).into_owned(), Some(problem("syntax", at..at + 1, message)))
            }
            Err(message) => (String::new(), Some(problem("", 0..0, message))),
        };
        self.0.push(Source { path, text, start, unread });
    }

    /// Each file.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Source> {
        self.0.iter()
    }

    /// The file that a place is in, and the place within it. What has no place is said of the main file.
    pub(super) fn locate(&self, span: Option<&Range<usize>>) -> Option<(&Source, Option<Range<usize>>)> {
        let Some(span) = span else { return self.0.first().map(|main| (main, None)) };
        let source = self.0.iter().rev().find(|source| source.start <= span.start)?;
        // A file that could not be read has no lines.
        let place = (!source.text.is_empty()).then(|| span.start - source.start..span.end - source.start);
        Some((source, place))
    }
}

fn directory(main: &Path) -> PathBuf {
    main.parent().unwrap_or(Path::new("")).join(DIRECTORY)
}

/// The files of conf.d beside the main file, in the order of their names. Those that begin with a dot are an editor's.
pub fn drop_ins(main: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory(main)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 256 KiB, which no configuration is",
        ));
    }
    Ok(bytes)
}

fn no_main_file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file. An empty one is valid, since every key has a default; the \
             shipped one, with every key explained, is /usr/share/doc/windlass/windlass.toml (in the source tree \
             config/windlass.toml)"
            .to_owned(),
        _ => unreadable(error),
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("can't be read: {error}; run this as root or as the service's user"),
        _ => format!("can't be read: {error}"),
    }
}
