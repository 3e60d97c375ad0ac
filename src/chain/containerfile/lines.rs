//! From a file to its instructions: directives, continued lines, comments, here-documents.

use super::words;

/// An instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The line that it begins in, from 1.
    pub line: usize,
    /// Its name in upper case.
    pub name: String,
    /// What follows, in one line.
    pub rest: String,
}

impl Instruction {
    /// Whether it is called like this.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

/// What is said before everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directives {
    /// The image that reads the file for BuildKit.
    pub syntax: Option<String>,
    /// What continues a line.
    pub escape: char,
}

/// Reads directives and instructions.
pub fn read(text: &str) -> (Directives, Vec<Instruction>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let directives = directives(&lines);
    let mut instructions = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let begin = at;
        let Some(whole) = logical_line(&lines, &mut at, directives.escape) else { continue };
        let trimmed = whole.trim();
        let (name, rest) = trimmed.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((trimmed, ""));
        let name = name.to_ascii_uppercase();
        let rest = rest.trim().to_owned();
        let inner = if name == "ONBUILD" { rest.split_ascii_whitespace().next().unwrap_or_default() } else { &name };
        if ["RUN", "COPY", "ADD"].iter().any(|known| inner.eq_ignore_ascii_case(known)) {
            for document in words::here_documents(&rest, directives.escape) {
                skip_here_document(&lines, &mut at, &document);
            }
        }
        instructions.push(Instruction { line: begin + 1, name, rest });
    }
    (directives, instructions)
}

/// Directives stand before everything else, and end with the first line that is none.
fn directives(lines: &[&str]) -> Directives {
    let mut found = Directives { syntax: None, escape: '\\' };
    for line in lines {
        let Some(comment) = line.trim_start().strip_prefix('#') else { break };
        let Some((key, value)) = comment.split_once('=') else { break };
        match (key.trim().to_ascii_lowercase().as_str(), value.trim()) {
            ("syntax", value) => found.syntax = value.split_ascii_whitespace().next().map(str::to_owned),
            ("escape", "`") => found.escape = '`',
            ("escape" | "check", _) => {}
            _ => break,
        }
    }
    found
}

/// Joins a line with those that continue it; comments and empty lines among them are no part of it. None for a line without an
/// instruction.
fn logical_line(lines: &[&str], at: &mut usize, escape: char) -> Option<String> {
    let mut whole = String::new();
    let mut begun = false;
    while let Some(line) = lines.get(*at) {
        *at += 1;
        let blank = line.trim_start();
        if blank.is_empty() || blank.starts_with('#') {
            if begun {
                continue;
            }
            return None;
        }
        begun = true;
        match continued(line, escape) {
            Some(piece) => whole.push_str(piece),
            None => {
                whole.push_str(line);
                break;
            }
        }
    }
    begun.then_some(whole)
}

/// The line without the sign that the next continues it; none without that sign. A doubled sign is none.
fn continued(line: &str, escape: char) -> Option<&str> {
    let piece = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!piece.ends_with(escape)).then_some(piece)
}

/// A here-document's end: its word, and whether tabs may stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HereDocument {
    /// The word.
    pub end: String,
    /// Whether tabs before it don't count.
    pub tabs: bool,
}

/// Goes behind a here-document. One that has no end is none: what follows would be lost.
fn skip_here_document(lines: &[&str], at: &mut usize, document: &HereDocument) {
    let is_end = |line: &&str| {
        let line = if document.tabs { line.trim_start_matches('\t') } else { line };
        line == document.end
    };
    if let Some(length) = lines[(*at).min(lines.len())..].iter().position(is_end) {
        *at += length + 1;
    }
}
