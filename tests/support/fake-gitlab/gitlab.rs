//! The state with its lock, and what goes on beside requests.

use std::sync::{Arc, Mutex, PoisonError};

use crate::graphql::Schema;
use crate::state::{Due, State, Token, Version};
use crate::{graphql, life, webhooks};

/// The role that may do everything.
const OWNER: u32 = 50;

/// The whole of it.
pub struct Gitlab {
    /// The path before all others; empty, or with a slash at its beginning alone.
    pub root: String,
    /// Sends webhooks.
    pub http: reqwest::Client,
    /// The GraphQL API.
    pub schema: Schema,
    state: Mutex<State>,
}

impl Gitlab {
    /// One that listens at `url`, with a token that may do everything.
    pub fn new(url: &str, root: &str, version: &str, token: &str) -> Result<Arc<Self>, String> {
        let version = Version::read(version).ok_or_else(|| format!("{version:?} is no version such as 19.4.0"))?;
        let mut state = State::new(url, version);
        let all = Token { token: token.to_owned(), role: OWNER, ..Token::default() };
        state.tokens.insert(token.to_owned(), all);
        let http = reqwest::Client::builder()
            // GitLab follows none, and counts one as a success.
            .redirect(reqwest::redirect::Policy::none())
            .http1_title_case_headers()
            // GitLab makes a connection for every delivery.
            .pool_max_idle_per_host(0)
            .no_proxy()
            .build()
            .map_err(|error| format!("make an HTTP client: {error}"))?;
        let gitlab = Self { root: root.to_owned(), http, schema: graphql::schema(), state: Mutex::new(state) };
        Ok(Arc::new(gitlab))
    }

    /// Works on the state, and sets going what comes of that.
    pub fn with<T>(self: &Arc<Self>, work: impl FnOnce(&mut State) -> T) -> T {
        let (result, due) = {
            // What panicked under the lock was one request; the others go on.
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let result = work(&mut state);
            (result, std::mem::take(&mut state.due))
        };
        for due in due {
            tokio::spawn(pursue(self.clone(), due));
        }
        result
    }
}

/// Does what is left to do.
async fn pursue(gitlab: Arc<Gitlab>, due: Due) {
    match due {
        Due::Step(step) => life::go(gitlab, step).await,
        Due::Event(event, delay) => {
            tokio::time::sleep(delay).await;
            gitlab.with(|state| {
                state.dispatch.delayed -= 1;
                webhooks::announce(state, &event);
            });
        }
        Due::Later(parcel, delay) => {
            tokio::time::sleep(delay).await;
            gitlab.with(|state| {
                state.dispatch.delayed -= 1;
                webhooks::enqueue(state, parcel);
            });
        }
        Due::Drain(hook) => webhooks::drain(gitlab, hook).await,
    }
}
