//! What GitLab says of itself, and of who asks.

use serde_json::json;

use super::{Call, no_route};
use crate::clock::{day, rest};
use crate::http::{Answer, Reply};
use crate::state::State;

/// When all tokens were made.
const MADE: i64 = 1_767_225_600_000;

/// Answers what belongs to no project and no group.
pub fn answer(state: &State, call: &Call<'_>, words: &[&str]) -> Reply {
    let version = &state.settings.version;
    let token = &call.token;
    match words {
        ["version"] => Ok(Answer::json(200, &json!({"version": version.text(), "revision": "c0ffee0"}))),
        ["metadata"] if version.has(15, 2) => Ok(Answer::json(
            200,
            &json!({
                "version": version.text(),
                "revision": "c0ffee0",
                "kas": {"enabled": false, "externalUrl": null, "externalK8sProxyUrl": null, "version": null},
                "enterprise": false,
            }),
        )),
        ["user"] => Ok(Answer::json(
            200,
            &json!({
                "id": 7, "username": token.username, "name": token.username, "state": "active", "locked": false,
                "avatar_url": null, "web_url": format!("{}/{}", state.settings.url, token.username),
                "created_at": rest(MADE), "bot": true, "public_email": "", "is_admin": false,
            }),
        )),
        ["personal_access_tokens", "self"] => Ok(Answer::json(
            200,
            &json!({
                "id": 4, "name": "chain", "revoked": token.revoked, "created_at": rest(MADE), "description": null,
                "scopes": token.scopes, "user_id": 7, "last_used_at": rest(state.now()),
                "active": !token.revoked && !token.is_expired(&day(state.now())), "expires_at": token.expires_at,
            }),
        )),
        _ => Err(no_route()),
    }
}
