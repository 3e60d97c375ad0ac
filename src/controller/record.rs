//! What is on record of the chain's past, for whoever shows it.

use anyhow::Result;

use super::Controller;
use crate::chain::facts::{ProjectId, Time};
use crate::store::{BuiltFor, PipelineEvent, StartRow};

impl Controller {
    /// The last pipelines that the chain has started, the newest first.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn started(&self, count: u32) -> Result<Vec<StartRow>> {
        self.store.started(count).await
    }

    /// What events have said of these pipelines, in the order in which they came.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn events_of(&self, pipelines: &[(ProjectId, i64)]) -> Result<Vec<PipelineEvent>> {
        self.store.events_of(pipelines).await
    }

    /// Why each project's last success was built, as far as that is on record.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn built_for(&self) -> Result<Vec<(ProjectId, BuiltFor)>> {
        self.store.built_for().await
    }

    /// By how many milliseconds GitLab's clock is ahead of this host's, as far as its answers tell.
    #[must_use]
    pub fn clock_ahead(&self) -> Time {
        self.gitlab.clock_ahead()
    }

    /// A number that is another when something more was put on record that is shown: of a project, or of any.
    #[must_use]
    pub fn noted(&self, project: Option<ProjectId>) -> u64 {
        let state = self.state();
        match project {
            Some(id) => state.noted.of(id),
            None => state.noted.all(),
        }
    }
}
