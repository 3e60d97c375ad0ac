//! What a test may do here, under `/_control`; no token is asked for. Bodies are JSON, and an unknown key is refused.
//!
//! | request | what it does |
//! | --- | --- |
//! | `POST settings` | changes the instance: [`instance::SettingsChange`] |
//! | `POST tokens` | adds or replaces a token: [`Token`](crate::state::Token); `DELETE tokens/:token` removes one |
//! | `POST budget` | how many requests are allowed: `{"limit", "window_s"}`, or `null` for any number |
//! | `POST projects` | makes a project or a list of them: [`projects::ProjectChange`] with `path`; answers `[{"id", "path"}]` |
//! | `POST projects/:id` | changes one; another `path` renames it. `DELETE` removes it |
//! | `POST projects/:id/push` | commits: [`projects::Push`] |
//! | `GET projects/:id/hooks` | its hooks, with their secrets |
//! | `POST projects/:id/pipelines` | makes a pipeline of any kind: [`pipelines::NewPipeline`] |
//! | `GET pipelines/:id` | the pipeline |
//! | `POST pipelines/:id` | `{"to": STATUS}` on the way that GitLab takes, `{"set": STATUS}` at once |
//! | `POST pipelines/:id/{retry,cancel,play,rearm}` | the first two as by the API; `{"job": NAME}` starts a manual job, or lets one wait again |
//! | `POST groups/share` | `{"group": PATH, "project": ID}` |
//! | `POST webhooks` | how webhooks go wrong: [`instance::WebhooksChange`] |
//! | `GET webhooks` | `{"held", "under_way"}`: how many wait to be released, and how many go out by themselves |
//! | `POST webhooks/send` | calls a hook with any body: [`instance::Send`] |
//! | `POST webhooks/release` | sends what was kept: `{"order": "kept" / "backwards" / "shuffled"}` |
//! | `GET deliveries` | every webhook: by `project`, `hook`, `pipeline`, `outcome`. `DELETE` forgets them |
//! | `POST faults` | adds something that goes wrong: [`Plan`](crate::faults::Plan); `GET` lists, `DELETE` ends them |
//! | `GET requests` | every request but those to here: by `method`, `path` (with `*`), `status`, `after` (a number). `DELETE` forgets them |
//!
//! `:id` of a project is its id or its encoded path.

mod inspect;
mod instance;
mod pipelines;
mod projects;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::gitlab::Gitlab;
use crate::http::{Answer, Reply, Request};
use crate::state::State;

/// Answers a test.
pub fn answer(gitlab: &Arc<Gitlab>, request: &Request) -> Answer {
    let words = request.words();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    match gitlab.with(|state| route(state, request, &words)) {
        Ok(answer) | Err(answer) => answer,
    }
}

fn route(state: &mut State, request: &Request, words: &[&str]) -> Reply {
    match (request.method.as_str(), words) {
        ("POST", ["settings"]) => instance::settings(state, body(request)?),
        ("POST", ["tokens"]) => instance::add_token(state, body(request)?),
        ("DELETE", ["tokens", token]) => instance::remove_token(state, token),
        ("POST", ["budget"]) => instance::budget(state, body(request)?),
        ("POST", ["webhooks"]) => instance::webhooks(state, body(request)?),
        ("GET", ["webhooks"]) => inspect::webhooks(state),
        ("POST", ["webhooks", "send"]) => instance::send(state, body(request)?),
        ("POST", ["webhooks", "release"]) => instance::release(state, body(request)?),
        ("POST", ["faults"]) => instance::add_fault(state, body(request)?),
        ("GET", ["faults"]) => inspect::faults(state),
        ("DELETE", ["faults"]) => instance::end_faults(state),
        ("POST", ["groups", "share"]) => projects::share(state, body(request)?),
        ("POST", ["projects"]) => projects::create(state, body(request)?),
        ("POST", ["projects", id]) => projects::change(state, project(state, id)?, body(request)?),
        ("DELETE", ["projects", id]) => projects::remove(state, project(state, id)?),
        ("POST", ["projects", id, "push"]) => projects::push(state, project(state, id)?, body(request)?),
        ("GET", ["projects", id, "hooks"]) => inspect::hooks(state, project(state, id)?),
        ("POST", ["projects", id, "pipelines"]) => pipelines::create(state, project(state, id)?, body(request)?),
        ("GET", ["pipelines", id]) => pipelines::shown(state, pipeline(state, id)?),
        ("POST", ["pipelines", id]) => pipelines::change(state, pipeline(state, id)?, body(request)?),
        ("POST", ["pipelines", id, deed]) => pipelines::act(state, pipeline(state, id)?, deed, body(request)?),
        ("GET", ["deliveries"]) => inspect::deliveries(state, request),
        ("DELETE", ["deliveries"]) => inspect::forget_deliveries(state),
        ("GET", ["requests"]) => inspect::requests(state, request),
        ("DELETE", ["requests"]) => inspect::forget_requests(state),
        _ => Err(refused(&format!("{} {} is nothing that can be done here", request.method, request.path))),
    }
}

/// The body of a request; an empty one counts as `{}`.
fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Answer> {
    let bytes: &[u8] = if request.body.is_empty() { b"{}" } else { &request.body };
    serde_json::from_slice(bytes).map_err(|error| refused(&error.to_string()))
}

fn project(state: &State, id: &str) -> Result<u64, Answer> {
    state.project_id(id).ok_or_else(|| refused(&format!("there is no project {id}")))
}

fn pipeline(state: &State, id: &str) -> Result<u64, Answer> {
    let known = id.parse().ok().filter(|id| state.pipelines.contains_key(id));
    known.ok_or_else(|| refused(&format!("there is no pipeline {id}")))
}

/// A test has asked for something that makes no sense.
fn refused(why: &str) -> Answer {
    Answer::json(400, &json!({"refused": why}))
}

/// It is done, and there is nothing to say.
fn done() -> Reply {
    Ok(Answer::json(200, &json!({})))
}
