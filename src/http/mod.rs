//! What is served over HTTP. Slow clients are cut off, and the end waits for none of them.

pub mod admin;
pub mod feed;
pub mod intake;
mod signature;
pub mod webhook;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warp::{Filter, Rejection, Reply};

/// Clients at once, where nothing else is said; more wait in the socket's queue.
const CLIENTS: usize = 256;
/// How long a client may take for the head of a request, and be silent between two.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take for everything, where nothing else is said.
const ALL_WITHIN: Duration = Duration::from_secs(60);
/// How long a client may take nothing of what it is sent.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// How long requests that are being answered get at a shutdown.
const END_WITHIN: Duration = Duration::from_secs(2);
/// Pause after accept(2) failed, for example for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// The address that a client's connection comes from, beside each of its requests; none: from this host, by a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub Option<IpAddr>);

/// What clients come in by.
pub trait Accept: Send {
    /// A client's connection.
    type Connection: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next client. Cancelling this loses none.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Connection, Peer)>> + Send;
}

impl Accept for TcpListener {
    type Connection = TcpStream;
    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        self.accept().await.map(|(stream, from)| (stream, Peer(Some(from.ip().to_canonical()))))
    }
}

impl Accept for UnixListener {
    type Connection = UnixStream;
    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        self.accept().await.map(|(stream, _)| (stream, Peer(None)))
    }
}

/// Bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Clients at once; more wait in the socket's queue.
    pub clients: usize,
    /// How long a connection may last.
    pub all_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { clients: CLIENTS, all_within: ALL_WITHIN }
    }
}

/// Serves a filter until the shutdown.
pub async fn serve<A, F, R>(listener: A, filter: F, tasks: TaskTracker, shutdown: CancellationToken)
where
    A: Accept,
    F: Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
    R: Reply + Send + 'static,
{
    serve_within(listener, filter, Bounds::default(), tasks, shutdown).await;
}

/// The same with other bounds.
pub async fn serve_within<A, F, R>(
    listener: A,
    filter: F,
    bounds: Bounds,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) where
    A: Accept,
    F: Filter<Extract = (R,), Error = Rejection> + Clone + Send + Sync + 'static,
    R: Reply + Send + 'static,
{
    let places = Arc::new(Semaphore::new(bounds.clients));
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.next().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => return,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("accept an HTTP client: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(warp::service(filter.clone()));
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            service.call(request)
        });
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
                served = tokio::time::timeout(bounds.all_within, connection.as_mut()) => served,
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

/// Listens at an address, which the configuration has under `key`.
///
/// # Errors
/// What the operating system says, and to which address.
pub async fn listen(address: std::net::SocketAddr, key: &str) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!("listen at {address} ({key}): {error}");
        io::Error::new(error.kind(), message)
    })
}
