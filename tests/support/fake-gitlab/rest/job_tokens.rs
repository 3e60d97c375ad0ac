//! Whose job tokens may reach a project.

use serde_json::json;

use super::{Call, paging, projects};
use crate::http::{Answer, Reply};
use crate::state::{MAINTAINER, State};

/// `GET /projects/:id/job_token_scope`
pub fn scope(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = call.project_as(state, id, MAINTAINER)?;
    let enabled = project.job_tokens.inbound_enabled;
    Ok(Answer::json(200, &json!({"inbound_enabled": enabled, "outbound_enabled": false})))
}

/// `GET /projects/:id/job_token_scope/allowlist`: the project itself is always on it.
pub fn projects(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = call.project_as(state, id, MAINTAINER)?;
    let ids = [project.id].into_iter().chain(project.job_tokens.projects.iter().copied());
    let listed: Vec<_> = ids.filter_map(|id| state.projects.get(&id)).collect();
    Ok(paging::page(state, call, &listed, |project| projects::simple(state, project)))
}

/// `GET /projects/:id/job_token_scope/groups_allowlist`
pub fn groups(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = call.project_as(state, id, MAINTAINER)?;
    let listed: Vec<_> = project.job_tokens.groups.iter().filter_map(|path| state.group(path)).collect();
    Ok(paging::page(state, call, &listed, |group| {
        let url = format!("{}/groups/{}", state.settings.url, group.path);
        json!({"id": group.id, "web_url": url, "name": group.path.rsplit('/').next()})
    }))
}
