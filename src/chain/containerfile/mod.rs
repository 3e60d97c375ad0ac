//! Which images a Containerfile builds on, as BuildKit reads it (moby/buildkit, frontend/dockerfile), but more forgiving: a line that can't
//! be understood loses nothing but itself.

mod expand;
mod lines;
mod words;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::job::ImageRef;
use expand::{Expanded, Variables, expand};
use lines::Instruction;

/// Largest file that is read, in bytes: GitLab's answers are bounded too.
pub const SIZE_MAX: usize = 1024 * 1024;
/// Most references of one file.
const REFS_MAX: usize = 2000;

/// Where a reference stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Where {
    /// `FROM`.
    From,
    /// `COPY --from`.
    Copy,
    /// `RUN --mount=from=`.
    Mount,
    /// `# syntax=`: a tool of the build, and no base.
    Syntax,
}

/// What a reference stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An image.
    Image,
    /// A stage of the same file.
    Stage,
    /// Nothing: the empty image.
    Scratch,
    /// Not to be told without values that only the build has.
    Unresolved,
    /// No image.
    Invalid,
}

/// A reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ref {
    /// Where it stands.
    #[serde(rename = "where")]
    pub place: Where,
    /// The stage that it stands in, from 0; -1 before all.
    pub stage: i32,
    /// The name of the stage that it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage_name: Option<String>,
    /// As it is written.
    pub raw: String,
    /// After expansion.
    pub value: String,
    /// What it stands for.
    pub kind: Kind,
    /// The image in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Variables that have no value, in alphabetical order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<String>,
    /// Why it is no image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a file says of the images that it builds on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Containerfile {
    /// The ARGs before the first FROM that have a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub global_args: BTreeMap<String, String>,
    /// All references, in the order of the file.
    pub refs: Vec<Ref>,
    /// What images that build on this one will do, which is no concern of this file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub onbuild: Vec<String>,
    /// The images that it builds on, each once, in alphabetical order.
    pub images: Vec<String>,
    /// The first thing that could not be understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Containerfile {
    /// Reads a file. `args`: values that the build is known to get (`--build-arg`).
    #[must_use]
    pub fn read(text: &str, args: &BTreeMap<String, String>) -> Self {
        let mut reader = Reader::new(args);
        let (directives, instructions) = lines::read(text);
        if let Some(syntax) = directives.syntax {
            reader.add(Where::Syntax, -1, syntax.clone(), Expanded::plain(syntax));
        }
        let names = stage_names(&instructions);
        for instruction in &instructions {
            reader.instruction(instruction, &names, directives.escape);
        }
        reader.finish()
    }
}

/// The names of all stages, in lower case, with empty ones for those that have none.
fn stage_names(instructions: &[Instruction]) -> Vec<String> {
    let froms = instructions.iter().filter(|instruction| instruction.is("FROM"));
    froms.map(|from| from_words(from).1.unwrap_or_default()).collect()
}

/// Image and stage name of a FROM, and whether it is as it should be.
fn from_words(from: &Instruction) -> (String, Option<String>, bool) {
    let words: Vec<&str> = from.rest.split_ascii_whitespace().skip_while(|word| word.starts_with("--")).collect();
    let is_as = words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("as"));
    let name = words.get(2).filter(|_| is_as).map(|name| name.to_ascii_lowercase());
    let whole = matches!((words.len(), is_as), (1, _) | (3, true));
    (words.first().map(|word| (*word).to_owned()).unwrap_or_default(), name, whole)
}

struct Reader<'a> {
    args: &'a BTreeMap<String, String>,
    globals: BTreeMap<String, Option<String>>,
    found: Containerfile,
    /// The stages begun so far.
    stages: usize,
}

impl<'a> Reader<'a> {
    fn new(args: &'a BTreeMap<String, String>) -> Self {
        Self { args, globals: BTreeMap::new(), found: Containerfile::default(), stages: 0 }
    }

    fn problem(&mut self, line: usize, what: impl std::fmt::Display) {
        self.found.error.get_or_insert_with(|| format!("line {line}: {what}"));
    }

    fn variables(&self) -> Variables<'_> {
        Variables { globals: &self.globals }
    }

    fn instruction(&mut self, instruction: &Instruction, names: &[String], escape: char) {
        let stage = i32::try_from(self.stages).unwrap_or(i32::MAX) - 1;
        match instruction.name.as_str() {
            "FROM" => self.from(instruction, names, escape),
            "ARG" if self.stages == 0 => self.global_arg(instruction, escape),
            "COPY" => {
                for (flag, value) in words::flags(&instruction.rest, escape).0 {
                    if flag == "from" {
                        self.copy_from(value, stage, names);
                    }
                }
            }
            "RUN" => {
                let flags = words::flags(&instruction.rest, escape).0;
                for (_, value) in flags.into_iter().filter(|(flag, _)| flag == "mount") {
                    for (_, from) in words::mount_fields(&value).into_iter().filter(|(key, _)| key == "from") {
                        self.named(Where::Mount, from, stage, names);
                    }
                }
            }
            "ONBUILD" => self.found.onbuild.push(instruction.rest.clone()),
            _ => {}
        }
    }

    fn from(&mut self, instruction: &Instruction, names: &[String], escape: char) {
        let (raw, name, whole) = from_words(instruction);
        let stage = i32::try_from(self.stages).unwrap_or(i32::MAX);
        let before = &names[..self.stages.min(names.len())];
        self.stages += 1;
        if !whole {
            self.problem(instruction.line, "FROM takes an image, and maybe AS and a name");
        }
        if raw.is_empty() {
            return;
        }
        let expanded = expand(&raw, &self.variables(), escape);
        let reference = match expanded {
            Ok(expanded) if expanded.text == "scratch" => {
                Ref { kind: Kind::Scratch, ..plain(Where::From, stage, raw, expanded) }
            }
            // Only a stage that was there before can be meant.
            Ok(expanded) if before.contains(&expanded.text) => {
                Ref { kind: Kind::Stage, ..plain(Where::From, stage, raw, expanded) }
            }
            Ok(expanded) => image(Where::From, stage, raw, expanded),
            Err(error) => {
                let unset = error.unset.clone();
                let text = Expanded { text: String::new(), unset };
                Ref { kind: Kind::Unresolved, error: Some(error.message), ..plain(Where::From, stage, raw, text) }
            }
        };
        self.push(Ref { stage_name: name, ..reference });
    }

    fn global_arg(&mut self, instruction: &Instruction, escape: char) {
        for word in words::split(&instruction.rest, escape) {
            let (name, default) = match word.split_once('=') {
                Some((name, default)) => (name, Some(default)),
                None => (word.as_str(), None),
            };
            let value = match (self.args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => match expand(default, &self.variables(), escape) {
                    Ok(expanded) => Some(expanded.text),
                    Err(error) => {
                        self.problem(instruction.line, error.message);
                        None
                    }
                },
                // An ARG without a value keeps that of a variable that every build has.
                (None, None) => self.variables().get(name).map(str::to_owned),
            };
            if let Some(value) = &value
                && !expand::is_platform(name)
            {
                self.found.global_args.insert(name.to_owned(), value.clone());
            }
            self.globals.insert(name.to_owned(), value);
        }
    }

    /// COPY --from: the number or name of any stage of the file, else an image. BuildKit expands nothing there.
    fn copy_from(&mut self, raw: String, stage: i32, names: &[String]) {
        match raw.parse::<usize>() {
            Ok(number) if number < names.len() => {
                self.push(Ref { kind: Kind::Stage, ..plain(Where::Copy, stage, raw.clone(), Expanded::plain(raw)) });
            }
            _ => self.named(Where::Copy, raw, stage, names),
        }
    }

    fn named(&mut self, place: Where, raw: String, stage: i32, names: &[String]) {
        let lower = raw.to_ascii_lowercase();
        let is_stage = !lower.is_empty() && names.contains(&lower);
        if is_stage || raw.contains('$') {
            let kind = if is_stage { Kind::Stage } else { Kind::Unresolved };
            self.push(Ref { kind, ..plain(place, stage, raw.clone(), Expanded::plain(raw)) });
        } else if raw != "scratch" {
            self.add(place, stage, raw.clone(), Expanded::plain(raw));
        }
    }

    fn add(&mut self, place: Where, stage: i32, raw: String, expanded: Expanded) {
        self.push(image(place, stage, raw, expanded));
    }

    fn push(&mut self, reference: Ref) {
        if self.found.refs.len() < REFS_MAX {
            self.found.refs.push(reference);
        }
    }

    fn finish(mut self) -> Containerfile {
        if self.stages == 0 {
            self.found.error.get_or_insert_with(|| "there is no FROM".to_owned());
        }
        let bases = self.found.refs.iter().filter(|reference| reference.place != Where::Syntax);
        self.found.images = bases.filter_map(|reference| reference.image.clone()).collect();
        self.found.images.sort();
        self.found.images.dedup();
        self.found
    }
}

fn plain(place: Where, stage: i32, raw: String, expanded: Expanded) -> Ref {
    Ref {
        place,
        stage,
        stage_name: None,
        raw,
        value: expanded.text,
        kind: Kind::Invalid,
        image: None,
        unset: expanded.unset.into_iter().collect(),
        error: None,
    }
}

fn image(place: Where, stage: i32, raw: String, expanded: Expanded) -> Ref {
    let parsed = ImageRef::try_from(expanded.text.clone());
    let mut reference = plain(place, stage, raw, expanded);
    match parsed {
        Ok(image) => (reference.kind, reference.image) = (Kind::Image, Some(image.tagged())),
        Err(error) => {
            reference.error = Some(error);
            if !reference.unset.is_empty() {
                reference.kind = Kind::Unresolved;
            }
        }
    }
    reference
}

#[cfg(test)]
mod tests;
