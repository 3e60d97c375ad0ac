//! Ages of images: when one moved last, how often it does, and whether that is long ago.

use super::facts::Time;

/// What is known of an image's moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moves {
    /// When its digest was seen first.
    pub since: Time,
    /// How often it has moved since.
    pub count: u32,
    /// When it moved first.
    pub first: Option<Time>,
    /// When it moved last.
    pub last: Option<Time>,
}

impl Moves {
    /// Takes a move in.
    pub fn add(&mut self, at: Time) {
        self.count += 1;
        self.first.get_or_insert(at);
        self.last = Some(at);
    }

    /// How long it takes from one move to the next on average, in milliseconds; none before the second.
    #[must_use]
    pub fn interval(&self) -> Option<Time> {
        let gaps = Time::from(self.count.checked_sub(1)?);
        (gaps > 0).then(|| Some((self.last? - self.first?) / gaps))?
    }

    /// How long it has not moved as far as is known, in milliseconds.
    #[must_use]
    pub fn age(&self, now: Time) -> Time {
        (now - self.last.unwrap_or(self.since)).max(0)
    }

    /// What to think of it.
    #[must_use]
    pub fn verdict(&self, now: Time, max_age: Time) -> Verdict {
        match (self.age(now) > max_age, self.last) {
            (true, _) => Verdict::Stale,
            (false, Some(_)) => Verdict::Ok,
            // It may have moved the day before it was seen first, or years ago: dates in images are what their makers like.
            (false, None) => Verdict::TooYoung,
        }
    }
}

/// What to think of an image's age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has moved in time.
    Ok,
    /// It has not.
    Stale,
    /// It is not known for long enough to say.
    TooYoung,
}

impl Verdict {
    /// In one word, for people and programs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::TooYoung => "too-young",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_too_young_to_say_until_it_moves_or_is_stale() {
        let mut moves = Moves { since: 100, ..Moves::default() };
        assert_eq!(moves.verdict(150, 100), Verdict::TooYoung);
        assert_eq!(moves.verdict(200, 100), Verdict::TooYoung);
        assert_eq!(moves.verdict(201, 100), Verdict::Stale);
        moves.add(150);
        assert_eq!((moves.verdict(201, 100), moves.verdict(251, 100)), (Verdict::Ok, Verdict::Stale));
        assert_eq!(moves.age(90), 0, "clocks go back");
    }

    #[test]
    fn how_often_it_moves_is_known_from_the_second_move_on() {
        let mut moves = Moves { since: 0, ..Moves::default() };
        assert_eq!(moves.interval(), None);
        moves.add(1000);
        assert_eq!(moves.interval(), None);
        moves.add(3000);
        moves.add(5000);
        assert_eq!(moves.interval(), Some(2000));
    }
}
