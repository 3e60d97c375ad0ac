//! Pages that stay open: each is told the parts that have changed, as server-sent events.
//!
//! One task looks once a second, while anybody listens. What it finds is rendered once for all who have the same page open. A client that
//! takes its time misses moments in between and nothing else: nothing is queued for it, and one that takes nothing is cut off.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::assets;
use super::html::Part;
use super::render::{Rendering, Topic};
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
/// How long a stream lasts; the browser then asks for another.
const LASTS: Duration = Duration::from_secs(15 * 60);
/// How long after the end of a connection a browser asks again.
const AGAIN_MS: u32 = 2_000;

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

    /// The events of a page; none where too many listen already.
    pub fn follow(
        &self,
        topic: Topic,
    ) -> Option<impl Stream<Item = Result<Vec<u8>, Infallible>> + Send + Sync + use<>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (sender, mut receiver) = mpsc::channel(1);
        let follower = Follower {
            rendering: Arc::clone(&self.rendering),
            topic,
            versions: self.versions.subscribe(),
            sender,
            _place: place,
        };
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                _ = tokio::time::timeout(LASTS, follower.run()) => {}
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
    sender: mpsc::Sender<Vec<u8>>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    /// Until the client is gone, or takes nothing.
    async fn run(mut self) {
        let hello = format!("retry: {AGAIN_MS}\nevent: hello\ndata: {}\n\n", assets::release());
        if !self.send(hello).await {
            return;
        }
        let mut has = HashMap::new();
        loop {
            // A project that is not in the chain any more changes no more.
            let parts = self.rendering.live(&self.topic).await.unwrap_or_default();
            let changed = changed(&mut has, &parts);
            if !changed.is_empty() {
                let Ok(data) = serde_json::to_string(&changed) else { return };
                if !self.send(format!("event: parts\ndata: {data}\n\n")).await {
                    return;
                }
            }
            let pace = if self.topic.is_told() { HEARTBEAT } else { SLOW_PACE };
            tokio::select! {
                () = self.sender.closed() => return,
                told = self.versions.changed(), if self.topic.is_told() => if told.is_err() { return },
                () = tokio::time::sleep(pace) => if !self.send(": still here\n\n".to_owned()).await { return },
            }
        }
    }

    async fn send(&self, text: String) -> bool {
        self.sender.send_timeout(text.into_bytes(), TAKEN_WITHIN).await.is_ok()
    }
}

/// The parts that a client does not have yet.
fn changed<'a>(has: &mut HashMap<&'static str, String>, parts: &'a [Part]) -> Vec<&'a Part> {
    let is_new = |part: &&Part| has.get(part.id) != Some(&part.html);
    let changed: Vec<&Part> = parts.iter().filter(is_new).collect();
    has.extend(changed.iter().map(|part| (part.id, part.html.clone())));
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_other_than_before_is_told() {
        let part = |id, html: &str| Part { id, html: html.into() };
        let mut has = HashMap::new();
        let ids = |parts: Vec<&Part>| parts.iter().map(|part| part.id).collect::<Vec<_>>();
        assert_eq!(ids(changed(&mut has, &[part("a", "1"), part("b", "1")])), ["a", "b"]);
        assert_eq!(ids(changed(&mut has, &[part("a", "1"), part("b", "2")])), ["b"]);
        assert!(changed(&mut has, &[part("a", "1"), part("b", "2")]).is_empty());
    }
}
