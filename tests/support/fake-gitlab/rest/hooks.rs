//! A project's webhooks: listed, made, changed, removed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{Call, paging};
use crate::clock::rest;
use crate::http::{Answer, Parameters, Reply};
use crate::state::{EVENTS, Hook, Link, MAINTAINER, State};
use crate::webhooks;

/// `GET /projects/:id/hooks`
pub fn list(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = call.project_as(state, id, MAINTAINER)?;
    let all: Vec<&Hook> = project.hooks.values().collect();
    Ok(paging::page(state, call, &all, |hook| show(state, project.id, hook)))
}

/// `GET /projects/:id/hooks/:hook_id`
pub fn get(state: &State, call: &Call<'_>, id: &str, hook: &str) -> Reply {
    let (project, hook) = find(state, call, id, hook)?;
    Ok(Answer::json(200, &show(state, project, hook)))
}

/// `POST /projects/:id/hooks`
pub fn create(state: &mut State, call: &Call<'_>, id: &str) -> Reply {
    let project = call.project_as(state, id, MAINTAINER)?.id;
    if call.parameters.text("url").is_none() {
        return Err(Answer::error(400, "url is missing"));
    }
    let mut hook = Hook {
        id: 0,
        url: String::new(),
        name: None,
        description: None,
        token: None,
        signing_token: None,
        // GitLab's own default, which whoever wants pipelines alone has to undo.
        events: EVENTS.into_iter().map(|event| (event, event == "push_events")).collect(),
        branch_filter: String::new(),
        branch_filter_strategy: "wildcard".into(),
        verifies_tls: true,
        template: None,
        custom_headers: BTreeMap::new(),
        url_variables: BTreeMap::new(),
        created_at: state.now(),
        failures: 0,
        disabled_until: None,
    };
    apply(state, &mut hook, &call.parameters)?;
    hook.id = state.number("hook");
    let shown = show(state, project, &hook);
    if let Some(project) = state.projects.get_mut(&project) {
        project.hooks.insert(hook.id, hook);
    }
    Ok(Answer::json(201, &shown))
}

/// `PUT /projects/:id/hooks/:hook_id`
pub fn edit(state: &mut State, call: &Call<'_>, id: &str, hook: &str) -> Reply {
    let (project, hook) = find(state, call, id, hook)?;
    if call.parameters.is_empty() {
        return Err(Answer::error(400, "No parameters provided"));
    }
    let mut hook = hook.clone();
    apply(state, &mut hook, &call.parameters)?;
    let shown = show(state, project, &hook);
    if let Some(project) = state.projects.get_mut(&project) {
        project.hooks.insert(hook.id, hook);
    }
    Ok(Answer::json(200, &shown))
}

/// `DELETE /projects/:id/hooks/:hook_id`
pub fn delete(state: &mut State, call: &Call<'_>, id: &str, hook: &str) -> Reply {
    let (project, hook) = find(state, call, id, hook).map(|(project, hook)| (project, hook.id))?;
    if let Some(project) = state.projects.get_mut(&project) {
        project.hooks.remove(&hook);
    }
    Ok(Answer::empty(204))
}

/// `PUT` and `DELETE /projects/:id/hooks/:hook_id/custom_headers/:key`, and the same of `url_variables`
pub fn secret(state: &mut State, call: &Call<'_>, id: &str, hook: &str, kind: &str, key: &str) -> Reply {
    let (project, hook) = find(state, call, id, hook).map(|(project, hook)| (project, hook.id))?;
    let value = call.parameters.text("value");
    if call.request.method == "PUT" && value.is_none() {
        return Err(Answer::error(400, "value is missing"));
    }
    let hooks = state.projects.get_mut(&project).map(|project| &mut project.hooks);
    let hook = hooks.and_then(|hooks| hooks.get_mut(&hook)).ok_or_else(|| Answer::message(404, "404 Not found"))?;
    let all = if kind == "custom_headers" { &mut hook.custom_headers } else { &mut hook.url_variables };
    match value {
        Some(value) if call.request.method == "PUT" => drop(all.insert(key.to_owned(), value)),
        _ => all.remove(key).map(drop).ok_or_else(|| Answer::message(404, "404 Not found"))?,
    }
    Ok(Answer::empty(204))
}

/// A hook, and the id of its project, for who may change it.
pub fn find<'s>(state: &'s State, call: &Call<'_>, id: &str, hook: &str) -> Result<(u64, &'s Hook), Answer> {
    let project = call.project_as(state, id, MAINTAINER)?;
    let found = hook.parse().ok().and_then(|hook: u64| project.hooks.get(&hook));
    Ok((project.id, found.ok_or_else(|| Answer::message(404, "404 Not found"))?))
}

/// Changes a hook as a request asks for.
fn apply(state: &State, hook: &mut Hook, parameters: &Parameters) -> Result<(), Answer> {
    let version = &state.settings.version;
    if let Some(url) = parameters.text("url") {
        if url != hook.url {
            // Whoever can set another address must not learn the secret by that.
            hook.token = None;
            hook.signing_token = None;
            hook.url_variables.clear();
        }
        hook.url = url;
    }
    hook.url_variables.extend(pairs(parameters.get("url_variables")));
    hook.custom_headers.extend(pairs(parameters.get("custom_headers")));
    if !is_valid(&hook.target(), state.settings.local_hooks) {
        return Err(Answer::error(422, "Invalid url given"));
    }
    if parameters.has("token") {
        hook.token = parameters.text("token");
    }
    if version.has(19, 0) && parameters.has("signing_token") {
        let token = parameters.text("signing_token");
        if token.as_deref().is_some_and(|token| !webhooks::is_signing_token(token)) {
            return Err(Answer::json(422, &json!({"message": {"signing_token": ["is invalid"]}})));
        }
        hook.signing_token = token;
    }
    if version.has(17, 1) {
        if parameters.has("name") {
            hook.name = parameters.text("name");
        }
        if parameters.has("description") {
            hook.description = parameters.text("description");
        }
    }
    for (event, wanted) in &mut hook.events {
        *wanted = parameters.truth(event).unwrap_or(*wanted);
    }
    hook.verifies_tls = parameters.truth("enable_ssl_verification").unwrap_or(hook.verifies_tls);
    if parameters.has("push_events_branch_filter") {
        hook.branch_filter = parameters.text("push_events_branch_filter").unwrap_or_default();
    }
    if let Some(strategy) = parameters.text("branch_filter_strategy") {
        hook.branch_filter_strategy = strategy;
    }
    if parameters.has("custom_webhook_template") {
        hook.template = parameters.text("custom_webhook_template");
    }
    Ok(())
}

/// `[{"key": ..., "value": ...}]`
fn pairs(list: Option<&Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let pair = |entry: &Value| Some((text(&entry["key"])?, text(&entry["value"])?));
    list.and_then(Value::as_array).map(|list| list.iter().filter_map(pair).collect()).unwrap_or_default()
}

/// Whether GitLab would call this address.
fn is_valid(url: &str, local: bool) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_private = match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_loopback() || address.is_unique_local(),
        Err(_) => host == "localhost",
    };
    matches!(url.scheme(), "http" | "https") && !host.is_empty() && (local || !is_private)
}

/// A hook as the API shows it, without its secrets.
pub fn show(state: &State, project: u64, hook: &Hook) -> Value {
    let link = if state.settings.auto_disabling { hook.link(state.now()) } else { Link::Executable };
    let keys = |all: &BTreeMap<String, String>| all.keys().map(|key| json!({"key": key})).collect::<Vec<_>>();
    let mut shown = json!({
        "id": hook.id,
        "url": hook.url,
        "project_id": project,
        "push_events_branch_filter": hook.branch_filter,
        "enable_ssl_verification": hook.verifies_tls,
        "alert_status": link.word(),
        "disabled_until": hook.disabled_until.filter(|_| link == Link::Paused).map(rest),
        "url_variables": keys(&hook.url_variables),
        "created_at": rest(hook.created_at),
        "custom_webhook_template": hook.template,
        "custom_headers": keys(&hook.custom_headers),
        "branch_filter_strategy": hook.branch_filter_strategy,
    });
    for (event, wanted) in &hook.events {
        shown[*event] = json!(wanted);
    }
    let version = &state.settings.version;
    if version.has(17, 1) {
        shown["name"] = json!(hook.name);
        shown["description"] = json!(hook.description);
    }
    if version.has(19, 0) {
        shown["token_present"] = json!(hook.token.is_some());
        shown["signing_token_present"] = json!(hook.signing_token.is_some());
    }
    shown
}
