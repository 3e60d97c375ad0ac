//! `GET /feed`: what was built, as server-sent events, for hosts that run it (`windlass update watch`).
//!
//! | event | data | |
//! | --- | --- | --- |
//! | `hello` | `{}` | a client that has heard nothing before begins here |
//! | `built` | `{"project","images","pipeline","at"}` | a project's pipeline succeeded; its images are below `images` |
//! | `missed` | `{}` | what came meanwhile is not known any more: anything may have been built |
//!
//! Each has an id, from which a client goes on (`Last-Event-ID`). 401 without the token, 503 where too many listen.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use super::Bounds;
use crate::controller::{Feed, News, Place, Unheard};
use crate::metrics::Metrics;
use crate::sys::secrets::Secret;

/// Hosts that listen at once; more are told to come later.
pub const LISTENERS_MAX: usize = 4096;
/// Connections of others: of those who are sent away, and of health checks.
const OTHERS: usize = 64;
/// How often a host hears that the connection is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a connection lasts; the client then comes again, and goes on where it was.
const LASTS: Duration = Duration::from_secs(60 * 60);
/// When a host that is sent away may come again, in seconds.
const AGAIN: &str = "60";

/// The bounds of its listener.
pub const BOUNDS: Bounds =
    Bounds { clients: LISTENERS_MAX + OTHERS, all_within: Duration::from_secs(LASTS.as_secs() + 60) };

/// What serves it.
#[derive(Debug)]
pub struct FeedServer {
    feed: Arc<Feed>,
    token: Secret,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
}

impl FeedServer {
    /// For so many listeners at once, each with this token.
    #[must_use]
    pub fn new(
        feed: Arc<Feed>,
        token: Secret,
        listeners: usize,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        Self { feed, token, places: Arc::new(Semaphore::new(listeners.min(LISTENERS_MAX))), metrics, shutdown }
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let given = text(AUTHORIZATION.as_str()).and_then(bearer).unwrap_or_default();
        if !bool::from(given.as_bytes().ct_eq(self.token.expose().as_bytes())) {
            tracing::warn!("a listener without the feed's token was refused");
            return refusal(StatusCode::UNAUTHORIZED, "the token is missing or wrong", (WWW_AUTHENTICATE, "Bearer"));
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            tracing::warn!("as many hosts as can be served listen to the feed already; another was sent away");
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "too many listen", (RETRY_AFTER, AGAIN));
        };
        let events = events(
            Listener {
                feed: Arc::clone(&self.feed),
                told: self.feed.follow(),
                heard: None,
                until: Instant::now() + LASTS,
                _place: place,
                _counted: Counted::new(&self.metrics),
                shutdown: self.shutdown.clone(),
            },
            text("last-event-id"),
        );
        let mut answer = warp::reply::stream(events).into_response();
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // What nginx gathers, hosts would hear late.
        answer.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        answer
    }
}

/// The endpoint.
pub fn endpoint(
    server: Arc<FeedServer>,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone + Send + Sync + 'static {
    warp::path!("feed")
        .and(warp::get())
        .and(warp::header::headers_cloned())
        .map(move |headers: HeaderMap| server.answer(&headers))
}

/// The token in `Authorization: Bearer TOKEN`.
fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refusal(status: StatusCode, words: &'static str, (name, value): (http::HeaderName, &'static str)) -> Response {
    let mut answer = Response::new(words.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
    answer
}

/// Counts a listener for as long as it is there.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.feed_listeners.inc();
        Self(Arc::clone(metrics))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.feed_listeners.dec();
    }
}

/// A host that listens.
struct Listener {
    feed: Arc<Feed>,
    told: watch::Receiver<i64>,
    /// The number of what it has heard last; none: nothing was said yet.
    heard: Option<i64>,
    until: Instant,
    _place: OwnedSemaphorePermit,
    _counted: Counted,
    shutdown: CancellationToken,
}

/// What a host is sent: first where it is, then what comes. Nothing is queued for one that is slow.
fn events(listener: Listener, last: Option<&str>) -> impl Stream<Item = Result<String, Infallible>> + Send + use<> {
    let last = last.map(str::to_owned);
    stream::unfold((listener, last), |(mut listener, mut last)| async move {
        let text =
            if listener.heard.is_none() { listener.begin(last.take().as_deref()) } else { listener.next().await? };
        Some((Ok(text), (listener, last)))
    })
}

impl Listener {
    fn begin(&mut self, last: Option<&str>) -> String {
        let newest = *self.told.borrow_and_update();
        let (kind, number) = match last {
            None | Some("") => ("hello", newest),
            Some(text) => {
                let place = Place::parse(text).unwrap_or(Place { series: "", number: 0 });
                match self.feed.since(place) {
                    Unheard::News(news) => {
                        self.heard = Some(place.number);
                        // Also where nothing is new, so that the client sees that it is connected.
                        return format!(": welcome back\n\n{}", self.told_of(&news));
                    }
                    Unheard::Unknown(newest) => ("missed", newest),
                }
            }
        };
        self.heard = Some(number);
        self.event(kind, number, "{}")
    }

    /// The next that is to be sent; none: the connection ends.
    async fn next(&mut self) -> Option<String> {
        loop {
            let heard = self.heard?;
            let shutdown = self.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep_until(self.until) => return None,
                () = tokio::time::sleep(HEARTBEAT) => return Some(": still here\n\n".to_owned()),
                told = self.told.changed() => told.ok()?,
            }
            let series = self.feed.series().to_owned();
            match self.feed.since(Place { series: &series, number: heard }) {
                // The change was heard of already.
                Unheard::News(news) if news.is_empty() => {}
                Unheard::News(news) => return Some(self.told_of(&news)),
                Unheard::Unknown(newest) => {
                    self.heard = Some(newest);
                    return Some(self.event("missed", newest, "{}"));
                }
            }
        }
    }

    fn told_of(&mut self, news: &[News]) -> String {
        let mut text = String::new();
        for entry in news {
            text += &self.event("built", entry.number, &entry.data);
            self.heard = Some(entry.number);
        }
        text
    }

    fn event(&self, kind: &str, number: i64, data: &str) -> String {
        let mut text = String::new();
        // Writing to a text can't fail.
        let _ = write!(text, "id: {}-{number}\nevent: {kind}\ndata: {data}\n\n", self.feed.series());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_behind_its_scheme() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc "), Some("abc"));
        for text in ["abc", "Basic abc", "Bearer", ""] {
            assert_eq!(bearer(text), None, "{text}");
        }
    }
}
