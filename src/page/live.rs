//! Pages that stay open: each is told the parts that have changed, as server-sent events.
//!
//! One task looks once a second, while anybody listens. What it finds is rendered and written once for all who have the same page open, and
//! of what a client has, only digests are kept. A client that takes its time misses moments in between and nothing else: nothing is queued
//! for it, and one that takes nothing is cut off.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, Stream};
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assets;
use super::render::{Rendering, Told, Topic};
use crate::loops;

/// Pages open at once that are told of changes; more are served, and stay as they are.
pub const VIEWERS_MAX: usize = 128;
/// How often somebody looks.
const PACE: Duration = Duration::from_secs(1);
/// How often pages are rendered anew whose sources tell of no change.
const SLOW_PACE: Duration = Duration::from_secs(15);
/// How often a client hears that the connection is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client may take nothing.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// How long a stream lasts at most, and by how much less; the browser then asks for another. Pages that were opened together do that at
/// times of their own.
const LASTS: Duration = Duration::from_secs(15 * 60);
const LESS: Duration = Duration::from_secs(5 * 60);
/// How long after the end of a connection a browser asks again, in milliseconds: not all at once after a restart.
const AGAIN_MS: std::ops::Range<u32> = 1_000..4_000;

/// Versions of what goes on, of the chain, and of what is on record.
type Versions = (u64, u64, u64);

/// What tells open pages of changes.
#[derive(Debug)]
pub struct Live {
    rendering: Arc<Rendering>,
    versions: watch::Sender<Versions>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Live {
    /// Nobody listens yet.
    #[must_use]
    pub fn new(rendering: Arc<Rendering>, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(VIEWERS_MAX));
        Self { rendering, versions: watch::Sender::default(), places, tasks, shutdown }
    }

    /// Looks once a second while anybody listens, until the shutdown.
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = loops::rest(tokio::time::sleep(PACE)) => {}
            }
            if self.versions.receiver_count() == 0 {
                continue;
            }
            let moment = self.rendering.sources.moment().await;
            let versions = (moment.now_version, moment.chain_version, moment.noted);
            self.versions.send_if_modified(|before| std::mem::replace(before, versions) != versions);
        }
    }

    /// Whether one more could listen.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.places.available_permits() > 0
    }

    /// The events of a page; none where too many listen already.
    pub fn follow(&self, topic: Topic) -> Option<impl Stream<Item = Result<Bytes, Infallible>> + Send + Sync + use<>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (sender, mut receiver) = mpsc::channel(1);
        let follower = Follower {
            rendering: Arc::clone(&self.rendering),
            topic,
            versions: self.versions.subscribe(),
            sender,
            _place: place,
        };
        let (shutdown, lasts) = (self.shutdown.clone(), lasts(fastrand::f64()));
        self.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = tokio::time::timeout(lasts, follower.run()) => {}
            }
        });
        Some(stream::poll_fn(move |context| receiver.poll_recv(context).map(|chunk| chunk.map(Ok))))
    }
}

/// One open page.
struct Follower {
    rendering: Arc<Rendering>,
    topic: Topic,
    versions: watch::Receiver<Versions>,
    sender: mpsc::Sender<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// Until the client is gone, or takes nothing.
    async fn run(mut self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if !self.send(hello(since, fastrand::u32(AGAIN_MS))).await {
            return;
        }
        let mut has = HashMap::new();
        loop {
            let parts = self.rendering.live(&self.topic).await;
            for event in changed(&mut has, &parts) {
                if !self.send(event).await {
                    return;
                }
            }
            // The parts may be of another moment by now: nobody holds them while nothing happens.
            drop(parts);
            let pace = if self.topic.is_told() { HEARTBEAT } else { SLOW_PACE };
            tokio::select! {
                () = self.sender.closed() => return,
                told = self.versions.changed(), if self.topic.is_told() => if told.is_err() { return },
                () = tokio::time::sleep(pace) => if !self.send(Bytes::from_static(b": still here\n\n")).await { return },
            }
        }
    }

    async fn send(&self, event: Bytes) -> bool {
        self.sender.send_timeout(event, TAKEN_WITHIN).await.is_ok()
    }
}

/// How long a stream lasts, by a chance from 0 to 1.
fn lasts(chance: f64) -> Duration {
    LASTS - LESS.mul_f64(chance)
}

/// What comes first: which release this is, and what time it is here, since 1970.
fn hello(now: Duration, again_ms: u32) -> Bytes {
    #[derive(Serialize)]
    struct Hello {
        release: String,
        now: u64,
    }
    let hello = Hello { release: assets::release(), now: u64::try_from(now.as_millis()).unwrap_or(u64::MAX) };
    let data = serde_json::to_string(&hello).unwrap_or_default();
    format!("retry: {again_ms}\nevent: hello\ndata: {data}\n\n").into()
}

/// The events of the parts that a client does not have yet. `has` is what it has, by digests.
fn changed(has: &mut HashMap<&'static str, u64>, parts: &[Told]) -> Vec<Bytes> {
    let is_new = |part: &&Told| has.insert(part.id, part.digest) != Some(part.digest);
    parts.iter().filter(is_new).map(|part| part.event.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_other_than_before_is_told() {
        let part = |id, digest, event| Told { id, digest, event: Bytes::from_static(event) };
        let mut has = HashMap::new();
        assert_eq!(changed(&mut has, &[part("a", 1, b"a1"), part("b", 1, b"b1")]), ["a1", "b1"]);
        assert_eq!(changed(&mut has, &[part("a", 1, b"a1"), part("b", 2, b"b2")]), ["b2"]);
        assert!(changed(&mut has, &[part("a", 1, b"a1"), part("b", 2, b"b2")]).is_empty());
    }

    #[test]
    fn what_is_told_to_many_is_there_once() {
        let parts = [Told { id: "a", digest: 1, event: Bytes::from("x".repeat(1000)) }];
        let told: Vec<Bytes> = (0..2).flat_map(|_| changed(&mut HashMap::new(), &parts)).collect();
        assert_eq!(told[0].as_ptr(), told[1].as_ptr());
    }

    #[test]
    fn streams_that_began_together_do_not_end_together_and_none_outlasts_its_connection() {
        assert_eq!((lasts(0.0), lasts(1.0)), (LASTS, Duration::from_secs(600)));
        assert!(lasts(0.25) > lasts(0.5));
    }

    #[test]
    fn the_first_event_has_the_release_and_the_servers_time() {
        let text = hello(Duration::from_millis(1_768_046_400_123), 2500);
        let release = assets::release();
        let wanted =
            format!("retry: 2500\nevent: hello\ndata: {{\"release\":\"{release}\",\"now\":1768046400123}}\n\n");
        assert_eq!(text, wanted);
    }
}
