//! The GraphQL API: as much of GitLab's schema as a chain asks for, and its limits.

mod connection;
mod limits;
mod pipeline;
mod project;
mod query;
mod repository;
mod scalars;

use std::sync::Arc;

use async_graphql::{Context, EmptyMutation, EmptySubscription, ServerError, Variables};
use serde_json::{Value, json};

use crate::gitlab::Gitlab;
use crate::http::{Answer, Request};
use crate::rest;
use crate::state::{Access, Project, State, Token};
use limits::Limits;
use query::Query;

/// The schema, once built.
pub type Schema = async_graphql::Schema<Query, EmptyMutation, EmptySubscription>;

/// The most that a query without a token may cost.
const ANONYMOUS_COMPLEXITY: usize = 200;

/// Builds the schema.
pub fn schema() -> Schema {
    Schema::build(Query, EmptyMutation, EmptySubscription).extension(Limits).finish()
}

/// Who asks, and whom.
#[derive(Clone)]
pub struct Asker {
    gitlab: Arc<Gitlab>,
    token: Option<Token>,
}

impl Asker {
    /// Looks at the state.
    pub fn see<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.gitlab.with(|state| look(state))
    }

    /// What may be done in a project; none: it can't even be seen.
    pub fn access(&self, project: &Project) -> Option<Access> {
        match &self.token {
            Some(token) => token.access(project),
            None => (project.visibility == "public").then_some(Access(0)),
        }
    }

    /// The name of who asks.
    pub fn username(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.username.as_str())
    }
}

/// Who asks a query.
pub fn asker<'c>(context: &Context<'c>) -> async_graphql::Result<&'c Asker> {
    context.data::<Asker>()
}

/// Answers a request to `/api/graphql`.
pub async fn answer(gitlab: &Arc<Gitlab>, request: &Request) -> Answer {
    let (settings, token) = gitlab.with(|state| {
        let secret = rest::token_of(request);
        let token = secret.map(|secret| rest::valid_token(state, &secret)).transpose();
        (state.settings.graphql.clone(), token)
    });
    if !settings.enabled || request.method != "POST" {
        return Answer::error(404, "404 Not Found");
    }
    let has_scope = |token: &Option<Token>| token.as_ref().is_none_or(|token| token.has_scope(&["api", "read_api"]));
    let Some(token) = token.ok().filter(has_scope) else { return refusal(401, "Invalid token") };
    if let Some(text) = &settings.refusal {
        return refusal(200, text);
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(query) = body["query"].as_str().filter(|query| !query.is_empty()) else {
        return refusal(200, "No query string was present");
    };
    let most = settings.max_complexity;
    let limit = if token.is_some() { most } else { most.min(ANONYMOUS_COMPLEXITY) };
    let mut asked = async_graphql::Request::new(query)
        .variables(Variables::from_json(body["variables"].clone()))
        .data(limits::Bounds::new(limit, settings.max_depth))
        .data(Asker { gitlab: gitlab.clone(), token });
    if let Some(name) = body["operationName"].as_str() {
        asked = asked.operation_name(name);
    }
    let response = gitlab.schema.execute(asked).await;
    let mut shown = json!({});
    // What was refused as a whole has no data, not even a null.
    if let Some(data) = response.data.into_json().ok().filter(|data| !data.is_null()) {
        shown["data"] = data;
    }
    if !response.errors.is_empty() {
        shown["errors"] = response.errors.iter().map(error).collect();
    }
    Answer::json(200, &shown)
}

fn refusal(status: u16, text: &str) -> Answer {
    Answer::json(status, &json!({"errors": [{"message": text}]}))
}

fn error(error: &ServerError) -> Value {
    let mut shown = json!({"message": in_gitlabs_words(&error.message)});
    if !error.locations.is_empty() {
        let place = |place: &async_graphql::Pos| json!({"line": place.line, "column": place.column});
        shown["locations"] = error.locations.iter().map(place).collect();
    }
    if !error.path.is_empty() {
        shown["path"] = serde_json::to_value(&error.path).unwrap_or_default();
    }
    shown
}

/// What a client may look for in an error: a field that an older GitLab does not have.
fn in_gitlabs_words(message: &str) -> String {
    let mut quoted = message.split('"').skip(1).step_by(2);
    match (message.strip_prefix("Unknown field "), quoted.next(), quoted.next()) {
        (Some(_), Some(field), Some(kind)) => format!("Field '{field}' doesn't exist on type '{kind}'"),
        _ => message.to_owned(),
    }
}
