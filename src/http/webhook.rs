//! `POST /hooks/gitlab`: GitLab's pipeline events.
//!
//! | answer | when |
//! | --- | --- |
//! | 200 | the event is stored, or is none that anybody cares about: GitLab switches hooks off that fail |
//! | 400 | it is GitLab's, and can't be read |
//! | 401 | it is not GitLab's |
//! | 408, 413 | it is too slow, or too large |
//! | 503 | it can't be stored |

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;
use warp::{Buf, Filter, Rejection, Reply};

use super::intake::Intake;
use super::signature::{Head, has_token, is_signed};
use crate::chain::event::{self, Read};
use crate::controller::HookSecrets;
use crate::metrics::Metrics;
use crate::store::NewEvent;

/// Longest body that is read, in bytes: GitLab sends no longer ones.
const BODY_MAX: usize = 25 << 20;
/// How long a body may take.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// Long bodies in memory at once, of callers who have not proven yet who they are too.
const LONG_AT_ONCE: usize = 4;
/// What counts as short, in bytes.
const SHORT: usize = 256 << 10;

/// What an answer needs.
#[derive(Debug)]
struct Endpoint {
    secrets: HookSecrets,
    intake: Intake,
    long: Semaphore,
}

/// The endpoint.
pub fn endpoint(
    secrets: HookSecrets,
    intake: Intake,
    metrics: Arc<Metrics>,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone + Send + Sync + 'static {
    let endpoint = Arc::new(Endpoint { secrets, intake, long: Semaphore::new(LONG_AT_ONCE) });
    warp::path!("hooks" / "gitlab")
        .and(warp::post())
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |headers: HeaderMap, body| {
            let (endpoint, metrics) = (Arc::clone(&endpoint), Arc::clone(&metrics));
            async move {
                let (status, words) = endpoint.answer(&headers, body).await;
                metrics.webhook_answered(status.as_u16());
                warp::reply::with_status(words, status)
            }
        })
}

impl Endpoint {
    async fn answer<B: Buf>(
        &self,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<B, warp::Error>> + Send,
    ) -> (StatusCode, &'static str) {
        let head = head(headers);
        let known = has_token(&head, self.secrets.token.expose());
        let key = self.secrets.key.as_ref().filter(|_| head.signature.is_some());
        if !known && key.is_none() {
            tracing::warn!("a call without the webhook's token was refused");
            return (StatusCode::UNAUTHORIZED, "the token is missing or wrong");
        }
        let read = tokio::time::timeout(BODY_WITHIN, self.read(headers, body)).await;
        let body = match read {
            Ok(Ok(body)) => body,
            Ok(Err(refused)) => return refused,
            Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the body took too long"),
        };
        if !known && !key.is_some_and(|key| is_signed(&head, &body, &key.0, seconds())) {
            tracing::warn!("a call with a wrong signature was refused");
            return (StatusCode::UNAUTHORIZED, "the signature is wrong or too old");
        }
        let event = match event::read(&body) {
            Read::Pipeline(event) => event,
            Read::Other(kind) => {
                tracing::debug!(kind, "an event that is not of a pipeline");
                return (StatusCode::OK, "not of a pipeline");
            }
            Read::Unreadable(why) => {
                tracing::warn!("an event can't be read: {why}");
                return (StatusCode::BAD_REQUEST, "not an event that can be read");
            }
        };
        drop(body);
        let delivery = headers
            .get("idempotency-key")
            .and_then(|value| value.to_str().ok())
            .map(|key| key.chars().take(100).collect());
        let new = NewEvent { received_at: seconds() * 1000, delivery, event, verdict: None };
        if self.intake.store(new).await {
            (StatusCode::OK, "stored")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "it can't be stored")
        }
    }

    /// The whole body.
    async fn read<B: Buf>(
        &self,
        headers: &HeaderMap,
        body: impl Stream<Item = Result<B, warp::Error>> + Send,
    ) -> Result<Vec<u8>, (StatusCode, &'static str)> {
        let too_large = (StatusCode::PAYLOAD_TOO_LARGE, "larger than any event of GitLab's");
        let length = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > BODY_MAX) {
            return Err(too_large);
        }
        let mut place = None;
        let mut bytes = Vec::new();
        let mut body = std::pin::pin!(body);
        while let Some(chunk) = body.next().await {
            let Ok(mut chunk) = chunk else { return Err((StatusCode::BAD_REQUEST, "the body is not whole")) };
            if bytes.len() + chunk.remaining() > BODY_MAX {
                return Err(too_large);
            }
            if place.is_none() && bytes.len() + chunk.remaining() > SHORT {
                // The semaphore is never closed.
                place = self.long.acquire().await.ok();
            }
            while chunk.has_remaining() {
                let some = chunk.chunk();
                bytes.extend_from_slice(some);
                let count = some.len();
                chunk.advance(count);
            }
        }
        Ok(bytes)
    }
}

fn head(headers: &HeaderMap) -> Head {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    Head {
        token: text("x-gitlab-token"),
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
    }
}

fn seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
