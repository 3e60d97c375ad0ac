//! Something that webhooks are sent to, which answers as it is told.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::http::{Request, Response, Server};

/// A receiver of webhooks on loopback.
pub struct Receiver {
    server: Server,
    status: Arc<AtomicU16>,
    received: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Starts one that answers 200.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts one that does this with each request before it answers.
    pub fn start_with(first: impl Fn(&Request) + Send + Sync + 'static) -> Self {
        let (status, received) = (Arc::new(AtomicU16::new(200)), Arc::new(Mutex::new(Vec::new())));
        let (answer, list) = (status.clone(), received.clone());
        let server = Server::start(move |request| {
            first(request);
            list.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            Response::empty(answer.load(Ordering::Relaxed))
        });
        Self { server, status, received }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/webhook", self.server.port)
    }

    /// From now on it answers with this status.
    pub fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Request> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The statuses that they told, in the order of their coming.
    pub fn statuses(&self) -> Vec<String> {
        let status = |request: &Request| match &request.json()["object_attributes"]["status"] {
            Value::String(status) => status.clone(),
            other => panic!("no status: {other}"),
        };
        self.received().iter().map(status).collect()
    }
}
