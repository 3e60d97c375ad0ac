//! Variables in FROM and in the defaults of ARG, with all modifiers that BuildKit knows (frontend/dockerfile/shell/lex.go).

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::str::Chars;

/// Deepest nesting of `${A:-${B:-...}}`.
const DEPTH_MAX: usize = 32;
/// Longest text that comes of an expansion, in bytes.
const TEXT_MAX: usize = 16 * 1024;

/// What variables there are.
#[derive(Debug, Clone, Copy)]
pub struct Variables<'a> {
    /// ARGs before the first FROM; those without a value are known and unset.
    pub globals: &'a BTreeMap<String, Option<String>>,
}

impl Variables<'_> {
    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.globals.get(name) {
            Some(value) => value.as_deref(),
            None => platform(name),
        }
    }
}

/// Whether a variable is one that every build has.
pub fn is_platform(name: &str) -> bool {
    platform(name).is_some()
}

/// The variables that every build has: of a build for this host.
fn platform(name: &str) -> Option<&'static str> {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "s390x" => "s390x",
        "riscv64" => "riscv64",
        _ => "amd64",
    };
    let whole = match architecture {
        "arm64" => "linux/arm64",
        "ppc64le" => "linux/ppc64le",
        "s390x" => "linux/s390x",
        "riscv64" => "linux/riscv64",
        _ => "linux/amd64",
    };
    match name.strip_prefix("TARGET").or_else(|| name.strip_prefix("BUILD"))? {
        "PLATFORM" => Some(whole),
        "OS" => Some("linux"),
        "ARCH" => Some(architecture),
        "VARIANT" | "OSVERSION" => Some(""),
        _ => None,
    }
}

/// A text with its variables filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Variables without a value that it names.
    pub unset: BTreeSet<String>,
}

impl Expanded {
    /// A text that stays as it is.
    pub fn plain(text: String) -> Self {
        Self { text, unset: BTreeSet::new() }
    }
}

/// Why a text can't be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpandable {
    /// In words.
    pub message: String,
    /// Variables without a value that it names, up to there.
    pub unset: BTreeSet<String>,
}

/// Fills variables in and takes quotes away.
///
/// # Errors
/// When quotes or braces have no end, a modifier is not known, or a variable that has to be set (`?`) is not.
pub fn expand(text: &str, variables: &Variables<'_>, escape: char) -> Result<Expanded, Unexpandable> {
    let mut reader = Reader { rest: text.chars().peekable(), variables, escape, unset: BTreeSet::new(), depth: 0 };
    match reader.until(None) {
        Ok(text) => Ok(Expanded { text, unset: reader.unset }),
        Err(message) => Err(Unexpandable { message, unset: reader.unset }),
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    variables: &'a Variables<'a>,
    escape: char,
    unset: BTreeSet<String>,
    depth: usize,
}

impl Reader<'_> {
    /// Reads to the end, or to `stop`, which is taken.
    fn until(&mut self, stop: Option<char>) -> Result<String, String> {
        let mut text = String::new();
        loop {
            if text.len() > TEXT_MAX {
                return Err(format!("it becomes longer than {TEXT_MAX} bytes"));
            }
            match self.rest.next() {
                None if stop.is_none() => return Ok(text),
                None => return Err("a brace has no end".to_owned()),
                Some(letter) if Some(letter) == stop => return Ok(text),
                Some('\'') => self.single_quotes(&mut text)?,
                Some('"') => self.double_quotes(&mut text)?,
                Some('$') => text.push_str(&self.dollar()?),
                Some(letter) if letter == self.escape => match self.rest.next() {
                    Some(next) => text.push(next),
                    None => text.push(letter),
                },
                Some(letter) => text.push(letter),
            }
        }
    }

    fn single_quotes(&mut self, text: &mut String) -> Result<(), String> {
        loop {
            match self.rest.next() {
                None => return Err("a single quote has no end".to_owned()),
                Some('\'') => return Ok(()),
                Some(letter) => text.push(letter),
            }
        }
    }

    fn double_quotes(&mut self, text: &mut String) -> Result<(), String> {
        loop {
            match self.rest.next() {
                None => return Err("a double quote has no end".to_owned()),
                Some('"') => return Ok(()),
                Some('$') => text.push_str(&self.dollar()?),
                Some(letter) if letter == self.escape => {
                    match self.rest.next_if(|next| *next == '"' || *next == '$' || *next == self.escape) {
                        Some(next) => text.push(next),
                        None => text.push(letter),
                    }
                }
                Some(letter) => text.push(letter),
            }
        }
    }

    /// What follows a `$`.
    fn dollar(&mut self) -> Result<String, String> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("braces are nested deeper than {DEPTH_MAX}"));
        }
        let name = self.name();
        if name.is_empty() {
            return Err("braces without a name of a variable".to_owned());
        }
        let value = self.value(&name);
        let text = match self.rest.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => match self.rest.next() {
                Some(modifier @ ('-' | '+' | '?')) => {
                    let value = value.filter(|value| !value.is_empty());
                    self.alternative(&name, value, modifier)
                }
                _ => Err(format!("an unknown modifier behind {name}:")),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.alternative(&name, value, modifier),
            Some(side @ ('#' | '%')) => {
                let longest = self.rest.next_if_eq(&side).is_some();
                let pattern = self.pattern(&['}'])?.0;
                Ok(without(&value.unwrap_or_default(), &pattern, side == '#', longest))
            }
            Some('/') => {
                let all = self.rest.next_if_eq(&'/').is_some();
                let (pattern, stop) = self.pattern(&['/', '}'])?;
                let replacement = if stop == '/' { self.until(Some('}'))? } else { String::new() };
                Ok(replaced(&value.unwrap_or_default(), &pattern, &replacement, all))
            }
            Some(other) => Err(format!("an unknown modifier {other:?} behind {name}")),
            None => Err("a brace has no end".to_owned()),
        };
        self.depth -= 1;
        text
    }

    /// `-`, `+` and `?`: what stands behind is always read.
    fn alternative(&mut self, name: &str, value: Option<String>, modifier: char) -> Result<String, String> {
        let word = self.until(Some('}'))?;
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(format!("{name} has to be set{}{word}", if word.is_empty() { "" } else { ": " })),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self.rest.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_') {
            if name.is_empty() && letter.is_ascii_digit() {
                // A shell's own parameter, of which there are none.
                return letter.to_string();
            }
            name.push(letter);
        }
        name
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).map(str::to_owned);
        if value.is_none() {
            self.unset.insert(name.to_owned());
        }
        value
    }

    /// A pattern up to one of `stops`; which it was comes too. What is quoted or escaped stands for itself.
    fn pattern(&mut self, stops: &[char]) -> Result<(Vec<Piece>, char), String> {
        let mut pieces = Vec::new();
        loop {
            let mut literal = String::new();
            match self.rest.next() {
                None => return Err("a brace has no end".to_owned()),
                Some(letter) if stops.contains(&letter) => return Ok((pieces, letter)),
                Some('*') => pieces.push(Piece::Any),
                Some('?') => pieces.push(Piece::One),
                Some('\'') => self.single_quotes(&mut literal)?,
                Some('"') => self.double_quotes(&mut literal)?,
                Some('$') => literal = self.dollar()?,
                Some(letter) if letter == self.escape => literal.extend(self.rest.next()),
                Some(letter) => literal.push(letter),
            }
            pieces.extend(literal.chars().map(Piece::Letter));
        }
    }
}

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Letter(char),
    One,
    Any,
}

/// The lengths, in letters, of the beginnings of `text` that a pattern fits.
fn fits(text: &[char], pattern: &[Piece]) -> Vec<usize> {
    // Which lengths the pieces so far fit; each piece once over all of them.
    let mut lengths = vec![false; text.len() + 1];
    lengths[0] = true;
    for piece in pattern {
        let mut next = vec![false; text.len() + 1];
        let mut any = false;
        for at in 0..=text.len() {
            match piece {
                Piece::Any => {
                    any |= lengths[at];
                    next[at] = any;
                }
                Piece::One if at > 0 => next[at] = lengths[at - 1],
                Piece::Letter(letter) if at > 0 => next[at] = lengths[at - 1] && text[at - 1] == *letter,
                _ => {}
            }
        }
        lengths = next;
    }
    (0..=text.len()).filter(|at| lengths[*at]).collect()
}

/// Takes what fits away from the beginning or the end: the longest that does, or the shortest.
fn without(text: &str, pattern: &[Piece], beginning: bool, longest: bool) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    let mut pattern = pattern.to_vec();
    if !beginning {
        letters.reverse();
        pattern.reverse();
    }
    let fitting = fits(&letters, &pattern);
    let length = if longest { fitting.last() } else { fitting.first() };
    letters.drain(..length.copied().unwrap_or(0));
    if !beginning {
        letters.reverse();
    }
    letters.into_iter().collect()
}

/// Replaces the first, or all, that fit; the longest at each place.
fn replaced(text: &str, pattern: &[Piece], replacement: &str, all: bool) -> String {
    let letters: Vec<char> = text.chars().collect();
    let (mut result, mut at, mut done) = (String::new(), 0, false);
    while at < letters.len() {
        let length = fits(&letters[at..], pattern).last().copied().filter(|length| *length > 0 && (all || !done));
        match length {
            Some(length) => {
                result.push_str(replacement);
                at += length;
                done = true;
            }
            None => {
                result.push(letters[at]);
                at += 1;
            }
        }
    }
    result
}
