//! Projects that a test makes, changes, and pushes to.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::instance::{given, put};
use super::{done, refused};
use crate::clock::{self, Time};
use crate::http::{Answer, Reply};
use crate::state::{File, JobPlan, JobTokenScope, MAINTAINER, Project, State};

/// A project to be made, or a change of one; what is absent is as usual, or stays as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectChange {
    path: Option<String>,
    /// Only for a new one.
    id: Option<u64>,
    /// Only for a new one: without a commit.
    empty: bool,
    /// Only for a new one: when it was made.
    created_at: Option<String>,
    /// Of its default branch.
    files: Option<Files>,
    #[serde(deserialize_with = "given")]
    default_branch: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    description: Option<Option<String>>,
    archived: Option<bool>,
    #[serde(deserialize_with = "given")]
    marked_for_deletion_on: Option<Option<String>>,
    visibility: Option<String>,
    registry: Option<String>,
    builds: Option<String>,
    repository: Option<String>,
    has_ci_config: Option<bool>,
    #[serde(deserialize_with = "given")]
    ci_config_path: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    refusal: Option<Option<String>>,
    variables_role: Option<u32>,
    jobs: Option<Vec<JobPlan>>,
    #[serde(deserialize_with = "given")]
    auto_ms: Option<Option<u64>>,
    script: Option<VecDeque<String>>,
    inbound_job_tokens: Option<bool>,
    job_token_projects: Option<Vec<u64>>,
    job_token_groups: Option<Vec<String>>,
}

/// Files by path: a text, `{"base64": ...}`, or null for one that is removed.
type Files = BTreeMap<String, Option<Content>>;

/// The content of a file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Bytes { base64: String },
}

/// One project or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum ProjectChanges {
    /// A list.
    Many(Vec<ProjectChange>),
    /// A single one.
    One(Box<ProjectChange>),
}

/// A commit on a branch or a tag; where that is new, it begins with the default branch's files.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Push {
    branch: Option<String>,
    tag: Option<String>,
    message: Option<String>,
    files: Files,
}

/// A project that is shared with a group.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    group: String,
    project: u64,
}

/// `POST projects`
pub fn create(state: &mut State, changes: ProjectChanges) -> Reply {
    let changes = match changes {
        ProjectChanges::Many(all) => all,
        ProjectChanges::One(one) => vec![*one],
    };
    let made = changes.into_iter().map(|change| create_one(state, change)).collect::<Result<_, _>>()?;
    Ok(Answer::json(201, &Value::Array(made)))
}

fn create_one(state: &mut State, mut change: ProjectChange) -> Result<Value, Answer> {
    let path = change.path.take().ok_or_else(|| refused("a project has a path"))?;
    if !path.contains('/') || state.project_id(&path).is_some() {
        return Err(refused(&format!("{path} is no path of a new project in a group")));
    }
    let id = match change.id {
        Some(id) if state.projects.contains_key(&id) => return Err(refused(&format!("project {id} is there"))),
        Some(id) => {
            state.reserve("project", id);
            id
        }
        None => state.number("project"),
    };
    let created_at = match &change.created_at {
        Some(text) => clock::read(text).ok_or_else(|| refused(&format!("{text:?} is no time")))?,
        None => state.now(),
    };
    let mut project = blank(id, &path, created_at);
    let branch = change.default_branch.take().flatten().unwrap_or_else(|| "main".into());
    let files = contents(change.files.take().unwrap_or_default())?;
    if !change.empty {
        project.push(&branch, false, "Begin", files, created_at);
    }
    state.ensure_groups(&path);
    state.paths.insert(path.to_lowercase(), id);
    state.moved.remove(&path.to_lowercase());
    apply(&mut project, change);
    state.projects.insert(id, project);
    Ok(json!({"id": id, "path": path}))
}

fn blank(id: u64, path: &str, created_at: Time) -> Project {
    Project {
        id,
        path: path.to_owned(),
        description: None,
        created_at,
        last_activity_at: created_at,
        default_branch: None,
        archived: false,
        marked_for_deletion_on: None,
        visibility: "private".into(),
        registry: "enabled".into(),
        builds: "enabled".into(),
        repository: "enabled".into(),
        has_ci_config: true,
        ci_config_path: None,
        refusal: None,
        variables_role: MAINTAINER,
        branches: BTreeMap::new(),
        jobs: vec![JobPlan::default()],
        auto_ms: None,
        script: VecDeque::new(),
        hooks: BTreeMap::new(),
        job_tokens: JobTokenScope { inbound_enabled: true, projects: Vec::new(), groups: Vec::new() },
        pipelines: Vec::new(),
        last_iid: 0,
    }
}

/// `POST projects/:id`
pub fn change(state: &mut State, id: u64, mut change: ProjectChange) -> Reply {
    let now = state.now();
    if let Some(path) = change.path.take() {
        rename(state, id, &path)?;
    }
    let files = change.files.take().map(contents).transpose()?;
    let Some(project) = state.projects.get_mut(&id) else { return done() };
    put(&mut project.default_branch, change.default_branch.take());
    if let Some(files) = files {
        let branch = project.default_branch.clone().unwrap_or_else(|| "main".into());
        project.push(&branch, false, "Change something", files, now);
    }
    apply(project, change);
    done()
}

fn apply(project: &mut Project, change: ProjectChange) {
    put(&mut project.description, change.description);
    put(&mut project.archived, change.archived);
    put(&mut project.marked_for_deletion_on, change.marked_for_deletion_on);
    put(&mut project.visibility, change.visibility);
    put(&mut project.registry, change.registry);
    put(&mut project.builds, change.builds);
    put(&mut project.repository, change.repository);
    put(&mut project.has_ci_config, change.has_ci_config);
    put(&mut project.ci_config_path, change.ci_config_path);
    put(&mut project.refusal, change.refusal);
    put(&mut project.variables_role, change.variables_role);
    put(&mut project.jobs, change.jobs);
    put(&mut project.auto_ms, change.auto_ms);
    put(&mut project.script, change.script);
    put(&mut project.job_tokens.inbound_enabled, change.inbound_job_tokens);
    put(&mut project.job_tokens.projects, change.job_token_projects);
    put(&mut project.job_tokens.groups, change.job_token_groups);
}

/// Gives a project another path; the old one leads to it from now on.
fn rename(state: &mut State, id: u64, path: &str) -> Result<(), Answer> {
    if !path.contains('/') || state.project_id(path).is_some_and(|other| other != id) {
        return Err(refused(&format!("{path} is no path that the project can have")));
    }
    let Some(project) = state.projects.get_mut(&id) else { return Ok(()) };
    let old = std::mem::replace(&mut project.path, path.to_owned()).to_lowercase();
    state.paths.remove(&old);
    state.moved.insert(old, id);
    state.moved.remove(&path.to_lowercase());
    state.paths.insert(path.to_lowercase(), id);
    state.ensure_groups(path);
    Ok(())
}

/// `DELETE projects/:id`
pub fn remove(state: &mut State, id: u64) -> Reply {
    if let Some(project) = state.projects.remove(&id) {
        state.paths.remove(&project.path.to_lowercase());
        state.moved.retain(|_, target| *target != id);
        for pipeline in project.pipelines {
            state.pipelines.remove(&pipeline);
        }
    }
    done()
}

/// `POST projects/:id/push`
pub fn push(state: &mut State, id: u64, push: Push) -> Reply {
    let now = state.now();
    let files = contents(push.files)?;
    let Some(project) = state.projects.get_mut(&id) else { return done() };
    let is_tag = push.tag.is_some();
    let name = push.tag.or(push.branch).or_else(|| project.default_branch.clone()).unwrap_or_else(|| "main".into());
    project.push(&name, is_tag, push.message.as_deref().unwrap_or("Change something\n"), files, now);
    let sha = project.commit(Some(&name)).map(|commit| commit.sha.clone());
    Ok(Answer::json(201, &json!({"sha": sha})))
}

/// `POST groups/share`
pub fn share(state: &mut State, share: Share) -> Reply {
    state.ensure_groups(&format!("{}/", share.group));
    if let Some(group) = state.groups.get_mut(&share.group.to_lowercase()) {
        group.shared.push(share.project);
    }
    done()
}

fn contents(files: Files) -> Result<BTreeMap<String, Option<File>>, Answer> {
    let read = |content: Content| match content {
        Content::Text(text) => Ok(File::new(text.as_bytes())),
        Content::Bytes { base64 } => {
            STANDARD.decode(base64).map(|bytes| File::new(&bytes)).map_err(|error| refused(&error.to_string()))
        }
    };
    files.into_iter().map(|(path, content)| Ok((path, content.map(read).transpose()?))).collect()
}
