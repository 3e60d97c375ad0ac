//! Takes events in, many in one write: each is on the disk before its sender is answered, and the disk is asked once for all that wait.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::controller::Controller;
use crate::loops;
use crate::store::NewEvent;

/// Events that wait at once; more senders wait for a place.
const WAITING: usize = 1024;
/// Events in one write.
const TOGETHER: usize = 256;

type Entry = (NewEvent, oneshot::Sender<bool>);

/// Where events are put in.
#[derive(Debug, Clone)]
pub struct Intake(mpsc::Sender<Entry>);

impl Intake {
    /// A place to put events in, and where they come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Entry>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Stores an event; whether it is on the disk.
    pub async fn store(&self, event: NewEvent) -> bool {
        let (answer, stored) = oneshot::channel();
        self.0.send((event, answer)).await.is_ok() && stored.await.unwrap_or(false)
    }
}

/// Stores what comes, until the shutdown; what waits then is stored still.
pub async fn run(mut entries: mpsc::Receiver<Entry>, controller: Arc<Controller>, shutdown: CancellationToken) {
    let mut some = Vec::with_capacity(TOGETHER);
    loop {
        tokio::select! {
            biased;
            // Without senders, nobody is served any more either.
            count = loops::rest(entries.recv_many(&mut some, TOGETHER)) => if count == 0 { return },
            () = shutdown.cancelled() => return,
        }
        let (events, answers): (Vec<NewEvent>, Vec<oneshot::Sender<bool>>) = some.drain(..).unzip();
        let stored = controller.take_events(events).await;
        if let Err(error) = &stored {
            tracing::error!("store webhook events: {error:#}");
        }
        for answer in answers {
            // A sender that is gone needs none.
            let _ = answer.send(stored.is_ok());
        }
    }
}
