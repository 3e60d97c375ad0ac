//! Parses the file as TOML and says what is not, going on behind mistakes that concern one line only.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error};

use super::errors::Problem;
use super::tree;

/// The key that problems of syntax are filed under.
const SYNTAX: &str = "syntax";

/// Messages of the parser after which it is known to be back in step on the next line. Behind any other nothing is
/// believed: it may be inside a list or table that was never closed.
const ONE_LINE_ONLY: [&str; 9] = [
    "string values must be quoted",
    "invalid basic string",
    "invalid literal string",
    "invalid float",
    "invalid boolean",
    "unexpected leading zero",
    "unexpected key or value",
    "missing comma between array elements",
    DUPLICATE,
];

/// How many errors of the parser are looked at; one mistake can make thousands.
const MOST_ERRORS: usize = 200;

const DUPLICATE: &str = "duplicate key";
const NO_VALUE: &str = "key with no value";
const UNCLOSED: [&str; 2] = ["unclosed array", "unclosed inline table"];

/// What could be made of the file.
pub(super) struct Parsed<'i> {
    /// The document, without the values that were not TOML.
    pub table: Spanned<DeTable<'i>>,
    pub problems: Vec<Problem>,
    /// Whether all of the file was understood; otherwise keys may be missing or in the wrong table.
    pub whole: bool,
}

/// Parses `text`.
pub(super) fn parse(text: &str) -> Parsed<'_> {
    let (table, mut errors) = DeTable::parse_recoverable(text);
    let mut parsed = Parsed { table, problems: Vec::new(), whole: true };
    errors.sort_by_key(start);
    if let Some(opening) = unclosed(&parsed, &errors) {
        errors.retain(|error| start(error) < opening.start);
        parsed.whole = false;
        let bracket = text.get(opening.clone()).unwrap_or_default();
        let closing = if bracket == "{" { "}" } else { "]" };
        parsed.problems.push(Problem {
            key: SYNTAX.to_owned(),
            span: Some(opening),
            message: format!("the `{bracket}` here is never closed: `{closing}` is missing"),
        });
    }
    if errors.len() > MOST_ERRORS {
        errors.truncate(MOST_ERRORS);
        parsed.whole = false;
    }
    for line in errors.chunk_by(|one, other| line_of(text, one) == line_of(text, other)) {
        // One mistake often makes several errors in its line; the one that the parser can't pass is the telling one.
        let without_value = line.iter().find(|error| is_line_without_value(text, error));
        let stopper = line.iter().find(|error| !ONE_LINE_ONLY.iter().any(|known| error.message().starts_with(known)));
        let stopper = stopper.filter(|_| without_value.is_none());
        let Some(error) = without_value.or(stopper).or(line.first()) else { continue };
        let problem = explain(text, &parsed.table, error);
        parsed.problems.push(problem);
        line.iter().for_each(|error| drop_value(&mut parsed.table, error));
        if stopper.is_some() {
            parsed.whole = false;
            break;
        }
    }
    parsed
}

/// Whether the error's line is a key without `=`. Half a header is not: the keys below it would be in the wrong table.
fn is_line_without_value(text: &str, error: &Error) -> bool {
    let line = text.lines().nth(line_of(text, error)).unwrap_or_default();
    error.message().starts_with(NO_VALUE) && !line.contains(['[', ']'])
}

/// Where a list or inline table begins that the end of the file cut off.
fn unclosed(parsed: &Parsed<'_>, errors: &[Error]) -> Option<Range<usize>> {
    let error = errors.iter().find(|error| UNCLOSED.iter().any(|known| error.message().starts_with(known)))?;
    let path = tree::outermost_value(parsed.table.get_ref(), start(error))?;
    let value = tree::span_of(parsed.table.get_ref(), &path)?;
    Some(value.start..value.start + 1)
}

/// The error in words for somebody who does not know TOML's grammar.
fn explain(text: &str, table: &Spanned<DeTable<'_>>, error: &Error) -> Problem {
    let span = error.span();
    let message = error.message();
    if message == DUPLICATE {
        let again = span.clone().and_then(|span| text.get(span)).unwrap_or_default();
        return Problem {
            key: again.to_owned(),
            span,
            message: "is given twice in this table; keep one of them".to_owned(),
        };
    }
    if is_line_without_value(text, error) {
        let message = "there is no `=` here; a line is `key = value`, or `[table]`".to_owned();
        return Problem { key: SYNTAX.to_owned(), span, message };
    }
    let place = start(error);
    let path = tree::innermost_value(table.get_ref(), place);
    let value = path.as_ref().and_then(|path| tree::span_of(table.get_ref(), path));
    if let (Some(path), Some(value)) = (path, value) {
        let raw = text.get(value.clone()).unwrap_or_default().trim();
        let key = path.to_string();
        if raw.is_empty() {
            return Problem { key, span: Some(value), message: "has no value after the `=`".to_owned() };
        }
        let bare = raw.trim_matches(['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}']);
        if message.starts_with("string values must be quoted") || raw.starts_with(|c: char| c.is_alphabetic()) {
            return Problem { key, span: Some(value), message: format!("text must be in quotes: {bare:?}") };
        }
        if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
            let message = "the text's closing quote is missing in this line".to_owned();
            return Problem { key, span: Some(value), message };
        }
    }
    Problem { key: SYNTAX.to_owned(), span, message: message.to_owned() }
}

/// Takes away the value that an error is in, which the parser has only guessed. A key given twice keeps its value:
/// that one was understood.
fn drop_value(table: &mut Spanned<DeTable<'_>>, error: &Error) {
    if error.message() == DUPLICATE {
        return;
    }
    if let Some(path) = tree::innermost_value(table.get_ref(), start(error)) {
        tree::remove(table.get_mut(), &path);
    }
}

fn start(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

fn line_of(text: &str, error: &Error) -> usize {
    text.as_bytes().iter().take(start(error)).filter(|byte| **byte == b'\n').count()
}
