//! Finding, naming and removing places in a parsed TOML document.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// One step from a table or list into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The way from the document's root to a value; shown as a dotted key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Path(pub Vec<Step>);

impl Path {
    /// This way and one step more.
    pub(super) fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(number) => write!(f, "[{number}]")?,
                Step::Key(key) => write!(f, "{}{}", if index > 0 { "." } else { "" }, show_key(key))?,
            }
        }
        Ok(())
    }
}

/// A key as TOML would have it: quoted where it must be.
pub(super) fn show_key(key: &str) -> String {
    let bare = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare { key.to_owned() } else { format!("{key:?}") }
}

/// What a visit of the document's values sees: the path, the key's place (none in a list), the value's, the value.
type Seen<'a, 'v, 'i> = (&'a Path, Option<Range<usize>>, Range<usize>, &'v DeValue<'i>);

/// Calls `see` for every value, outer ones first.
fn visit<'v, 'i>(table: &'v DeTable<'i>, at: &Path, see: &mut dyn FnMut(Seen<'_, 'v, 'i>)) {
    for (key, value) in table {
        let path = at.then(Step::Key(key.get_ref().to_string()));
        see((&path, Some(key.span()), value.span(), value.get_ref()));
        visit_inside(value.get_ref(), &path, see);
    }
}

fn visit_inside<'v, 'i>(value: &'v DeValue<'i>, at: &Path, see: &mut dyn FnMut(Seen<'_, 'v, 'i>)) {
    match value {
        DeValue::Table(table) => visit(table, at, see),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = at.then(Step::Index(index));
                see((&path, None, item.span(), item.get_ref()));
                visit_inside(item.get_ref(), &path, see);
            }
        }
        _ => {}
    }
}

/// The value that an error with this span is about: the one whose own span, or key, it is; else the innermost around it.
pub(super) fn about(table: &DeTable<'_>, span: &Range<usize>) -> Option<Path> {
    let mut exact = None;
    visit(table, &Path::default(), &mut |(path, key, value, _)| {
        if exact.is_none() && (key.as_ref() == Some(span) || value == *span) {
            exact = Some(path.clone());
        }
    });
    exact.or_else(|| innermost_value(table, span.start))
}

/// The innermost value around a place.
pub(super) fn innermost_value(table: &DeTable<'_>, place: usize) -> Option<Path> {
    let mut found = None;
    visit(table, &Path::default(), &mut |(path, _, value, _)| {
        if value.start <= place && place <= value.end {
            found = Some(path.clone());
        }
    });
    found
}

/// The outermost list or inline table around a place. Tables with a header don't count: their span is the header.
pub(super) fn outermost_value(table: &DeTable<'_>, place: usize) -> Option<Path> {
    let mut found = None;
    visit(table, &Path::default(), &mut |(path, _, span, value)| {
        let container = matches!(value, DeValue::Table(_) | DeValue::Array(_));
        if found.is_none() && container && span.start <= place && place <= span.end {
            found = Some(path.clone());
        }
    });
    found
}

/// The place of the value at `path`.
pub(super) fn span_of(table: &DeTable<'_>, path: &Path) -> Option<Range<usize>> {
    let mut found = None;
    visit(table, &Path::default(), &mut |(at, _, value, _)| {
        if at == path {
            found = Some(value);
        }
    });
    found
}

/// Removes the value at `path`. A list's item can't be removed alone, as the items behind it would get other
/// numbers in later messages; an empty text takes its place.
pub(super) fn remove(table: &mut DeTable<'_>, path: &Path) {
    let Some((first, rest)) = path.0.split_first() else { return };
    let Step::Key(key) = first else { return };
    if rest.is_empty() {
        table.remove(key.as_str());
    } else if let Some(value) = table.get_mut(key.as_str()) {
        remove_inside(value.get_mut(), rest);
    }
}

fn remove_inside(value: &mut DeValue<'_>, path: &[Step]) {
    match (value, path) {
        (DeValue::Table(table), path) => remove(table, &Path(path.to_vec())),
        (DeValue::Array(items), [Step::Index(index), rest @ ..]) => {
            if let Some(item) = items.get_mut(*index) {
                if rest.is_empty() {
                    *item.get_mut() = DeValue::String("".into());
                } else {
                    remove_inside(item.get_mut(), rest);
                }
            }
        }
        _ => {}
    }
}
