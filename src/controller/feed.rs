//! The feed: what was built, for hosts that run it. Whoever listens goes on from the last number that he has heard of.
//!
//! What is in memory is also in the database (`store::NewsRow`), and was there first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use serde::Serialize;
use tokio::sync::watch;

use super::view::rfc3339;
use crate::store::{NEWS_MAX, NewsRow, Store};

/// A success, as listeners are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Its number.
    pub number: i64,
    /// What is said of it, as JSON.
    pub data: Arc<str>,
}

/// What a listener has not heard of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unheard {
    /// These, in their order; none: nothing.
    News(Vec<News>),
    /// Nobody can tell: too much is missing, or what he heard last was another database's. The number to go on from.
    Unknown(i64),
}

/// Where a listener is: the name of the row of numbers, and the last number that he has heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The name.
    pub series: &'a str,
    /// The number.
    pub number: i64,
}

impl<'a> Place<'a> {
    /// Reads `Last-Event-ID`.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (series, number) = text.rsplit_once('-')?;
        let number = number.parse().ok().filter(|number| *number >= 0)?;
        Some(Self { series, number })
    }
}

/// The feed.
#[derive(Debug)]
pub struct Feed {
    series: String,
    news: Mutex<VecDeque<News>>,
    /// The highest number that was given.
    last: watch::Sender<i64>,
}

impl Feed {
    /// With what is on record.
    ///
    /// # Errors
    /// When that can't be read.
    pub(super) async fn load(store: &Store) -> Result<Self> {
        let feed = Self {
            series: store.news_series().await?,
            news: Mutex::default(),
            last: watch::Sender::new(store.last_news().await?),
        };
        feed.add(&store.news().await?);
        Ok(feed)
    }

    fn news(&self) -> MutexGuard<'_, VecDeque<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all who listen. They come in the order of their numbers.
    pub(super) fn add(&self, rows: &[NewsRow]) {
        let Some(last) = rows.last().map(|row| row.id) else { return };
        {
            let mut news = self.news();
            news.extend(rows.iter().map(|row| News { number: row.id, data: data(row).into() }));
            let surplus = news.len().saturating_sub(usize::try_from(NEWS_MAX).unwrap_or(usize::MAX));
            news.drain(..surplus);
        }
        self.last.send_replace(last);
    }

    /// The name of this row of numbers.
    #[must_use]
    pub fn series(&self) -> &str {
        &self.series
    }

    /// The number of the newest; it changes with each.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<i64> {
        self.last.subscribe()
    }

    /// What has come since.
    #[must_use]
    pub fn since(&self, place: Place<'_>) -> Unheard {
        let news = self.news();
        let last = *self.last.borrow();
        let oldest = news.front().map_or(last + 1, |first| first.number);
        if place.series != self.series || place.number > last || place.number + 1 < oldest {
            return Unheard::Unknown(last);
        }
        Unheard::News(news.iter().filter(|entry| entry.number > place.number).cloned().collect())
    }
}

fn data(row: &NewsRow) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        project: &'a str,
        images: &'a str,
        pipeline: i64,
        at: String,
    }
    let data = Data { project: &row.path, images: &row.images, pipeline: row.pipeline, at: rfc3339(row.at) };
    // Texts and numbers alone can't fail.
    serde_json::to_string(&data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(numbers: std::ops::Range<i64>) -> Feed {
        let feed = Feed { series: "ab".to_owned(), news: Mutex::default(), last: watch::Sender::new(0) };
        feed.add(&numbers.map(row).collect::<Vec<_>>());
        feed
    }

    fn row(id: i64) -> NewsRow {
        NewsRow { id, at: 0, path: "images/app".to_owned(), images: "r/images/app".to_owned(), pipeline: id * 10 }
    }

    fn numbers(unheard: Unheard) -> Vec<i64> {
        let Unheard::News(news) = unheard else { panic!("{unheard:?}") };
        news.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn a_listener_goes_on_where_he_was() {
        let feed = feed(5..9);
        let since = |series, number| feed.since(Place { series, number });
        assert_eq!(numbers(since("ab", 6)), [7, 8]);
        assert_eq!(numbers(since("ab", 4)), [5, 6, 7, 8], "nothing is missing");
        assert!(numbers(since("ab", 8)).is_empty());
        assert_eq!(since("ab", 3), Unheard::Unknown(8), "4 is not kept any more");
        assert_eq!(since("ab", 9), Unheard::Unknown(8), "a backup was put in its place");
        assert_eq!(since("cd", 7), Unheard::Unknown(8), "another database's");
    }

    #[test]
    fn where_nothing_was_ever_built_nothing_is_missing() {
        let feed = feed(1..1);
        assert!(numbers(feed.since(Place { series: "ab", number: 0 })).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let feed = feed(1..NEWS_MAX + 6);
        assert_eq!(feed.since(Place { series: "ab", number: 4 }), Unheard::Unknown(NEWS_MAX + 5));
        assert_eq!(numbers(feed.since(Place { series: "ab", number: 5 })).len(), 1000);
    }

    #[test]
    fn a_place_is_a_series_and_a_number() {
        assert_eq!(Place::parse("ab-7"), Some(Place { series: "ab", number: 7 }));
        for text in ["", "7", "ab-", "ab-x", "ab-9223372036854775808"] {
            assert_eq!(Place::parse(text).map(|place| place.number), None, "{text}");
        }
    }
}
