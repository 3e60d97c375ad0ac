//! What a test may look at.

use globset::GlobBuilder;
use serde_json::{Value, json};

use super::{done, refused};
use crate::http::{Answer, Reply, Request};
use crate::rest;
use crate::seen::Entry;
use crate::state::State;
use crate::webhooks::Delivery;

/// `GET requests`
pub fn requests(state: &State, request: &Request) -> Reply {
    let parameters = request.parameters();
    let path = parameters.text("path");
    let glob = |pattern: &String| GlobBuilder::new(pattern).literal_separator(false).build();
    let path = path.as_ref().map(glob).transpose().map_err(|error| refused(&error.to_string()))?;
    let path = path.map(|glob| glob.compile_matcher());
    let (method, status, after) = (parameters.text("method"), parameters.number("status"), parameters.number("after"));
    let is_wanted = |entry: &&Entry| {
        method.as_ref().is_none_or(|method| *method == entry.method)
            && path.as_ref().is_none_or(|path| path.is_match(&entry.path))
            && status.is_none_or(|status| entry.status.map(u64::from) == Some(status))
            && after.is_none_or(|after| entry.id > after)
    };
    listed(state.seen.all().iter().filter(is_wanted))
}

/// `DELETE requests`
pub fn forget_requests(state: &mut State) -> Reply {
    state.seen.forget();
    done()
}

/// `GET deliveries`
pub fn deliveries(state: &State, request: &Request) -> Reply {
    let parameters = request.parameters();
    let is = |name: &str, value: u64| parameters.number(name).is_none_or(|wanted| wanted == value);
    let is_wanted = |delivery: &&Delivery| {
        is("project", delivery.project)
            && is("hook", delivery.hook)
            && is("pipeline", delivery.pipeline)
            && parameters.text("outcome").is_none_or(|outcome| outcome == delivery.outcome)
    };
    listed(state.deliveries.iter().filter(is_wanted))
}

/// `GET webhooks`
pub fn webhooks(state: &State) -> Reply {
    let dispatch = &state.dispatch;
    Ok(Answer::json(200, &json!({"held": dispatch.held(), "under_way": dispatch.under_way()})))
}

/// `DELETE deliveries`
pub fn forget_deliveries(state: &mut State) -> Reply {
    state.deliveries.clear();
    done()
}

/// `GET faults`
pub fn faults(state: &State) -> Reply {
    listed(state.faults.iter().map(|fault| &fault.plan))
}

/// `GET projects/:id/hooks`
pub fn hooks(state: &State, id: u64) -> Reply {
    let hooks = state.projects.get(&id).map(|project| project.hooks.values().collect::<Vec<_>>()).unwrap_or_default();
    let shown = hooks.into_iter().map(|hook| {
        let mut shown = rest::hook(state, id, hook);
        shown["token"] = json!(hook.token);
        shown["signing_token"] = json!(hook.signing_token);
        shown["failures"] = json!(hook.failures);
        shown
    });
    Ok(Answer::json(200, &Value::Array(shown.collect())))
}

fn listed<T: serde::Serialize>(all: impl Iterator<Item = T>) -> Reply {
    let all: Vec<T> = all.collect();
    serde_json::to_value(all).map(|all| Answer::json(200, &all)).map_err(|error| refused(&error.to_string()))
}
