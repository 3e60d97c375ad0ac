//! The projects' webhooks: set up, and looked after.
//!
//! To list a project's webhooks is a request for each project. So they are looked at when a project is new, when the secrets or the URL
//! are others, when something was wrong, when a pipeline was found of which no event came, and else by turns.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;

use super::Controller;
use super::scan::some_at_once;
use crate::chain::facts::{ProjectId, Time};
use crate::chain::hooks::{Action, NAME, Wish, plan};
use crate::gitlab::{GitlabError, HookRow, WishedHook};

/// How old a look at a project's webhook may get, in milliseconds.
const AGE_MAX: Time = 24 * 3600 * 1000;
/// By how much GitLab's clock and this host's may differ unnoticed, in milliseconds: some of GitLab's times have whole seconds.
const CLOCK: Time = 2000;
/// Webhooks that are looked at by turns in one look at everything.
const TURN: usize = 20;

impl Controller {
    /// Whether webhooks are set up.
    fn has_hooks(&self) -> bool {
        self.webhook.url.is_some() && !self.settings.dry_run
    }

    /// Looks after the webhooks whose turn it is.
    pub(super) async fn tend_hooks(&self) {
        self.forget_absent().await;
        if !self.has_hooks() {
            return;
        }
        let silent = self.silent().await;
        let now = host_now();
        let wanted = self.fingerprint();
        let ids: Vec<ProjectId> = {
            let state = self.state();
            let (mut must, mut may) = (Vec::new(), Vec::new());
            for id in state.facts.projects.keys() {
                let Some(hook) = state.about.get(id).map(|about| &about.hook) else { continue };
                let other = hook.secrets.as_deref() != Some(wanted.as_str());
                if hook.checked_at.is_none() || other || hook.problem.is_some() || silent.contains(id) {
                    must.push(*id);
                } else if let Some(at) = hook.checked_at.filter(|at| now - at > AGE_MAX) {
                    may.push((at, *id));
                }
            }
            may.sort_unstable();
            must.into_iter().chain(may.into_iter().take(TURN).map(|(_, id)| id)).collect()
        };
        let mut work: Vec<BoxFuture<'_, ()>> = Vec::new();
        for id in ids {
            work.push(Box::pin(self.tend(id)));
        }
        some_at_once(work).await;
    }

    /// What a webhook was set up with: the URL is a part of it.
    fn fingerprint(&self) -> String {
        format!("{} {}", self.secrets.fingerprint(), self.webhook.url.as_deref().unwrap_or_default())
    }

    /// Projects whose latest pipeline came without an event since they have a webhook.
    async fn silent(&self) -> BTreeSet<ProjectId> {
        let pipelines: Vec<(ProjectId, i64)> = {
            let state = self.state();
            let latest = state.facts.projects.iter().filter_map(|(id, project)| {
                let since = state.about.get(id)?.hook.checked_at?;
                let latest = project.latest.filter(|latest| latest.created_at > since - CLOCK)?;
                Some((*id, latest.id))
            });
            latest.collect()
        };
        let mut silent = BTreeSet::new();
        for (id, pipeline) in pipelines {
            if matches!(self.store.has_event(id, pipeline).await, Ok(false)) {
                silent.insert(id);
            }
        }
        silent
    }

    async fn tend(&self, id: ProjectId) {
        let worked = self.tend_one(id).await;
        {
            let mut state = self.state();
            let path = state.path(id);
            let fingerprint = self.fingerprint();
            let Some(about) = state.about.get_mut(&id) else { return };
            about.hook.checked_at = Some(host_now());
            match worked {
                Ok(hook) => {
                    about.hook.id = Some(hook.id);
                    about.hook.secrets = Some(fingerprint);
                    let off = hook.alert_status.as_deref().filter(|status| *status != "executable");
                    about.hook.problem = off.map(|status| format!("GitLab has switched it off ({status})"));
                }
                Err(error) => {
                    tracing::warn!(project = path, "look after its webhook: {error}");
                    about.hook.problem = Some(error.to_string());
                }
            }
        }
        self.save_or_say([id]).await;
    }

    /// The webhook, as it is when everything is done.
    async fn tend_one(&self, id: ProjectId) -> Result<HookRow, GitlabError> {
        let known = self.state().about.get(&id).map(|about| about.hook.clone()).unwrap_or_default();
        let url = self.webhook.url.as_deref().unwrap_or_default();
        let wished = WishedHook {
            url,
            name: NAME,
            verify_tls: self.webhook.verify_tls,
            token: &self.secrets.token,
            signing_token: self.secrets.signing.as_ref(),
        };
        let wish = Wish {
            url,
            verify_tls: self.webhook.verify_tls,
            signs: self.secrets.signing.is_some(),
            known: known.id,
            has_secrets: known.secrets.as_deref() == Some(self.fingerprint().as_str()),
        };
        let found = self.gitlab.hooks(id).await?;
        let actions = plan(&found, &wish);
        let mut kept = found.into_iter().find(|hook| Some(hook.id) == known.id).unwrap_or_default();
        for action in actions {
            tracing::info!(project = self.state().path(id), ?action, "webhook");
            match action {
                Action::Create => kept = self.gitlab.create_hook(id, &wished).await?,
                Action::Repair { id: hook, .. } => kept = self.gitlab.update_hook(id, hook, &wished).await?,
                Action::Remove { id: hook } => self.gitlab.delete_hook(id, hook).await?,
                Action::Enable { id: hook } => {
                    self.gitlab.test_hook(id, hook).await?;
                    // One that got through has switched it on.
                    let found = self.gitlab.hooks(id).await?;
                    kept = found.into_iter().find(|found| found.id == hook).unwrap_or(kept);
                }
            }
        }
        Ok(kept)
    }
}

/// Milliseconds since 1970, by the host's clock.
pub(super) fn host_now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::try_from(since.as_millis()).unwrap_or(Time::MAX)
}
