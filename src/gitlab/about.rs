//! What GitLab is, and what the token may do in it: questions of `windlass doctor`.

use serde::Deserialize;

use super::request::Call;
use super::{Client, GitlabError, ProjectRow};

/// The number of the role Maintainer (doc/api/access_requests.md).
pub const MAINTAINER: u32 = 40;
/// How many of a webhook's last calls are looked at.
const EVENTS: u32 = 20;

/// A call of a webhook, as GitLab remembers it for a week.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HookEvent {
    /// The status of the receiver's answer as text, or `internal error`.
    pub response_status: String,
}

impl Client {
    /// GitLab's version.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn version(&self) -> Result<String, GitlabError> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        Ok(self.json::<Version>(Call::get("version")).await?.version)
    }

    /// By how many milliseconds GitLab's clock was ahead of this host's as far as its answers tell; what may be the same counts as none.
    #[must_use]
    pub fn clock_ahead(&self) -> i64 {
        self.clock.ahead()
    }

    /// The number of the token's role in a project; 0: none.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn role(&self, project: &str) -> Result<u32, GitlabError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Level {
            access_level: u32,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Permissions {
            project_access: Option<Level>,
            group_access: Option<Level>,
        }
        #[derive(Deserialize)]
        struct Project {
            #[serde(default)]
            permissions: Permissions,
        }
        let path = format!("projects/{}", super::projects::word(project));
        let Permissions { project_access, group_access } = self.json::<Project>(Call::get(path)).await?.permissions;
        Ok([project_access, group_access].into_iter().flatten().map(|level| level.access_level).max().unwrap_or(0))
    }

    /// A project of a group, any.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn some_project(&self, group: &str) -> Result<Option<ProjectRow>, GitlabError> {
        let path = format!("groups/{}/projects", super::projects::word(group));
        let call = Call::get(path).with("include_subgroups", true).with("with_shared", false).with("per_page", 1);
        Ok(self.json::<Vec<ProjectRow>>(call).await?.into_iter().next())
    }

    /// The last calls of a webhook, the newest first. GitLab 17.3 and later tell of them.
    ///
    /// # Errors
    /// [`GitlabError`]; 404 where it does not tell.
    pub async fn hook_events(&self, project: i64, hook: i64) -> Result<Vec<HookEvent>, GitlabError> {
        self.json(Call::get(format!("projects/{project}/hooks/{hook}/events")).with("per_page", EVENTS)).await
    }
}
