//! The REST API: who asks, and which handler answers.

mod about;
mod files;
mod hook_events;
mod hooks;
mod job_tokens;
mod paging;
mod pipeline_list;
mod pipelines;
mod projects;

use std::sync::Arc;

use serde_json::json;

use crate::clock;
use crate::gitlab::Gitlab;
use crate::http::{Answer, Parameters, Reply, Request};
use crate::state::{Access, Project, State, Token};

pub use hooks::show as hook;
pub use pipeline_list::{Filter, STATUSES, filtered};
pub use pipelines::shown as pipeline;

/// One request, with what it was asked by.
pub struct Call<'a> {
    /// The request.
    pub request: &'a Request,
    /// Its parameters.
    pub parameters: Parameters,
    /// Its token.
    pub token: Token,
}

/// Answers a request below `/api/v4`.
pub async fn answer(gitlab: &Arc<Gitlab>, request: &Request) -> Answer {
    match route(gitlab, request).await {
        Ok(answer) | Err(answer) => answer,
    }
}

async fn route(gitlab: &Arc<Gitlab>, request: &Request) -> Reply {
    let words = request.words();
    let words: Vec<&str> = words.iter().skip(2).map(String::as_str).collect();
    let method = request.method.as_str();
    let call = gitlab.with(|state| authenticate(state, request, &words))?;
    // What calls a hook before it answers waits, and so can't be done under the lock.
    match (method, words.as_slice()) {
        ("POST", ["projects", id, "hooks", hook, "test", trigger]) => {
            return hook_events::test(gitlab, &call, id, hook, trigger).await;
        }
        ("POST", ["projects", id, "hooks", hook, "events", event, "resend"]) => {
            return hook_events::resend(gitlab, &call, id, hook, event).await;
        }
        _ => {}
    }
    gitlab.with(|state| match words.as_slice() {
        ["groups", id, "projects"] if method == "GET" => projects::of_group(state, &call, id),
        ["projects", id, rest @ ..] => in_project(state, &call, id, rest),
        words if method == "GET" => about::answer(state, &call, words),
        _ => Err(no_route()),
    })
}

fn in_project(state: &mut State, call: &Call<'_>, id: &str, rest: &[&str]) -> Reply {
    match (call.request.method.as_str(), rest) {
        ("GET", []) => projects::one(state, call, id),
        ("GET", ["repository", "tree"]) => files::tree(state, call, id),
        ("GET", ["repository", "commits"]) => files::commits(state, call, id),
        ("GET", ["repository", "files", path, "raw"]) => files::raw(state, call, id, path),
        ("GET", ["hooks"]) => hooks::list(state, call, id),
        ("POST", ["hooks"]) => hooks::create(state, call, id),
        ("GET", ["hooks", hook]) => hooks::get(state, call, id, hook),
        ("PUT", ["hooks", hook]) => hooks::edit(state, call, id, hook),
        ("DELETE", ["hooks", hook]) => hooks::delete(state, call, id, hook),
        ("PUT" | "DELETE", ["hooks", hook, kind @ ("custom_headers" | "url_variables"), key]) => {
            hooks::secret(state, call, id, hook, kind, key)
        }
        ("GET", ["hooks", hook, "events"]) => hook_events::list(state, call, id, hook),
        ("GET", ["pipelines"]) => pipeline_list::list(state, call, id),
        ("GET", ["pipelines", "latest"]) => pipelines::latest(state, call, id),
        ("POST", ["pipeline"]) => pipelines::create(state, call, id),
        ("GET", ["pipelines", pipeline]) => pipelines::get(state, call, id, pipeline),
        ("GET", ["pipelines", pipeline, "jobs"]) => pipelines::jobs(state, call, id, pipeline),
        ("POST", ["pipelines", pipeline, "retry"]) => pipelines::retry(state, call, id, pipeline),
        ("POST", ["pipelines", pipeline, "cancel"]) => pipelines::cancel(state, call, id, pipeline),
        ("POST", ["jobs", job, "play"]) => pipelines::play(state, call, id, job),
        ("GET", ["job_token_scope"]) => job_tokens::scope(state, call, id),
        ("GET", ["job_token_scope", "allowlist"]) => job_tokens::projects(state, call, id),
        ("GET", ["job_token_scope", "groups_allowlist"]) => job_tokens::groups(state, call, id),
        _ => Err(no_route()),
    }
}

/// What Grape answers where nothing is served.
fn no_route() -> Answer {
    Answer::error(404, "404 Not Found")
}

/// The token that a request has brought: in a header of GitLab's own, as a bearer, or in the query.
pub fn token_of(request: &Request) -> Option<String> {
    let own = request.header("private-token").map(str::to_owned);
    let bearer = || request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    own.or_else(bearer).or_else(|| request.query_pairs().remove("private_token"))
}

/// A token that is known and in force.
pub fn valid_token(state: &State, secret: &str) -> Result<Token, Answer> {
    let invalid = |text: &str| Answer::json(401, &json!({"error": "invalid_token", "error_description": text}));
    let token = state.tokens.get(secret).ok_or_else(|| Answer::message(401, "401 Unauthorized"))?;
    if token.revoked {
        return Err(invalid("Token was revoked. You have to re-authorize from the user."));
    }
    if token.is_expired(&clock::day(state.now())) {
        return Err(invalid("Token is expired. You can either do re-authorization or token refresh."));
    }
    Ok(token.clone())
}

fn authenticate<'a>(state: &mut State, request: &'a Request, words: &[&str]) -> Result<Call<'a>, Answer> {
    let secret = token_of(request).ok_or_else(|| Answer::message(401, "401 Unauthorized"))?;
    let token = valid_token(state, &secret)?;
    let is_read = matches!(request.method.as_str(), "GET" | "HEAD");
    let wanted: &[&str] = match words {
        ["personal_access_tokens", "self"] => &[],
        ["user" | "version" | "metadata"] => &["api", "read_api", "read_user"],
        ["projects", _, "repository", "files", ..] if is_read => &["api", "read_api", "read_repository"],
        _ if is_read => &["api", "read_api"],
        _ => &["api"],
    };
    if !wanted.is_empty() && !token.has_scope(wanted) {
        return Err(Answer::json(
            403,
            &json!({
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than provided by the access token.",
                "scope": wanted.join(" "),
            }),
        ));
    }
    Ok(Call { request, parameters: request.parameters(), token })
}

impl Call<'_> {
    /// The project that a request names, and what its token may do there. Who asks for a renamed one is sent on.
    pub fn project<'s>(&self, state: &'s State, name: &str) -> Result<(&'s Project, Access), Answer> {
        if let Some(project) = state.project_id(name).and_then(|id| state.projects.get(&id)) {
            let access = self.token.access(project).ok_or_else(|| Answer::not_found("Project"))?;
            return Ok((project, access));
        }
        let moved = state.moved.get(&name.to_lowercase()).and_then(|id| state.projects.get(id));
        let target = moved.filter(|project| self.token.access(project).is_some());
        let target = target.ok_or_else(|| Answer::not_found("Project"))?;
        if self.request.method != "GET" {
            return Err(Answer::message(405, "405 Non GET methods are not allowed for moved projects"));
        }
        // The third word of the path is the project.
        let mut words: Vec<&str> = self.request.path.split('/').collect();
        let id = target.id.to_string();
        if let Some(word) = words.get_mut(4) {
            *word = &id;
        }
        let query = if self.request.query.is_empty() { String::new() } else { format!("?{}", self.request.query) };
        let location = format!("{}{}{query}", state.settings.url, words.join("/"));
        Err(Answer::bytes(301, "text/plain", b"This resource has been moved permanently".to_vec())
            .with("Location", location))
    }

    /// The same, with at least this role.
    pub fn project_as<'s>(&self, state: &'s State, name: &str, role: u32) -> Result<&'s Project, Answer> {
        let (project, access) = self.project(state, name)?;
        if access < Access(role) { Err(Answer::forbidden()) } else { Ok(project) }
    }
}
