//! What somebody may have meant who wrote a key or word that there is none of.

use super::schema;

/// How alike two words must be to be taken for a slip of the pen, from 0 (nothing in common) to 1 (equal).
const ALIKE: f64 = 0.6;

/// A part of a longer word that is too short says nothing.
const SHORTEST_PART: usize = 4;

/// The candidate that `word` is most likely a misspelling, or a part, of.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let word = plain(word);
    candidates
        .clone()
        .map(|candidate| (candidate, strsim::normalized_damerau_levenshtein(&word, &plain(candidate))))
        .filter(|(_, likeness)| *likeness >= ALIKE)
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .map(|(candidate, _)| candidate)
        .or_else(|| {
            let part_of = |candidate: &&str| word.len() >= SHORTEST_PART && plain(candidate).contains(&word);
            candidates.clone().find(part_of)
        })
}

/// The message for a key that the table under `header` (as in the file, `""` for the top level) does not have.
pub(super) fn unknown_key(name: &str, header: &str, keys: &[&str]) -> String {
    let tables = schema::tables();
    let having: Vec<&String> =
        tables.iter().filter(|(_, keys)| keys.contains(&name)).map(|(header, _)| header).collect();
    // Where an outer table has it, the same key of an inner one is another thing.
    let inner = |header: &str| having.iter().any(|outer| !outer.is_empty() && header.starts_with(&format!("{outer}.")));
    let elsewhere: Vec<String> = having
        .iter()
        .filter(|header| !inner(header))
        .map(|header| match header.as_str() {
            "" => "at the top level (above the first [table])".to_owned(),
            header => place(header),
        })
        .collect();
    if !elsewhere.is_empty() {
        return format!("there is no such key {}; it belongs {}", place(header), elsewhere.join(" or "));
    }
    if let Some(key) = nearest(name, keys.iter().copied()) {
        return format!("there is no such key; did you mean {key:?}?");
    }
    let anywhere = tables.iter().flat_map(|(header, keys)| keys.iter().map(move |key| (header, *key)));
    if let Some(key) = nearest(name, anywhere.clone().map(|(_, key)| key))
        && let Some((header, _)) = anywhere.clone().find(|(_, candidate)| *candidate == key)
    {
        return format!("there is no such key; did you mean {key:?} {}?", place(header));
    }
    format!("there is no such key; the keys {} are {}", place(header), keys.join(", "))
}

/// Where a key is: under its header, or above all of them.
fn place(header: &str) -> String {
    match (header, header.strip_suffix(".0")) {
        ("", _) => "at the top level".to_owned(),
        (_, Some(list)) => format!("in [[{list}]]"),
        _ => format!("in [{header}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        let keys = ["slots", "slot_wait", "allowed_users", "if-not-present"];
        for (written, meant) in [
            ("slot", Some("slots")),
            ("slotwait", Some("slot_wait")),
            ("Slot-Wait", Some("slot_wait")),
            ("users", Some("allowed_users")),
            ("IfNotPresent", Some("if-not-present")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, keys.iter().copied()), meant, "{written}");
        }
    }

    #[test]
    fn a_key_under_the_wrong_header_is_sent_where_it_belongs() {
        assert_eq!(
            unknown_key("memory", "", &["slots"]),
            "there is no such key at the top level; it belongs in [job] or in [profile.NAME.job]"
        );
        assert_eq!(
            unknown_key("state_dir", "podman", &["init"]),
            "there is no such key in [podman]; it belongs at the top level (above the first [table])"
        );
        assert_eq!(unknown_key("memroy", "", &["slots"]), "there is no such key; did you mean \"memory\" in [job]?");
    }
}
