//! Webhooks as GitLab sends them: what happened, to which hooks it goes, and how that goes wrong.

mod dispatch;
mod payload;
mod send;
mod signature;

use std::time::Duration;

use crate::state::{Due, Link, State};

pub use dispatch::{Dispatch, Late, Order, Twice, enqueue, release};
pub use send::{Delivery, drain, send_now};
pub use signature::is_token as is_signing_token;

/// The most hooks that one chain of events may fire.
const CHAIN_MAX: usize = 100;

/// What says that a webhook tells of a pipeline.
pub const PIPELINE_HOOK: &str = "Pipeline Hook";

/// A pipeline has changed.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which.
    pub pipeline: u64,
    /// The chain of events that this belongs to, where a webhook's receiver has caused it.
    pub uuid: Option<String>,
}

/// A webhook on its way.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The hook.
    pub hook: u64,
    /// Its project.
    pub project: u64,
    /// What it tells of.
    pub pipeline: u64,
    /// The status that it tells.
    pub status: String,
    /// Its `X-Gitlab-Event`.
    pub kind: String,
    /// The body.
    pub body: String,
    /// The same for all attempts to deliver this.
    pub key: String,
    /// The chain of events.
    pub uuid: String,
    /// Whether the hook is called even though it is disabled, as tests of hooks are.
    pub is_forced: bool,
}

/// Tells a project's hooks of a pipeline, now or when GitLab's background workers get to it.
pub fn happened(state: &mut State, event: Event) {
    match state.dispatch.worker_delay_ms {
        0 => announce(state, &event),
        delay => {
            state.dispatch.delayed += 1;
            state.due.push(Due::Event(event, Duration::from_millis(delay)));
        }
    }
}

/// Tells a project's hooks of a pipeline as it is now.
pub fn announce(state: &mut State, event: &Event) {
    let Some(pipeline) = state.pipelines.get(&event.pipeline) else { return };
    let Some(project) = state.projects.get(&pipeline.project) else { return };
    let hooks: Vec<_> = project
        .hooks
        .values()
        .filter(|hook| hook.events.get("pipeline_events") == Some(&true))
        .map(|hook| hook.id)
        .collect();
    for hook in hooks {
        if let Some(parcel) = parcel(state, hook, event) {
            dispatch::post(state, parcel, event.uuid.is_some());
        }
    }
}

/// What a hook is told of a pipeline.
pub fn parcel(state: &State, hook: u64, event: &Event) -> Option<Parcel> {
    let pipeline = state.pipelines.get(&event.pipeline)?;
    Some(Parcel {
        hook,
        project: pipeline.project,
        pipeline: pipeline.id,
        status: pipeline.status.clone(),
        kind: PIPELINE_HOOK.to_owned(),
        body: payload::of(state, pipeline)?.to_string(),
        key: uuid(),
        uuid: event.uuid.clone().unwrap_or_else(uuid),
        is_forced: false,
    })
}

/// Why GitLab would not call a hook; none where it would.
fn obstacle(state: &State, parcel: &Parcel) -> Option<&'static str> {
    let hook = state.projects.get(&parcel.project).and_then(|project| project.hooks.get(&parcel.hook));
    let Some(hook) = hook else { return Some("deleted") };
    if state.settings.silent {
        return Some("silent");
    }
    let is_disabled = state.settings.auto_disabling && hook.link(state.now()) != Link::Executable;
    (is_disabled && !parcel.is_forced).then_some("disabled")
}

/// Whether a hook was fired in this chain of events already, or the chain is too long.
fn is_recursion(state: &State, parcel: &Parcel) -> bool {
    let fired = state.chains.get(&parcel.uuid);
    fired.is_some_and(|hooks| hooks.contains(&parcel.hook) || hooks.len() >= CHAIN_MAX)
}

/// A random UUID.
pub fn uuid() -> String {
    let number = fastrand::u128(..);
    let hex = format!("{number:032x}");
    let variant = ["8", "9", "a", "b"][usize::from(hex.as_bytes()[16] & 3)];
    format!("{}-{}-4{}-{variant}{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}
