//! Where every query begins, and groups.

use std::sync::atomic::Ordering;

use async_graphql::{Context, ID, Object, Result, SimpleObject};

use super::asker;
use super::connection::{Connection, Page};
use super::limits::{Bounds, page_cost};
use super::project::Project;
use crate::state;

/// Where every query begins.
pub struct Query;

/// What a query costs.
#[derive(SimpleObject)]
struct QueryComplexity {
    score: Option<usize>,
    limit: Option<usize>,
}

/// The instance.
#[derive(SimpleObject)]
struct Metadata {
    version: String,
    revision: String,
    enterprise: bool,
}

/// Who asks.
#[derive(SimpleObject)]
struct CurrentUser {
    id: ID,
    username: String,
    name: String,
}

#[Object]
impl Query {
    async fn query_complexity(&self, context: &Context<'_>) -> Result<Option<QueryComplexity>> {
        let bounds = context.data::<Bounds>()?;
        Ok(Some(QueryComplexity { score: Some(bounds.score.load(Ordering::Relaxed)), limit: Some(bounds.limit) }))
    }

    async fn metadata(&self, context: &Context<'_>) -> Result<Option<Metadata>> {
        let asker = asker(context)?;
        let version = asker.see(|state| state.settings.version.text().to_owned());
        Ok(asker.username().map(|_| Metadata { version, revision: "c0ffee0".into(), enterprise: false }))
    }

    async fn current_user(&self, context: &Context<'_>) -> Result<Option<CurrentUser>> {
        let user =
            |name: &str| CurrentUser { id: "gid://gitlab/User/7".into(), username: name.into(), name: name.into() };
        Ok(asker(context)?.username().map(user))
    }

    async fn group(&self, context: &Context<'_>, full_path: ID) -> Result<Option<Group>> {
        let asker = asker(context)?;
        Ok(asker.see(|state| {
            let group = state.groups.get(&full_path.to_lowercase())?;
            let within = state.projects_of(group, true, true);
            let is_visible = within.is_empty() && asker.username().is_some()
                || within.iter().any(|project| asker.access(project).is_some());
            is_visible.then(|| Group { id: group.id, path: group.path.clone() })
        }))
    }

    async fn project(&self, context: &Context<'_>, full_path: ID) -> Result<Option<Project>> {
        let asker = asker(context)?;
        Ok(asker.see(|state| {
            let id = state.paths.get(&full_path.to_lowercase())?;
            let project = state.projects.get(id)?;
            asker.access(project).map(|_| Project { id: *id })
        }))
    }
}

/// A group.
pub struct Group {
    id: u64,
    path: String,
}

#[Object]
impl Group {
    async fn id(&self) -> ID {
        format!("gid://gitlab/Group/{}", self.id).into()
    }

    async fn full_path(&self) -> ID {
        self.path.clone().into()
    }

    async fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    async fn web_url(&self, context: &Context<'_>) -> Result<String> {
        Ok(asker(context)?.see(|state| format!("{}/groups/{}", state.settings.url, self.path)))
    }

    // GitLab's resolver of a namespace's projects costs ten more than others.
    #[expect(clippy::too_many_arguments, reason = "GitLab's own")]
    #[graphql(complexity = "page_cost(child_complexity + 11, first)")]
    async fn projects(
        &self,
        context: &Context<'_>,
        #[graphql(default = false)] include_subgroups: bool,
        #[graphql(default = true)] include_archived: bool,
        #[graphql(default = false)] not_aimed_for_deletion: bool,
        search: Option<String>,
        ids: Option<Vec<ID>>,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<Connection<Project>> {
        let asker = asker(context)?;
        let is_wanted = |project: &state::Project| {
            asker.access(project).is_some()
                && (include_archived || !project.archived)
                && (!not_aimed_for_deletion || project.marked_for_deletion_on.is_none())
                && search.as_ref().is_none_or(|text| project.path.to_lowercase().contains(&text.to_lowercase()))
                && ids.as_ref().is_none_or(|ids| ids.iter().any(|id| **id == gid(project.id)))
        };
        // The newest first, as GitLab orders them where nothing is said.
        let mut all: Vec<u64> = asker.see(|state| {
            let Some(group) = state.groups.get(&self.path.to_lowercase()) else { return Vec::new() };
            let projects = state.projects_of(group, include_subgroups, false);
            projects.into_iter().filter(|project| is_wanted(project)).map(|project| project.id).collect()
        });
        all.reverse();
        let all = all.into_iter().map(|id| (id, Project { id })).collect();
        Connection::new(all, &Page { after, before, first, last })
    }
}

/// The global id of a project.
pub fn gid(project: u64) -> String {
    format!("gid://gitlab/Project/{project}")
}
