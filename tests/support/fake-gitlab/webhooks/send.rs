//! One webhook over HTTP, and the record of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Parcel, obstacle, signature, uuid};
use crate::clock::host_now;
use crate::gitlab::Gitlab;
use crate::state::{Hook, State};

/// Longest answer of a receiver that is kept, in bytes.
const ANSWER_MAX: usize = 8 * 1024;

/// A webhook that was sent, or was not.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// Its number.
    pub id: u64,
    /// The hook.
    pub hook: u64,
    /// Its project.
    pub project: u64,
    /// What it told of.
    pub pipeline: u64,
    /// The status that it told.
    pub status: String,
    /// `delivered`, `failed`, or why it was not sent: `dropped`, `disabled`, `recursion`, `silent`, `deleted`.
    pub outcome: &'static str,
    /// When, by the host's clock, in milliseconds since 1970.
    pub at: i64,
    /// How long it took.
    pub took_ms: u64,
    /// Where it went.
    pub url: String,
    /// What was sent along.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
    /// The status of the receiver's answer.
    pub response_status: Option<u16>,
    /// The headers of the receiver's answer.
    pub response_headers: Vec<(String, String)>,
    /// The body of the receiver's answer.
    pub response_body: String,
    /// Why there was none.
    pub error: Option<String>,
}

/// Sends what waits for a hook, one after the other.
pub async fn drain(gitlab: Arc<Gitlab>, hook: u64) {
    while let Some(parcel) = gitlab.with(|state| state.dispatch.next(hook)) {
        send_now(&gitlab, parcel).await;
    }
}

/// Sends a webhook, and has the hook bear the consequences.
pub async fn send_now(gitlab: &Arc<Gitlab>, parcel: Parcel) -> Option<Delivery> {
    let sending = gitlab.with(|state| match obstacle(state, &parcel) {
        Some(reason) => {
            not_sent(state, &parcel, reason);
            None
        }
        None => {
            state.chains.entry(parcel.uuid.clone()).or_default().push(parcel.hook);
            Some((blank(state, &parcel), Duration::from_millis(state.settings.webhook_timeout_ms)))
        }
    });
    let (mut delivery, timeout) = sending?;
    let start = Instant::now();
    // GitLab bounds connecting and reading by the same time.
    let mut request = gitlab.http.post(&delivery.url).timeout(timeout).body(delivery.body.clone());
    for (name, value) in &delivery.headers {
        request = request.header(name, value);
    }
    match request.send().await {
        Ok(answer) => {
            let status = answer.status();
            let text = |value: &reqwest::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            delivery.response_status = Some(status.as_u16());
            delivery.response_headers =
                answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            match answer.bytes().await {
                Ok(body) => {
                    let body = &body[..body.len().min(ANSWER_MAX)];
                    delivery.response_body = String::from_utf8_lossy(body).into_owned();
                    // A redirection is not followed, and is no failure.
                    let is_ok = status.is_success() || status.is_redirection();
                    delivery.outcome = if is_ok { "delivered" } else { "failed" };
                }
                Err(error) => delivery.fail(&error),
            }
        }
        Err(error) => delivery.fail(&error),
    }
    delivery.took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    gitlab.with(|state| keep(state, &delivery));
    Some(delivery)
}

impl Delivery {
    fn fail(&mut self, error: &reqwest::Error) {
        self.outcome = "failed";
        self.response_status = None;
        let timed_out = "Net::ReadTimeout with #<TCPSocket:(closed)>";
        self.error = Some(if error.is_timeout() { timed_out.to_owned() } else { error.to_string() });
    }
}

/// Records a webhook that is not sent, and why.
pub fn not_sent(state: &mut State, parcel: &Parcel, reason: &'static str) {
    let mut delivery = blank(state, parcel);
    delivery.outcome = reason;
    state.deliveries.push(delivery);
}

fn keep(state: &mut State, delivery: &Delivery) {
    let now = state.now();
    let hooks = state.projects.get_mut(&delivery.project).map(|project| &mut project.hooks);
    if let Some(hook) = hooks.and_then(|hooks| hooks.get_mut(&delivery.hook)) {
        match delivery.outcome {
            "delivered" => hook.succeeded(),
            _ if state.settings.auto_disabling => hook.failed(now),
            _ => {}
        }
    }
    state.deliveries.push(delivery.clone());
}

/// A delivery as it is before it is sent.
fn blank(state: &mut State, parcel: &Parcel) -> Delivery {
    let id = state.number("delivery");
    let hook = state.projects.get(&parcel.project).and_then(|project| project.hooks.get(&parcel.hook));
    let (url, headers) = hook.map_or_else(Default::default, |hook| (hook.target(), headers(state, hook, parcel)));
    Delivery {
        id,
        hook: parcel.hook,
        project: parcel.project,
        pipeline: parcel.pipeline,
        status: parcel.status.clone(),
        outcome: "failed",
        at: host_now(),
        took_ms: 0,
        url,
        headers,
        body: parcel.body.clone(),
        response_status: None,
        response_headers: Vec::new(),
        response_body: String::new(),
        error: None,
    }
}

fn headers(state: &State, hook: &Hook, parcel: &Parcel) -> Vec<(String, String)> {
    let version = &state.settings.version;
    // The administrator's own come first, so that GitLab's replace them.
    let mut headers: Vec<(String, String)> =
        hook.custom_headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut set = |name: &str, value: &str| {
        headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        headers.push((name.to_owned(), value.to_owned()));
    };
    set("Content-Type", "application/json");
    set("User-Agent", &format!("GitLab/{}", version.text()));
    if version.has(17, 4) {
        set("Idempotency-Key", &parcel.key);
    }
    set("X-Gitlab-Event", &parcel.kind);
    if version.has(16, 2) {
        set("X-Gitlab-Webhook-UUID", &uuid());
    }
    set("X-Gitlab-Instance", state.settings.base_url());
    set("X-Gitlab-Event-UUID", &parcel.uuid);
    if let Some(token) = &hook.token {
        set("X-Gitlab-Token", token);
    }
    if let Some(token) = hook.signing_token.as_ref().filter(|_| version.has(19, 0)) {
        let timestamp = state.now() / 1000;
        if let Some(signature) = signature::sign(token, &parcel.key, timestamp, &parcel.body) {
            set("webhook-id", &parcel.key);
            set("webhook-timestamp", &timestamp.to_string());
            set("webhook-signature", &signature);
        }
    }
    headers
}
