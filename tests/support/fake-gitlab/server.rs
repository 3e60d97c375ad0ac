//! The server: takes requests, lets faults have their way, and sends what came of it.

use std::future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use warp::http::header::{CONTENT_LENGTH, HeaderName};
use warp::http::{HeaderMap, Method, Response, StatusCode};
use warp::hyper::body::Bytes;
use warp::path::FullPath;
use warp::{Filter, Reply};

use crate::faults::{self, Trouble};
use crate::gitlab::Gitlab;
use crate::http::{Answer, Request};
use crate::{control, graphql, rest};

/// Serves until it is dropped.
pub async fn serve(gitlab: Arc<Gitlab>, listener: TcpListener) {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let filter = warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::bytes())
        .then(move |method: Method, path: FullPath, query: String, headers: HeaderMap, body: Bytes| {
            let gitlab = gitlab.clone();
            async move {
                let request = read(&gitlab.root, &method, &path, query, &headers, &body);
                answer(&gitlab, request).await
            }
        });
    warp::serve(filter).incoming(listener).run().await;
}

/// The request without the server's types; none where it is not below the root.
fn read(
    root: &str,
    method: &Method,
    path: &FullPath,
    query: String,
    headers: &HeaderMap,
    body: &[u8],
) -> Option<Request> {
    let path = path.as_str().strip_prefix(root).filter(|rest| rest.starts_with('/'))?;
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    Some(Request { method: method.to_string(), path: path.to_owned(), query, headers, body: body.to_vec() })
}

/// How an answer goes out.
enum Way {
    /// Whole.
    Whole,
    /// Only half of it.
    Cut,
    /// Not at all.
    Closed,
}

async fn answer(gitlab: &Arc<Gitlab>, request: Option<Request>) -> warp::reply::Response {
    let Some(request) = request else { return send(faults::status(404), &Way::Whole) };
    if request.path.starts_with("/_control") {
        return send(control::answer(gitlab, &request), &Way::Whole);
    }
    let (id, trouble) = gitlab.with(|state| {
        let trouble = faults::draw(&mut state.faults, &request, &mut state.dispatch.chance);
        (state.seen.begin(&request, trouble.as_ref()), trouble)
    });
    let (answer, way) = troubled(gitlab, &request, trouble).await;
    if matches!(way, Way::Closed) {
        return send(answer, &way);
    }
    let answer = gitlab.with(|state| {
        state.seen.end(id, answer.status);
        let number = format!("{:026}", id);
        answer.with("Date", state.clock.http_date()).with("X-Request-Id", number)
    });
    send(answer, &way)
}

/// The answer, and how it goes out, with whatever goes wrong on the way.
async fn troubled(gitlab: &Arc<Gitlab>, request: &Request, trouble: Option<Trouble>) -> (Answer, Way) {
    let clock = gitlab.with(|state| state.clock);
    match trouble {
        Some(Trouble::Closed) => return (Answer::empty(0), Way::Closed),
        Some(Trouble::Status { status, done: false }) => return (faults::status(status), Way::Whole),
        Some(Trouble::Throttled { retry_after, form }) => {
            return (faults::throttled(form, retry_after, clock), Way::Whole);
        }
        Some(Trouble::Slow { ms, done: false }) => tokio::time::sleep(Duration::from_millis(ms)).await,
        _ => {}
    }
    let answer = done(gitlab, request).await;
    match trouble {
        Some(Trouble::Lost) => (answer, Way::Closed),
        Some(Trouble::Cut) => (answer, Way::Cut),
        Some(Trouble::Status { status, done: true }) => (faults::status(status), Way::Whole),
        Some(Trouble::Garbage) => (faults::garbage(), Way::Whole),
        Some(Trouble::Truncated) => {
            let half = answer.body.len() / 2;
            (Answer { body: answer.body[..half].to_vec(), ..answer }, Way::Whole)
        }
        Some(Trouble::Slow { ms, done: true }) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            (answer, Way::Whole)
        }
        _ => (answer, Way::Whole),
    }
}

/// The answer of a GitLab that is well.
async fn done(gitlab: &Arc<Gitlab>, request: &Request) -> Answer {
    let left = gitlab.with(|state| {
        let token = rest::token_of(request).unwrap_or_default();
        state.budget.spend(&token, state.clock)
    });
    let refusal = left.as_ref().and_then(|left| left.refusal());
    let answer = match refusal {
        Some(refusal) => refusal,
        None if request.path.starts_with("/api/v4/") => rest::answer(gitlab, request).await,
        None if request.path == "/api/graphql" => graphql::answer(gitlab, request).await,
        None => Answer::bytes(404, "text/html", b"<html><body>404</body></html>".to_vec()),
    };
    match left {
        Some(left) => left.tell(answer),
        None => answer,
    }
}

fn send(answer: Answer, way: &Way) -> warp::reply::Response {
    let length = answer.body.len();
    let mut response = match way {
        Way::Whole => Response::new(answer.body).into_response(),
        Way::Cut => warp::reply::stream(first_half(answer.body)).into_response(),
        // warp closes no connection without an answer; the end of its task does, and says nothing on standard error.
        Way::Closed => std::panic::resume_unwind(Box::new("closed for a test")),
    };
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            headers.append(name, value);
        }
    }
    if matches!(way, Way::Cut) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    response
}

/// Half of a body, and then the end of the connection.
fn first_half(mut body: Vec<u8>) -> impl Stream<Item = io::Result<Vec<u8>>> {
    body.truncate(body.len() / 2);
    let end = async {
        // Until now nothing of the first half has been sent.
        tokio::task::yield_now().await;
        Err(io::Error::other("cut for a test"))
    };
    stream::once(future::ready(Ok(body))).chain(stream::once(end))
}
