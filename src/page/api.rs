//! `/api/v1`: what the pages show, as JSON. `openapi.json` describes it, and tests hold the answers against that.

use http::StatusCode;
use http::header::HeaderValue;
use serde::Serialize;
use warp::Reply;
use warp::reply::Response;

use super::graph::Graph;
use super::moment::{Sources, project_of};
use super::view::disk::Disk;
use super::view::past::DiskPast;
use crate::protocol::chain::{EventLine, ProjectLine, StartLine};

/// The description.
const DESCRIPTION: &str = include_str!("openapi.json");

/// An error.
#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

/// The disks, and what was of them.
#[derive(Serialize)]
struct DiskAnswer<'a> {
    #[serde(flatten)]
    disk: &'a Disk,
    past: &'a DiskPast,
}

/// A project with what is around it.
#[derive(Serialize)]
struct ProjectAnswer<'a> {
    project: &'a ProjectLine,
    held: Option<&'a str>,
    downstreams: Vec<&'a str>,
    events: Vec<EventLine>,
    starts: Vec<StartLine>,
    unread: Option<String>,
}

/// Answers a request for a path below `/api/v1/`.
pub async fn answer(sources: &Sources, path: &str) -> Response {
    match path {
        "openapi.json" => with_type(DESCRIPTION.into_response()),
        "now" => json(&*sources.moment().await.now),
        "disk" => {
            let (disk, past) = sources.disk().await;
            json(&DiskAnswer { disk: &disk, past: &past })
        }
        "images" => match sources.findings().await {
            Some(findings) => json(&*findings),
            None => error(StatusCode::NOT_FOUND, "this daemon has no chain"),
        },
        "jobs" => json(&*sources.jobs().await),
        "chain" => match sources.moment().await.chain {
            Some(chain) => json(&*chain),
            None => error(
                StatusCode::NOT_FOUND,
                "this daemon has no chain: [chain] of windlass.toml names no groups and projects",
            ),
        },
        _ => match path.strip_prefix("chain/").and_then(|id| id.parse().ok()) {
            Some(id) => project(sources, id).await,
            None => error(StatusCode::NOT_FOUND, "there is no such thing; openapi.json says what there is"),
        },
    }
}

async fn project(sources: &Sources, id: i64) -> Response {
    let moment = sources.moment().await;
    let Some(chain) = &moment.chain else { return error(StatusCode::NOT_FOUND, "this daemon has no chain") };
    let Some(project) = project_of(&chain.status, id) else {
        return error(StatusCode::NOT_FOUND, "the chain has no project with this id");
    };
    let past = sources.project(id).await;
    let downstreams = Graph::of(&chain.status).downstreams(id);
    json(&ProjectAnswer {
        project,
        held: chain.status.held.as_deref(),
        downstreams: downstreams.into_iter().map(|project| project.path.as_str()).collect(),
        events: past.events,
        starts: past.starts,
        unread: past.unread,
    })
}

/// An error, in words.
#[must_use]
pub fn error(status: StatusCode, words: &str) -> Response {
    let mut response = json(&Problem { error: words });
    *response.status_mut() = status;
    response
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => with_type(text.into_response()),
        Err(error) => {
            tracing::error!("an answer can't be written: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn with_type(mut response: Response) -> Response {
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}
