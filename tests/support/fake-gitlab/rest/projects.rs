//! Projects, and those of a group.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{Call, paging};
use crate::clock::rest;
use crate::http::{Answer, Reply};
use crate::state::{Access, Project, State};

/// `GET /projects/:id`
pub fn one(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let (project, access) = call.project(state, id)?;
    let mut shown = full(state, project);
    let level = (access > Access(0)).then(|| json!({"access_level": access.0, "notification_level": 3}));
    shown["permissions"] = json!({"project_access": null, "group_access": level});
    Ok(Answer::json(200, &shown))
}

/// `GET /groups/:id/projects`
pub fn of_group(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let group = state.group(id).ok_or_else(|| Answer::not_found("Group"))?;
    let parameters = &call.parameters;
    let subgroups = parameters.truth("include_subgroups").unwrap_or(false);
    let shared = parameters.truth("with_shared").unwrap_or(true);
    let least = parameters.number("min_access_level").and_then(|level| u32::try_from(level).ok()).unwrap_or_default();
    let (archived, search) = (parameters.truth("archived"), parameters.text("search").map(|text| text.to_lowercase()));
    let within = state.projects_of(group, true, true);
    if !within.is_empty() && !within.iter().any(|project| call.token.access(project).is_some()) {
        return Err(Answer::not_found("Group"));
    }
    let wanted = |project: &&Project| {
        call.token.access(project).is_some_and(|access| access >= Access(least))
            && archived.is_none_or(|archived| archived == project.archived)
            && search.as_ref().is_none_or(|text| project.path.to_lowercase().contains(text))
            && parameters.text("visibility").is_none_or(|visibility| visibility == project.visibility)
    };
    let mut all: Vec<&Project> =
        state.projects_of(group, subgroups, shared).into_iter().filter(|project| wanted(project)).collect();
    let order = parameters.text("order_by").unwrap_or_else(|| "created_at".into());
    if !matches!(
        order.as_str(),
        "id" | "name" | "path" | "created_at" | "updated_at" | "last_activity_at" | "similarity"
    ) {
        return Err(Answer::error(400, "order_by does not have a valid value"));
    }
    all.sort_by(|one, other| compare(&order, one, other));
    if parameters.text("sort").is_none_or(|sort| sort != "asc") {
        all.reverse();
    }
    let is_simple = parameters.truth("simple").unwrap_or(false);
    Ok(paging::page(state, call, &all, |project| if is_simple { simple(state, project) } else { full(state, project) }))
}

fn compare(order: &str, one: &Project, other: &Project) -> Ordering {
    let by = match order {
        "name" | "path" => one.name().cmp(other.name()),
        "created_at" => one.created_at.cmp(&other.created_at),
        "updated_at" | "last_activity_at" => one.last_activity_at.cmp(&other.last_activity_at),
        _ => Ordering::Equal,
    };
    by.then(one.id.cmp(&other.id))
}

/// A project in short.
pub fn simple(state: &State, project: &Project) -> Value {
    let words: Vec<&str> = project.path.split('/').collect();
    let namespace = project.group().and_then(|group| state.group(group)).map(|group| {
        let name = group.path.rsplit('/').next().unwrap_or_default();
        let parent = group.path.rsplit_once('/').and_then(|(parent, _)| state.group(parent));
        json!({
            "id": group.id, "name": name, "path": name, "kind": "group", "full_path": group.path,
            "parent_id": parent.map(|parent| parent.id), "avatar_url": null,
            "web_url": format!("{}/groups/{}", state.settings.url, group.path),
        })
    });
    json!({
        "id": project.id,
        "description": project.description,
        "name": project.name(),
        "name_with_namespace": words.join(" / "),
        "path": project.name(),
        "path_with_namespace": project.path,
        "created_at": rest(project.created_at),
        "default_branch": project.default_branch,
        "tag_list": [],
        "topics": [],
        "ssh_url_to_repo": format!("git@gitlab.example.org:{}.git", project.path),
        "http_url_to_repo": format!("{}.git", state.web_url(project)),
        "web_url": state.web_url(project),
        "readme_url": null,
        "forks_count": 0,
        "avatar_url": null,
        "star_count": 0,
        "last_activity_at": rest(project.last_activity_at),
        "visibility": project.visibility,
        "namespace": namespace,
    })
}

/// A project in full.
fn full(state: &State, project: &Project) -> Value {
    let mut shown = simple(state, project);
    let has_registry = project.registry != "disabled";
    let prefix = has_registry.then(|| format!("{}/{}", state.settings.registry, project.path.to_lowercase()));
    let more = json!({
        "container_registry_image_prefix": prefix,
        "packages_enabled": null,
        "empty_repo": project.default_branch.is_none(),
        "archived": project.archived,
        "container_registry_access_level": project.registry,
        "builds_access_level": project.builds,
        "jobs_enabled": project.builds != "disabled",
        "shared_with_groups": [],
        "marked_for_deletion_on": project.marked_for_deletion_on,
        "ci_config_path": project.ci_config_path,
        "repository_access_level": project.repository,
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}
