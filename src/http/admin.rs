//! `GET /metrics`, `/healthz` and `/readyz`, for those who watch the daemon.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | figures, as OpenMetrics text |
//! | `/healthz` | 200 while all loops go on and the one that takes callers gives signs of life, else 503 and what hangs: a daemon to restart |
//! | `/readyz` | 200 while a job that comes now would be run, else 503 and why not, a line for each reason; what hinders no job is told with 200 too |

use std::sync::Arc;

use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use warp::{Filter, Rejection, Reply};

use crate::metrics;

/// Whether a job that comes now would be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why not; none: it would.
    pub not_ready: Vec<String>,
    /// What else somebody who asks should know.
    pub remarks: Vec<String>,
}

/// Who knows.
pub trait Source: Send + Sync + 'static {
    /// All figures, as text.
    fn metrics(&self) -> impl Future<Output = String> + Send;
    /// Why the daemon is to be restarted; none: it lives.
    fn trouble(&self) -> impl Future<Output = Option<String>> + Send;
    /// Whether a job that comes now would be run.
    fn readiness(&self) -> impl Future<Output = Readiness> + Send;
}

/// The endpoint.
pub fn endpoint<S: Source>(
    source: Arc<S>,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone + Send + Sync + 'static {
    let source = warp::any().map(move || Arc::clone(&source));
    let metrics = warp::path!("metrics")
        .and(source.clone())
        .then(|source: Arc<S>| async move { answer(StatusCode::OK, metrics::CONTENT_TYPE, source.metrics().await) });
    let alive = warp::path!("healthz").and(source.clone()).then(|source: Arc<S>| async move {
        match source.trouble().await {
            None => text(StatusCode::OK, "ok\n".to_owned()),
            Some(words) => text(StatusCode::SERVICE_UNAVAILABLE, words + "\n"),
        }
    });
    let ready = warp::path!("readyz").and(source).then(|source: Arc<S>| async move { told(source.readiness().await) });
    warp::get().and(metrics.or(alive).unify().or(ready).unify())
}

fn told(Readiness { not_ready, remarks }: Readiness) -> Answer {
    let status = if not_ready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let first = not_ready.is_empty().then(|| "ready".to_owned());
    let lines = first.into_iter().chain(not_ready).chain(remarks).map(|line| line + "\n");
    text(status, lines.collect())
}

type Answer = http::Response<String>;

fn text(status: StatusCode, words: String) -> Answer {
    answer(status, "text/plain; charset=utf-8", words)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = http::Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_a_line_and_remarks_make_nobody_unready() {
        let remarks = vec!["GitLab does not answer".to_owned()];
        let ready = told(Readiness { not_ready: Vec::new(), remarks: remarks.clone() });
        assert_eq!((ready.status(), ready.body().as_str()), (StatusCode::OK, "ready\nGitLab does not answer\n"));
        let not = told(Readiness { not_ready: vec!["drained".to_owned()], remarks });
        assert_eq!(not.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(not.body(), "drained\nGitLab does not answer\n");
    }
}
