//! What a test changes of the whole instance.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{done, refused};
use crate::budget::Allowance;
use crate::faults::{Fault, Plan};
use crate::http::{Answer, Reply};
use crate::share::Share;
use crate::state::{GraphqlSettings, State, Token, Version};
use crate::webhooks::{self, Late, Order, Parcel, Twice};

/// A change of the instance: what [`Settings`](crate::state::Settings) has. What is absent stays as it is, but `graphql` is
/// replaced as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsChange {
    version: Option<String>,
    url: Option<String>,
    registry: Option<String>,
    #[serde(deserialize_with = "given")]
    auto_ms: Option<Option<u64>>,
    local_hooks: Option<bool>,
    auto_disabling: Option<bool>,
    silent: Option<bool>,
    webhook_timeout_ms: Option<u64>,
    #[serde(deserialize_with = "given")]
    pipelines_per_minute: Option<Option<usize>>,
    graphql: Option<GraphqlSettings>,
    /// How far its clock is ahead of the host's; negative: behind.
    clock_ahead_ms: Option<i64>,
}

/// A change of how webhooks go wrong: what [`Dispatch`](crate::webhooks::Dispatch) has. What is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhooksChange {
    #[serde(deserialize_with = "given")]
    drop: Option<Share>,
    late: Option<Late>,
    twice: Option<Twice>,
    worker_delay_ms: Option<u64>,
    iso_dates: Option<bool>,
    hold: Option<bool>,
    backwards: Option<usize>,
    seed: Option<u64>,
}

/// In which order what was kept is sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Release {
    order: Order,
}

/// A webhook with any body, with token and signature as all of that hook have them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    hook: u64,
    /// Its `X-Gitlab-Event`.
    kind: String,
    /// JSON; a text is sent as it is, even if that is none.
    body: Value,
}

/// Tells a null from what is absent.
pub fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Puts a value where there is one.
pub fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// `POST settings`
pub fn settings(state: &mut State, change: SettingsChange) -> Reply {
    let settings = &mut state.settings;
    if let Some(version) = change.version {
        settings.version = Version::read(&version).ok_or_else(|| refused(&format!("{version:?} is no version")))?;
    }
    put(&mut settings.url, change.url);
    put(&mut settings.registry, change.registry);
    put(&mut settings.auto_ms, change.auto_ms);
    put(&mut settings.local_hooks, change.local_hooks);
    put(&mut settings.auto_disabling, change.auto_disabling);
    put(&mut settings.silent, change.silent);
    put(&mut settings.webhook_timeout_ms, change.webhook_timeout_ms);
    put(&mut settings.pipelines_per_minute, change.pipelines_per_minute);
    put(&mut settings.graphql, change.graphql);
    put(&mut state.clock.ahead, change.clock_ahead_ms);
    done()
}

/// `POST tokens`
pub fn add_token(state: &mut State, token: Token) -> Reply {
    state.tokens.insert(token.token.clone(), token);
    done()
}

/// `DELETE tokens/:token`
pub fn remove_token(state: &mut State, token: &str) -> Reply {
    state.tokens.remove(token);
    done()
}

/// `POST budget`
pub fn budget(state: &mut State, allowance: Option<Allowance>) -> Reply {
    state.budget.set(allowance);
    done()
}

/// `POST webhooks`
pub fn webhooks(state: &mut State, change: WebhooksChange) -> Reply {
    let dispatch = &mut state.dispatch;
    put(&mut dispatch.drop, change.drop);
    put(&mut dispatch.late, change.late);
    put(&mut dispatch.twice, change.twice);
    put(&mut dispatch.worker_delay_ms, change.worker_delay_ms);
    put(&mut dispatch.iso_dates, change.iso_dates);
    put(&mut dispatch.hold, change.hold);
    put(&mut dispatch.backwards, change.backwards);
    if let Some(seed) = change.seed {
        dispatch.chance.seed(seed);
    }
    done()
}

/// `POST webhooks/send`
pub fn send(state: &mut State, send: Send) -> Reply {
    let project = state.projects.values().find(|project| project.hooks.contains_key(&send.hook));
    let project = project.map(|project| project.id).ok_or_else(|| refused("there is no such hook"))?;
    let body = match send.body {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let parcel = Parcel {
        hook: send.hook,
        project,
        pipeline: 0,
        status: String::new(),
        kind: send.kind,
        body,
        key: webhooks::uuid(),
        uuid: webhooks::uuid(),
        is_forced: false,
    };
    webhooks::enqueue(state, parcel);
    done()
}

/// `POST webhooks/release`
pub fn release(state: &mut State, release: Release) -> Reply {
    let count = webhooks::release(state, release.order);
    Ok(Answer::json(200, &json!({"released": count})))
}

/// `POST faults`
pub fn add_fault(state: &mut State, plan: Plan) -> Reply {
    state.faults.push(Fault::new(plan).map_err(|error| refused(&error))?);
    done()
}

/// `DELETE faults`
pub fn end_faults(state: &mut State) -> Reply {
    state.faults.clear();
    done()
}
