//! What a hook was called for: looked at, sent again, tried.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Call, hooks, no_route, paging};
use crate::gitlab::Gitlab;
use crate::http::{Answer, Reply};
use crate::state::{EVENTS, State};
use crate::webhooks::{self, Delivery, Event, Parcel};

/// How often a project's hooks may be tried, and a hook's events be sent again, in a minute.
const TRIES_PER_MINUTE: usize = 5;
/// The most events that a page has.
const PAGE_MAX: u64 = 20;

/// `GET /projects/:id/hooks/:hook_id/events`, since 17.3
pub fn list(state: &State, call: &Call<'_>, id: &str, hook: &str) -> Reply {
    if !state.settings.version.has(17, 3) {
        return Err(no_route());
    }
    let (_, hook) = hooks::find(state, call, id, hook)?;
    if call.parameters.number("per_page").is_some_and(|size| size > PAGE_MAX) {
        return Err(Answer::error(400, "per_page does not have a valid value"));
    }
    let wanted = call.parameters.text("status");
    let is_wanted = |delivery: &Delivery| {
        let Some(wanted) = &wanted else { return true };
        let status = delivery.response_status;
        wanted.split(',').any(|wanted| match wanted {
            "successful" => status.is_some_and(|status| (200..300).contains(&status)),
            "client_failure" => status.is_some_and(|status| (400..500).contains(&status)),
            "server_failure" => status.is_none_or(|status| status >= 500),
            exact => status.is_some_and(|status| status.to_string() == exact),
        })
    };
    let was_sent =
        |delivery: &&Delivery| delivery.hook == hook.id && matches!(delivery.outcome, "delivered" | "failed");
    let newest_first: Vec<&Delivery> =
        state.deliveries.iter().rev().filter(was_sent).filter(|delivery| is_wanted(delivery)).collect();
    Ok(paging::page(state, call, &newest_first, |delivery| show(&hook.url, delivery)))
}

#[expect(clippy::cast_precision_loss, reason = "a delivery takes seconds")]
fn show(url: &str, delivery: &Delivery) -> Value {
    let map = |headers: &[(String, String)]| {
        let secret = |name: &str| name.eq_ignore_ascii_case("x-gitlab-token");
        let pair = |(name, value): &(String, String)| {
            (name.clone(), json!(if secret(name) { "[REDACTED]" } else { value.as_str() }))
        };
        headers.iter().map(pair).collect::<Map<_, _>>()
    };
    let status = delivery.response_status.map_or_else(|| "internal error".to_owned(), |status| status.to_string());
    json!({
        "id": delivery.id,
        "url": url,
        "trigger": "pipeline_hooks",
        "request_headers": map(&delivery.headers),
        "request_data": serde_json::from_str::<Value>(&delivery.body).unwrap_or_default(),
        "response_headers": map(&delivery.response_headers),
        "response_body": delivery.response_body,
        "execution_duration": delivery.took_ms as f64 / 1000.0,
        "response_status": status,
    })
}

/// `POST /projects/:id/hooks/:hook_id/events/:event_id/resend`, since 17.4
pub async fn resend(gitlab: &Arc<Gitlab>, call: &Call<'_>, id: &str, hook: &str, event: &str) -> Reply {
    let parcel = gitlab.with(|state| {
        if !state.settings.version.has(17, 4) {
            return Err(no_route());
        }
        let (_, hook) = hooks::find(state, call, id, hook)?;
        let hook = hook.id;
        let missing = || Answer::message(404, "404 Not found");
        let event: u64 = event.parse().map_err(|_| missing())?;
        let delivery = state.deliveries.iter().find(|delivery| delivery.id == event && delivery.hook == hook);
        let parcel = delivery.and_then(again).ok_or_else(missing)?;
        limited(state, format!("resend {hook} {}", call.token.username))?;
        Ok(parcel)
    })?;
    match webhooks::send_now(gitlab, parcel).await {
        Some(Delivery { response_status: Some(status), .. }) => {
            Ok(Answer::json(201, &json!({"response_status": status})))
        }
        Some(delivery) => Err(Answer::message(422, &delivery.error.unwrap_or_default())),
        None => Err(Answer::message(422, "Hook disabled")),
    }
}

/// The same once more: body and key are those of the first time.
fn again(delivery: &Delivery) -> Option<Parcel> {
    let header = |name: &str| delivery.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    Some(Parcel {
        hook: delivery.hook,
        project: delivery.project,
        pipeline: delivery.pipeline,
        status: delivery.status.clone(),
        kind: header("X-Gitlab-Event")?,
        body: delivery.body.clone(),
        key: header("Idempotency-Key")?,
        uuid: header("X-Gitlab-Event-UUID")?,
        is_forced: true,
    })
}

/// `POST /projects/:id/hooks/:hook_id/test/:trigger`, since 16.11
pub async fn test(gitlab: &Arc<Gitlab>, call: &Call<'_>, id: &str, hook: &str, trigger: &str) -> Reply {
    let parcel = gitlab.with(|state| {
        if !state.settings.version.has(16, 11) {
            return Err(no_route());
        }
        let (project, hook) = hooks::find(state, call, id, hook).map(|(project, hook)| (project, hook.id))?;
        if !EVENTS.contains(&trigger) {
            return Err(Answer::error(400, "trigger does not have a valid value"));
        }
        limited(state, format!("test {project} {}", call.token.username))?;
        if trigger != "pipeline_events" {
            return Err(Answer::message(422, "Testing not available for this hook"));
        }
        let newest = state.projects.get(&project).and_then(|project| project.pipelines.last());
        let event = newest.map(|pipeline| Event { pipeline: *pipeline, uuid: None });
        let parcel = event.and_then(|event| webhooks::parcel(state, hook, &event));
        let parcel = parcel.ok_or_else(|| Answer::message(422, "Ensure the project has CI jobs."))?;
        Ok(Parcel { is_forced: true, ..parcel })
    })?;
    match webhooks::send_now(gitlab, parcel).await {
        Some(Delivery { response_status: Some(200..300), .. }) => Ok(Answer::message(201, "201 Created")),
        Some(delivery) => Err(Answer::message(422, &delivery.error.unwrap_or(delivery.response_body))),
        None => Err(Answer::message(422, "Silent mode enabled")),
    }
}

fn limited(state: &mut State, what: String) -> Result<(), Answer> {
    let text = "This endpoint has been requested too many times. Try again later.";
    let refusal = || Answer::json(429, &json!({"message": {"error": text}}));
    state.allows(what, TRIES_PER_MINUTE).then_some(()).ok_or_else(refusal)
}
