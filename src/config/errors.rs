//! What is wrong with a configuration, all of it, as a person reads it: place, key, message, the line with a caret.

use std::fmt;
use std::ops::Range;

use super::sources::Sources;

/// Longer lines of the file are shown in part.
const SHOWN_LINE: usize = 160;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key, `syntax` where the file is not TOML, empty where the file as a whole is meant.
    pub key: String,
    /// What it is about, in bytes of all files together.
    pub span: Option<Range<usize>>,
    /// What is wrong, and what would be valid.
    pub message: String,
}

/// Everything that is wrong with a configuration, in the order of its files.
#[derive(Debug, Clone)]
pub struct ConfigErrors {
    sources: Sources,
    problems: Vec<Problem>,
    /// Said after the problems: why there may be more of them than these.
    note: Option<&'static str>,
}

impl ConfigErrors {
    pub(super) fn new(sources: Sources, mut problems: Vec<Problem>, note: Option<&'static str>) -> Self {
        problems.sort_by_key(|problem| problem.span.as_ref().map_or((0, 0), |span| (span.start, span.end)));
        Self { sources, problems, note }
    }

    /// The problems, in the order of the files.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    /// Ends without a newline, as errors do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let (source, place) = self.sources.locate(problem.span.as_ref()).ok_or(fmt::Error)?;
            let place = place.map(|span| Place::of(&source.text, &span));
            write!(f, "{}:", source.path.display())?;
            if let Some(place) = &place {
                write!(f, "{}:{}:", place.line, place.column)?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            write!(f, " {}", problem.message)?;
            if let Some(place) = &place {
                write!(f, "\n{place}")?;
            }
        }
        match self.note {
            Some(note) => write!(f, "\n{note}"),
            None => Ok(()),
        }
    }
}

/// A span's line and column, counted from 1 in characters, and what to show of the line.
struct Place<'a> {
    line: usize,
    column: usize,
    content: &'a str,
    /// Characters of this line that the span covers.
    width: usize,
}

impl<'a> Place<'a> {
    fn of(text: &'a str, span: &Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = match text[..start].rfind('\n') {
            Some(newline) => newline + 1,
            // A byte order mark takes no place on the screen, nor in an editor's columns.
            None => text.len() - text.trim_start_matches('\u{feff}').len(),
        };
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let end = text.floor_char_boundary(span.end.clamp(start, line_end));
        let chars = |range: Range<usize>| text.get(range).map_or(0, |part| part.trim_end().chars().count());
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text.get(line_start..start).map_or(0, |before| before.chars().count()) + 1,
            content: text.get(line_start..line_end).map_or("", |line| line.trim_end_matches('\r')),
            width: chars(start..end).max(1),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A long line is shown from a little before the place; control characters could rewrite the terminal.
        let skipped = (self.column + SHOWN_LINE / 4).saturating_sub(SHOWN_LINE).min(self.column - 1);
        let shown: String = self
            .content
            .chars()
            .skip(skipped)
            .take(SHOWN_LINE)
            .map(|c| match c {
                '\t' => ' ',
                c if c.is_control() => '\u{fffd}',
                c => c,
            })
            .collect();
        let gutter = self.line.to_string();
        let indent = self.column - 1 - skipped;
        let width = self.width.min(SHOWN_LINE.saturating_sub(indent)).max(1);
        writeln!(f, "  {gutter} | {shown}")?;
        write!(f, "  {:gutter$} | {:indent$}{:^<width$}", "", "", "", gutter = gutter.len())
    }
}
