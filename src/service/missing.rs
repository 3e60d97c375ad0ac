//! What could not begin, and what is done without it: jobs go on without a page.

use anyhow::Result;

/// What could not begin, in words for an administrator.
#[derive(Debug, Default)]
pub struct Missing(Vec<String>);

impl Missing {
    /// The part; where it could not begin, that is said in the log, by `windlass status` and by doctor, and there is none.
    pub fn unless<T>(&mut self, part: Result<T>, without: &str) -> Option<T> {
        match part {
            Ok(part) => Some(part),
            Err(error) => {
                let words = format!("{without}: {error:#}. Mend that, then: systemctl restart windlass");
                tracing::error!("{words}");
                self.0.push(words);
                None
            }
        }
    }

    /// All of it.
    #[must_use]
    pub fn words(self) -> Vec<String> {
        self.0
    }
}
