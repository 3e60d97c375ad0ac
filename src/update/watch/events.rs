//! Server-sent events (WHATWG HTML, "Server-sent events"), line by line, as far as the feed needs them. Pure.

/// The most that an event may say, in bytes.
const DATA_MAX: usize = 64 << 10;

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Its kind.
    pub kind: String,
    /// What it says.
    pub data: String,
    /// From where to go on after it.
    pub id: Option<String>,
}

/// Puts events together.
#[derive(Debug, Default)]
pub struct Assembly {
    event: Event,
    has_data: bool,
}

impl Assembly {
    /// Takes a line, without its end; the event that ends with it.
    ///
    /// # Errors
    /// When an event is larger than any of the feed's.
    pub fn line(&mut self, line: &str) -> Result<Option<Event>, String> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            // Without data it is none; its id counts all the same, but the feed sends no such.
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.kind),
            "id" if !value.contains('\0') => self.event.id = Some(value.to_owned()),
            "data" => {
                if self.event.data.len() + value.len() > DATA_MAX {
                    return Err(format!("an event is larger than {DATA_MAX} bytes"));
                }
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            // A comment, a field that nothing here needs, or one of another age.
            _ => {}
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str) -> Vec<Event> {
        let mut assembly = Assembly::default();
        text.lines().filter_map(|line| assembly.line(line).expect("small")).collect()
    }

    fn event(kind: &str, data: &str, id: Option<&str>) -> Event {
        Event { kind: kind.into(), data: data.into(), id: id.map(Into::into) }
    }

    #[test]
    fn an_event_is_what_stands_before_an_empty_line() {
        let text = ": welcome\n\nid: ab-1\nevent: built\ndata: {}\n\nevent:hello\ndata:  x\ndata\ndata: y\n\n";
        assert_eq!(events(text), [event("built", "{}", Some("ab-1")), event("hello", " x\n\ny", None)]);
    }

    #[test]
    fn what_is_cut_off_is_no_event() {
        assert!(events("id: ab-1\nevent: built\ndata: {}\n").is_empty());
        assert!(events("event: built\n\n: only a comment\n\nretry: 5\n\n").is_empty());
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let mut assembly = Assembly::default();
        let line = format!("data: {}", "x".repeat(40 << 10));
        assert_eq!(assembly.line(&line), Ok(None));
        assert!(assembly.line(&line).expect_err("too large").contains("larger than 65536"));
    }
}
