//! What the feed says, and what is to be looked at because of it. Pure.
//!
//! The feed is not trusted: whatever it says, units are looked at that would be looked at anyway, and not more often than [`GAP`].

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::events::Event;
use crate::update::pass::Which;

/// From the begin of one look to that of the next, at least.
pub const GAP: Duration = Duration::from_secs(10);
/// The same after a look at no unit: registries were asked nothing. What is built on one another is built within seconds, and the host
/// that runs the last of it does not wait because it has heard of the first.
const SHORT_GAP: Duration = Duration::from_secs(1);
/// Places of images that are remembered until they are looked at; with more, everything is.
const PLACES_MAX: usize = 1000;
/// The longest name of an image, in bytes.
const NAME_MAX: usize = 512;

/// What an event means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Something was built whose images are below this.
    Built {
        /// Where they are, such as `registry.example.com/images/app`.
        images: String,
        /// The project, for people.
        project: String,
    },
    /// Anything may have been built.
    Anything,
    /// Nothing that this program knows.
    Nothing,
}

impl News {
    /// Reads an event; one that can't be read says nothing.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        #[derive(Deserialize)]
        struct Data {
            images: String,
            #[serde(default)]
            project: String,
        }
        match event.kind.as_str() {
            "hello" | "missed" => Self::Anything,
            "built" => match serde_json::from_str::<Data>(&event.data) {
                Ok(data) if is_place(&data.images) => {
                    let shown = data.project.chars().filter(|character| !character.is_control()).take(200);
                    Self::Built { images: data.images.to_lowercase(), project: shown.collect() }
                }
                _ => Self::Nothing,
            },
            _ => Self::Nothing,
        }
    }
}

fn is_place(text: &str) -> bool {
    let sound = |character: char| character.is_ascii_alphanumeric() || "._-/:[]".contains(character);
    text.len() <= NAME_MAX && text.contains('/') && !text.ends_with('/') && text.chars().all(sound)
}

/// What is to be looked at, and when.
#[derive(Debug, Default)]
pub struct Pending {
    places: BTreeSet<String>,
    everything: bool,
    /// Whether there is something at all.
    due: Option<Instant>,
    /// From where the feed goes on once it was looked at.
    up_to: Option<String>,
    /// When the next look may begin.
    not_before: Option<Instant>,
}

impl Pending {
    /// An update that was interrupted is to be finished.
    pub fn interrupted(&mut self, now: Instant) {
        self.due.get_or_insert(now);
    }

    /// Takes news in; a look at something is due after `wait`, one at everything after `long_wait`.
    pub fn add(&mut self, news: News, id: Option<String>, now: Instant, wait: Duration, long_wait: Duration) {
        let due = match news {
            News::Built { images, .. } => {
                if self.places.len() < PLACES_MAX {
                    self.places.insert(images);
                } else {
                    self.everything = true;
                }
                now + wait
            }
            News::Anything => {
                self.everything = true;
                now + long_wait
            }
            News::Nothing => return,
        };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        if id.is_some() {
            self.up_to = id;
        }
    }

    /// When there is something to look at.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let due = self.due?;
        Some(self.not_before.map_or(due, |earliest| due.max(earliest)))
    }

    /// Begins a look: at which units, and from where the feed goes on after it.
    pub fn begin(&mut self, now: Instant) -> (Which, Option<String>) {
        self.not_before = Some(now + GAP);
        self.due = None;
        let places = std::mem::take(&mut self.places);
        let which = if std::mem::take(&mut self.everything) { Which::All } else { Which::Below(places) };
        (which, self.up_to.take())
    }

    /// The look that began at `began` found no unit to look at.
    pub fn found_nothing(&mut self, began: Instant) {
        self.not_before = Some(began + SHORT_GAP);
    }

    /// A look came to nothing, and is due again at `at`.
    pub fn again(&mut self, which: Which, up_to: Option<String>, at: Instant) {
        match which {
            Which::All | Which::Only(_) => self.everything = true,
            Which::Below(places) => self.places.extend(places),
        }
        self.due = Some(self.due.map_or(at, |due| due.max(at)));
        if self.up_to.is_none() {
            self.up_to = up_to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn event(kind: &str, data: &str) -> Event {
        Event { kind: kind.into(), data: data.into(), id: None }
    }

    fn built(images: &str) -> News {
        News::Built { images: images.into(), project: String::new() }
    }

    fn below(places: &[&str]) -> Which {
        Which::Below(places.iter().map(|place| (*place).to_owned()).collect())
    }

    #[test]
    fn only_places_of_images_are_news() {
        let good = r#"{"project":"a/b","images":"Registry.example.com:5050/a/b","pipeline":1,"more":true}"#;
        let expected = News::Built { images: "registry.example.com:5050/a/b".into(), project: "a/b".into() };
        assert_eq!(News::of(&event("built", good)), expected);
        for data in
            ["", "{}", r#"{"images":""}"#, r#"{"images":"all"}"#, r#"{"images":"r/x; rm"}"#, r#"{"images":"r/"}"#]
        {
            assert_eq!(News::of(&event("built", data)), News::Nothing, "{data}");
        }
        let long = format!(r#"{{"images":"r/{}"}}"#, "x".repeat(NAME_MAX));
        assert_eq!(News::of(&event("built", &long)), News::Nothing);
        assert_eq!(News::of(&event("missed", "{}")), News::Anything);
        assert_eq!(News::of(&event("restart", good)), News::Nothing);
    }

    #[test]
    fn what_comes_together_is_looked_at_together() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        assert_eq!(pending.due(), None);
        pending.add(built("r/a"), Some("s-1".into()), now, 2 * SECOND, 60 * SECOND);
        pending.add(built("r/b"), Some("s-2".into()), now + SECOND, 2 * SECOND, 60 * SECOND);
        pending.add(News::Nothing, Some("s-3".into()), now, SECOND, SECOND);
        assert_eq!(pending.due(), Some(now + 2 * SECOND));
        assert_eq!(pending.begin(now), (below(&["r/a", "r/b"]), Some("s-2".into())));
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn however_much_is_heard_looks_are_not_more_often_than_their_gap() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        pending.add(built("r/a"), None, now, Duration::ZERO, SECOND);
        let _ = pending.begin(now);
        pending.add(built("r/a"), None, now + SECOND, Duration::ZERO, SECOND);
        assert_eq!(pending.due(), Some(now + GAP));
        pending.found_nothing(now);
        assert_eq!(pending.due(), Some(now + SECOND), "it was at no unit");
        for number in 0..=PLACES_MAX {
            pending.add(built(&format!("r/{number}")), None, now, Duration::ZERO, SECOND);
        }
        assert_eq!(pending.begin(now).0, Which::All, "what is remembered is bounded");
    }

    #[test]
    fn a_look_that_came_to_nothing_is_taken_up_again() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        pending.add(built("r/a"), Some("s-1".into()), now, Duration::ZERO, SECOND);
        let (which, up_to) = pending.begin(now);
        pending.add(built("r/b"), Some("s-2".into()), now, Duration::ZERO, SECOND);
        pending.again(which, up_to, now + 300 * SECOND);
        assert_eq!(pending.due(), Some(now + 300 * SECOND));
        assert_eq!(pending.begin(now), (below(&["r/a", "r/b"]), Some("s-2".into())), "the newest place in the feed");
        pending.again(Which::All, Some("s-2".into()), now);
        assert_eq!(pending.begin(now), (Which::All, Some("s-2".into())));
    }
}
