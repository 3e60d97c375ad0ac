//! Several documents as one: a later one's key replaces an earlier one's. Tables are gone into; a list is replaced as a whole.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Puts one document over another.
pub(super) fn put_over<'i>(below: &mut DeTable<'i>, above: DeTable<'i>) {
    for (key, value) in above {
        let name = key.get_ref().to_string();
        match (below.get_mut(name.as_str()).map(Spanned::get_mut), value) {
            (Some(DeValue::Table(there)), value) if matches!(value.get_ref(), DeValue::Table(_)) => {
                if let DeValue::Table(more) = value.into_inner() {
                    put_over(there, more);
                }
            }
            (_, value) => {
                // With its place: a map keeps the key that it has.
                below.remove(name.as_str());
                below.insert(key, value);
            }
        }
    }
}

/// The document with all places so many bytes further on.
pub(super) fn moved(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    table.into_iter().map(|(key, value)| (place(key, by), moved_value(value, by))).collect()
}

fn moved_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let value = place(value, by);
    let span = value.span();
    let inner = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved(table, by)),
        DeValue::Array(items) => {
            DeValue::Array(items.into_iter().map(|item| moved_value(item, by)).collect::<DeArray<'_>>())
        }
        other => other,
    };
    Spanned::new(span, inner)
}

fn place<T>(value: Spanned<T>, by: usize) -> Spanned<T> {
    let span = value.span();
    Spanned::new(span.start + by..span.end + by, value.into_inner())
}
