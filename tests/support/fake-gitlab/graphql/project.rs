//! Projects.

use async_graphql::{Context, ID, Object, Result};

use super::connection::{Connection, Page};
use super::limits::page_cost;
use super::pipeline::Pipeline;
use super::query::gid;
use super::repository::Repository;
use super::scalars::{RefType, Status, Time};
use super::{Asker, asker};
use crate::rest::{self, Filter};
use crate::state::{self, Access, REPORTER, State};

/// A project; what it is, is looked up when it is asked for.
pub struct Project {
    /// Its id.
    pub id: u64,
}

impl Project {
    fn see<T>(&self, context: &Context<'_>, look: impl FnOnce(&State, &state::Project) -> T) -> Result<Option<T>> {
        Ok(asker(context)?.see(|state| state.projects.get(&self.id).map(|project| look(state, project))))
    }
}

/// Whether somebody may see what reporters may, and everybody where the project is not private.
fn is_open(asker: &Asker, project: &state::Project) -> bool {
    project.visibility != "private" || asker.access(project).is_some_and(|access| access >= Access(REPORTER))
}

#[Object]
impl Project {
    async fn id(&self) -> ID {
        gid(self.id).into()
    }

    async fn full_path(&self, context: &Context<'_>) -> Result<ID> {
        Ok(self.see(context, |_, project| project.path.clone())?.unwrap_or_default().into())
    }

    async fn name(&self, context: &Context<'_>) -> Result<String> {
        Ok(self.see(context, |_, project| project.name().to_owned())?.unwrap_or_default())
    }

    async fn path(&self, context: &Context<'_>) -> Result<String> {
        Ok(self.see(context, |_, project| project.name().to_owned())?.unwrap_or_default())
    }

    async fn description(&self, context: &Context<'_>) -> Result<Option<String>> {
        Ok(self.see(context, |_, project| project.description.clone())?.flatten())
    }

    async fn visibility(&self, context: &Context<'_>) -> Result<Option<String>> {
        self.see(context, |_, project| project.visibility.clone())
    }

    async fn archived(&self, context: &Context<'_>) -> Result<Option<bool>> {
        self.see(context, |_, project| project.archived)
    }

    async fn marked_for_deletion(&self, context: &Context<'_>) -> Result<bool> {
        Ok(self.see(context, |_, project| project.marked_for_deletion_on.is_some())?.unwrap_or_default())
    }

    async fn web_url(&self, context: &Context<'_>) -> Result<Option<String>> {
        self.see(context, |state, project| state.web_url(project))
    }

    async fn created_at(&self, context: &Context<'_>) -> Result<Option<Time>> {
        self.see(context, |_, project| Time(project.created_at))
    }

    async fn last_activity_at(&self, context: &Context<'_>) -> Result<Option<Time>> {
        self.see(context, |_, project| Time(project.last_activity_at))
    }

    async fn container_registry_enabled(&self, context: &Context<'_>) -> Result<Option<bool>> {
        self.see(context, |_, project| project.registry != "disabled")
    }

    async fn ci_config_path_or_default(&self, context: &Context<'_>) -> Result<String> {
        let path = self.see(context, |_, project| project.ci_config_path.clone())?.flatten();
        Ok(path.unwrap_or_else(|| ".gitlab-ci.yml".into()))
    }

    async fn repository(&self, context: &Context<'_>) -> Result<Option<Repository>> {
        let asker = asker(context)?;
        let is_readable = |project: &state::Project| project.repository != "disabled" && is_open(asker, project);
        let is_readable = self.see(context, |_, project| is_readable(project))?.unwrap_or_default();
        Ok(is_readable.then_some(Repository { project: self.id }))
    }

    #[expect(clippy::too_many_arguments, reason = "GitLab's own")]
    #[graphql(complexity = "page_cost(child_complexity + 1, first)")]
    async fn pipelines(
        &self,
        context: &Context<'_>,
        #[graphql(name = "ref")] branch: Option<String>,
        ref_type: Option<RefType>,
        status: Option<Status>,
        source: Option<String>,
        sha: Option<String>,
        username: Option<String>,
        updated_after: Option<Time>,
        updated_before: Option<Time>,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<Option<Connection<Pipeline>>> {
        let asker = asker(context)?;
        let filter = Filter {
            branch,
            status: status.map(|status| status.word().to_owned()),
            source,
            sha,
            username,
            updated_after: updated_after.map(|time| time.0),
            updated_before: updated_before.map(|time| time.0),
            ..Filter::default()
        };
        let found = self.see(context, |state, project| {
            if project.builds == "disabled" || !is_open(asker, project) {
                return None;
            }
            let is_wanted =
                |pipeline: &&state::Pipeline| ref_type.is_none_or(|kind| pipeline.is_tag == (kind == RefType::Tags));
            let newest_first = rest::filtered(state, project, &filter).into_iter().rev().filter(is_wanted);
            Some(newest_first.map(|pipeline| (pipeline.id, Pipeline(pipeline.clone()))).collect())
        })?;
        found.flatten().map(|all| Connection::new(all, &Page { after, before, first, last })).transpose()
    }
}
