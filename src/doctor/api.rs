//! GitLab's API as the service reaches it.

use std::path::PathBuf;

use super::Host;
use crate::config::GitlabSettings;
use crate::controller::patterns::Patterns;
use crate::gitlab::{Client, GitlabError, ProjectRow};

/// Where the token is for a service that gets it as a credential, which doctor does not: as systemd has handed it over, and as it lies.
const CREDENTIALS: [&str; 2] = ["/run/credentials/windlass.service/gitlab-token", "/etc/windlass/gitlab-token"];

/// A client; none where the configuration names no GitLab.
///
/// # Errors
/// In words: what its settings name and can't be read.
pub fn client(host: &Host) -> Result<Option<Client>, String> {
    let mut settings: GitlabSettings = host.settings.gitlab.clone();
    let is_there = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|about| about.len() > 1);
    if settings.token_file.is_none() {
        settings.token_file = CREDENTIALS.into_iter().map(|path| host.files.path(path)).find(is_there);
    }
    Client::new(&settings).map_err(|error| format!("{error:#}"))
}

/// The projects of the chain; with `role`, of those of groups only where the token has at least that one.
///
/// # Errors
/// [`GitlabError`] of the first group or project that can't be read.
pub async fn projects(host: &Host, client: &Client, role: Option<u32>) -> Result<Vec<ProjectRow>, GitlabError> {
    let settings = &host.settings.chain;
    let patterns = Patterns::of(settings);
    let mut found: Vec<ProjectRow> = Vec::new();
    for group in &settings.groups {
        found.extend(client.group_projects_as(group, role).await?);
    }
    for project in &settings.projects {
        if role.is_none() {
            found.push(client.project(project).await?);
        }
    }
    found.retain(|project| {
        patterns.has(&project.path_with_namespace) && !project.archived && project.marked_for_deletion_on.is_none()
    });
    found.sort_by_key(|project| project.id);
    found.dedup_by_key(|project| project.id);
    Ok(found)
}
