//! Words of an instruction: with quotes, with escapes, flags before the rest.

use super::lines::HereDocument;

/// Splits at blanks that are in no quotes; quotes and escapes stay.
pub fn split(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            (letter, None) if letter.is_ascii_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            // In single quotes nothing is escaped.
            (letter, open) if letter == escape && open != Some('\'') => {
                word.push(letter);
                word.extend(letters.next());
                continue;
            }
            _ => {}
        }
        word.push(letter);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The word without its quotes and escapes.
pub fn unquoted(word: &str, escape: char) -> String {
    let mut text = String::new();
    let mut quote = None;
    let mut letters = word.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quote) {
            ('\'' | '"', None) => quote = Some(letter),
            (letter, Some(open)) if letter == open => quote = None,
            (letter, None) if letter == escape => text.extend(letters.next()),
            _ => text.push(letter),
        }
    }
    text
}

/// The flags before the rest, `--name=value`, and the rest. Flags that are not known are left to the caller.
pub fn flags(text: &str, escape: char) -> (Vec<(String, String)>, Vec<String>) {
    let mut words = split(text, escape).into_iter().peekable();
    let mut flags = Vec::new();
    while let Some(word) = words.next_if(|word| word.starts_with("--")) {
        if word == "--" {
            break;
        }
        let word = unquoted(&word[2..], escape);
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        flags.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    (flags, words.collect())
}

/// The fields of `--mount`, `key=value` separated by commas; fields may be quoted, as in CSV.
pub fn mount_fields(text: &str) -> Vec<(String, String)> {
    let fields = text.split(',').filter_map(|field| field.trim_matches('"').split_once('='));
    fields.map(|(key, value)| (key.trim().to_ascii_lowercase(), value.to_owned())).collect()
}

/// The here-documents that begin in an instruction: words like `<<EOF`, `<<-EOF`, `3<<"EOF"`.
pub fn here_documents(text: &str, escape: char) -> Vec<HereDocument> {
    let words = split(text, escape);
    let documents = words.iter().filter_map(|word| {
        let end = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (end, tabs) = end.strip_prefix('-').map_or((end, false), |end| (end, true));
        // `<<<` is a here-string of the shell.
        let end = unquoted(end, escape);
        let fits = !end.is_empty() && !end.contains('<') && !end.contains(|c: char| c.is_ascii_whitespace());
        fits.then_some(HereDocument { end, tabs })
    });
    documents.collect()
}
