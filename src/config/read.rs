//! From the files' texts to a fragment: what is not TOML, keys that there are none of, values of the wrong kind.
//!
//! The TOML library stops at the first value that does not fit. So the value is taken out of the parsed document and
//! the document read again, until it reads: then every problem is known, and whatever was sound is in the fragment.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::errors::Problem;
use super::fragment::Fragment;
use super::schema::{FILE, Shape};
use super::sources::Sources;
use super::tree::{self, Path, Step};
use super::{MAX_PROBLEMS, layers, suggest, syntax};

/// What was read, and what could not be.
pub(super) struct Read {
    pub fragment: Fragment,
    pub problems: Vec<Problem>,
    /// Why there may be more problems than these.
    pub note: Option<&'static str>,
}

/// Reads the files of a configuration. Each is looked at by itself, so that what a later one replaces is sound too.
pub(super) fn read(sources: &Sources) -> Read {
    let (mut problems, mut all) = (Vec::new(), DeTable::new());
    let (mut complete, mut note) = (true, None);
    for source in sources.iter() {
        if let Some(problem) = &source.unread {
            problems.push(problem.clone());
            complete = false;
            continue;
        }
        let (table, mut found) = read_one(&source.text);
        for span in found.iter_mut().filter_map(|problem| problem.span.as_mut()) {
            *span = span.start + source.start..span.end + source.start;
        }
        problems.append(&mut found);
        match table {
            Some(table) => layers::put_over(&mut all, layers::moved(table, source.start)),
            None => {
                complete = false;
                note = Some("The rest of the file can be checked when this is mended.");
            }
        }
    }
    if !complete {
        // Keys may be missing: whatever depends on them can't be judged.
        return Read { fragment: Fragment::default(), problems, note };
    }
    Read { fragment: read_values(&mut all, &mut problems), problems, note: None }
}

/// Reads one file; no table if not all of it was understood.
fn read_one(text: &str) -> (Option<DeTable<'_>>, Vec<Problem>) {
    let parsed = syntax::parse(text);
    let mut problems = parsed.problems;
    if !parsed.whole {
        return (None, problems);
    }
    let mut table = parsed.table.into_inner();
    check_keys(&mut table, &FILE, &Path::default(), &mut problems);
    // For its problems alone: what does not fit is then no longer in the table.
    read_values::<Fragment>(&mut table, &mut problems);
    (Some(table), problems)
}

/// Reports keys that there are none of, and values where a table has to be; takes both out of the table.
fn check_keys(table: &mut DeTable<'_>, shape: &Shape, at: &Path, problems: &mut Vec<Problem>) {
    let mut unfit = Vec::new();
    for (key, value) in table.iter() {
        if problems.len() > MAX_PROBLEMS {
            return;
        }
        let name = key.get_ref().as_ref();
        let path = at.then(Step::Key(name.to_owned()));
        let (span, message) = match (shape, table_shape(shape, name)) {
            (Shape::Keys { keys, .. }, None) if !keys().contains(&name) => {
                (key.span(), suggest::unknown_key(name, &at.to_string(), keys()))
            }
            (_, Some(Shape::List(_))) if !is_list_of_tables(value.get_ref()) => {
                (value.span(), format!("must be tables of their own: write the header [[{path}]] for each"))
            }
            (_, Some(Shape::List(_))) => continue,
            (_, Some(_)) if !matches!(value.get_ref(), DeValue::Table(_)) => {
                (value.span(), not_a_table(shape, &path, value.get_ref()))
            }
            _ => continue,
        };
        problems.push(Problem { key: path.to_string(), span: Some(span), message });
        unfit.push(name.to_owned());
    }
    unfit.iter().for_each(|name| drop(table.remove(name.as_str())));
    let names: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
    for name in names {
        let Some(inner) = table_shape(shape, &name) else { continue };
        match (inner, table.get_mut(name.as_str()).map(Spanned::get_mut)) {
            (Shape::List(inner), Some(DeValue::Array(items))) => {
                let path = at.then(Step::Key(name));
                for (index, item) in items.iter_mut().enumerate() {
                    if let DeValue::Table(table) = item.get_mut() {
                        check_keys(table, inner, &path.then(Step::Index(index)), problems);
                    }
                }
            }
            (inner, Some(DeValue::Table(table))) => check_keys(table, inner, &at.then(Step::Key(name)), problems),
            _ => {}
        }
    }
}

fn is_list_of_tables(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Array(items) if items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_))))
}

/// The shape of the table that `name` must be; none where it is a plain value.
fn table_shape<'a>(shape: &'a Shape, name: &str) -> Option<&'a Shape> {
    match shape {
        Shape::Keys { tables, .. } => tables.iter().find(|(table, _)| *table == name).map(|(_, shape)| shape),
        Shape::Named(table) => Some(table),
        Shape::Free | Shape::List(_) => None,
    }
}

fn not_a_table(shape: &Shape, path: &Path, value: &DeValue<'_>) -> String {
    match (shape, value) {
        (Shape::Named(_), _) => {
            format!("a profile needs a name: put its keys under a header such as [profile.big]; {path} is not a table")
        }
        (_, DeValue::Array(_)) => format!("there can be only one: write the header [{path}], not [[{path}]] or a list"),
        _ => format!("must be a table: write the header [{path}] and its keys below"),
    }
}

/// Reads the values; those of the wrong kind are reported, and taken out of the table.
pub(super) fn read_values<T: DeserializeOwned + Default>(table: &mut DeTable<'_>, problems: &mut Vec<Problem>) -> T {
    while problems.len() <= MAX_PROBLEMS {
        let error = match T::deserialize(Deserializer::from(Spanned::new(0..0, table.clone()))) {
            Ok(fragment) => return fragment,
            Err(error) => error,
        };
        let path = error.span().and_then(|span| tree::about(table, &span));
        let key = path.as_ref().map(Path::to_string).unwrap_or_default();
        let problem = Problem { key, span: error.span(), message: in_words(error.message()) };
        let Some(mut path) = path else {
            problems.push(problem);
            break;
        };
        if problems.contains(&problem) {
            // What took the place of a list's item does not fit either: the list goes.
            while matches!(path.0.last(), Some(Step::Index(_))) {
                path.0.pop();
            }
        } else {
            problems.push(problem);
        }
        tree::remove(table, &path);
    }
    T::default()
}

/// serde's message in TOML's words.
fn in_words(message: &str) -> String {
    if message.contains("overflow") {
        return "is too large for any number here".to_owned();
    }
    let Some((found, wanted)) = message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected "))
    else {
        return message.to_owned();
    };
    let wanted = match wanted {
        "a string" => "text in quotes",
        "a map" => r#"a table, such as { NAME = "value" }"#,
        "a sequence" => r#"a list, such as ["one", "two"]"#,
        other => other,
    };
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    format!("must be {wanted}, not {found}")
}
