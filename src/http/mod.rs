//! What is served over HTTP. Slow clients are cut off, and the end waits for none of them.

pub mod intake;
mod listener;
mod signature;
pub mod webhook;

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::{Filter, Rejection, Reply};

pub use listener::{Listener, Stream};

/// Clients at once; more wait in the socket's queue.
const CLIENTS: usize = 256;
/// How long a client may take for the head of a request, and be silent between two.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take for everything, where nothing else is said.
pub const ALL_WITHIN: Duration = Duration::from_secs(60);
/// How long a client may take nothing of what it is sent.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// How long requests that are being answered get at a shutdown.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Pause after accept(2) failed, for example for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves a filter until the shutdown. `all_within`: how long one connection may last.
pub async fn serve<F, R>(
    listener: Listener,
    filter: F,
    all_within: Duration,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) where
    F: Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
    R: Reply + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next => next,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("accept an HTTP client: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(warp::service(filter.clone()));
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            let _place = place;
            let mut stream = TimeoutWriter::new(stream);
            stream.set_timeout(Some(TAKEN_WITHIN));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .serve_connection(TokioIo::new(Box::pin(stream)), service);
            let mut connection = std::pin::pin!(connection);
            let served = tokio::select! {
                served = tokio::time::timeout(all_within, connection.as_mut()) => served,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::time::timeout(END_WITHIN, connection).await
                }
            };
            if let Ok(Err(error)) = served {
                tracing::debug!("an HTTP client: {error}");
            }
        });
    }
}
