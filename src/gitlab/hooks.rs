//! Webhooks of projects.

use serde::Deserialize;
use serde_json::{Value, json};

use super::request::Call;
use super::{Client, GitlabError};
use crate::sys::secrets::Secret;

/// What webhooks need (doc/api/project_webhooks.md).
const NEEDS: &str = "the role Maintainer in this project";
/// Most webhooks of a project that are looked at.
const HOOKS_MAX: usize = 1000;

/// A webhook, as GitLab has it. The events that are not named here are in `rest`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HookRow {
    /// Its id.
    pub id: i64,
    /// Where it goes.
    pub url: String,
    /// Its name, from GitLab 17.1 on.
    pub name: Option<String>,
    /// Whether it has pipeline events.
    pub pipeline_events: bool,
    /// Whether it has push events, which it has unless that is refused at its creation.
    pub push_events: bool,
    /// Whether certificates are checked.
    pub enable_ssl_verification: bool,
    /// `executable`, `temporarily_disabled` or `disabled`; older ones don't say.
    pub alert_status: Option<String>,
    /// Until when it is switched off.
    pub disabled_until: Option<String>,
    /// Whether it has a token; older ones don't say.
    pub token_present: Option<bool>,
    /// Whether it has a key for signatures; before GitLab 19.0 there is no such thing.
    pub signing_token_present: Option<bool>,
}

/// A webhook as it should be.
#[derive(Debug, Clone, Copy)]
pub struct WishedHook<'a> {
    /// Where it goes.
    pub url: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Whether certificates are checked.
    pub verify_tls: bool,
    /// What it sends as `X-Gitlab-Token`.
    pub token: &'a Secret,
    /// What it signs with, `whsec_…`. Before 19.0 GitLab ignores it without a word.
    pub signing_token: Option<&'a Secret>,
}

impl WishedHook<'_> {
    fn body(&self) -> Value {
        let mut body = json!({
            "url": self.url,
            "name": self.name,
            "description": "Tells Windlass what pipelines do. It is set up again when it is changed.",
            "token": self.token.expose(),
            "pipeline_events": true,
            "push_events": false,
            "enable_ssl_verification": self.verify_tls,
        });
        if let (Some(token), Some(map)) = (self.signing_token, body.as_object_mut()) {
            map.insert("signing_token".to_owned(), token.expose().into());
        }
        body
    }
}

impl Client {
    /// The webhooks of a project.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn hooks(&self, project: i64) -> Result<Vec<HookRow>, GitlabError> {
        let path = format!("projects/{project}/hooks");
        let hooks = self.all(&path, &[], HOOKS_MAX).await;
        hooks.map_err(|error| error.needing(NEEDS))
    }

    /// Makes a webhook.
    ///
    /// # Errors
    /// [`GitlabError`]; 422 for an address that GitLab does not call, such as one in the local network.
    pub async fn create_hook(&self, project: i64, hook: &WishedHook<'_>) -> Result<HookRow, GitlabError> {
        // A second one of the same is found, and removed, by the next look.
        let call = Call::post(format!("projects/{project}/hooks")).with_body(hook.body());
        self.json(call.needing(NEEDS)).await
    }

    /// Makes a webhook what it should be. The token goes along each time: GitLab drops it when the URL changes.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn update_hook(&self, project: i64, id: i64, hook: &WishedHook<'_>) -> Result<HookRow, GitlabError> {
        self.json(Call::put(format!("projects/{project}/hooks/{id}")).with_body(hook.body()).needing(NEEDS)).await
    }

    /// Removes a webhook.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn delete_hook(&self, project: i64, id: i64) -> Result<(), GitlabError> {
        self.send(Call::delete(format!("projects/{project}/hooks/{id}")).needing(NEEDS)).await.map(drop)
    }

    /// Makes GitLab send a sample event: one that gets through switches the webhook on again.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn test_hook(&self, project: i64, id: i64) -> Result<(), GitlabError> {
        let call = Call::post(format!("projects/{project}/hooks/{id}/test/pipeline_events"));
        self.send(call.needing(NEEDS)).await.map(drop)
    }
}
