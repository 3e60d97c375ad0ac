//! Quoting for a POSIX shell.

/// `text` as one word.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Words as a command line.
pub fn quote_all(words: &[String]) -> String {
    words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_gives_back_what_was_quoted() {
        for text in ["plain", "", "two words", "it's", "$(id)", "a\nb", "\\", "\"", "~", "*"] {
            let output = Command::new("sh").args(["-c", &format!("printf %s {}", quote(text))]).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }
}
