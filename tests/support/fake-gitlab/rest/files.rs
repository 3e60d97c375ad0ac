//! What a repository has: files, trees, commits.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Call, paging};
use crate::clock::rest;
use crate::http::{Answer, Reply};
use crate::state::{Access, Commit, Project, REPORTER, State};

/// The project, if its repository may be read.
fn readable<'s>(state: &'s State, call: &Call<'_>, id: &str) -> Result<&'s Project, Answer> {
    let (project, access) = call.project(state, id)?;
    let is_open = project.visibility != "private" || access >= Access(REPORTER);
    if project.repository == "disabled" || !is_open { Err(Answer::forbidden()) } else { Ok(project) }
}

/// `GET /projects/:id/repository/files/:path/raw`
pub fn raw(state: &State, call: &Call<'_>, id: &str, path: &str) -> Reply {
    let project = readable(state, call, id)?;
    let name = call.parameters.text("ref");
    let commit = project.commit(name.as_deref()).ok_or_else(|| Answer::not_found("Commit"))?;
    let file = commit.files.get(path).ok_or_else(|| Answer::not_found("File"))?;
    let hash: String = Sha256::digest(&file.bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let short = path.rsplit('/').next().unwrap_or_default();
    Ok(Answer::bytes(200, "text/plain; charset=utf-8", file.bytes.to_vec())
        .with("X-Gitlab-Blob-Id", &file.id)
        .with("X-Gitlab-Commit-Id", &commit.sha)
        .with("X-Gitlab-Content-Sha256", hash)
        .with("X-Gitlab-Encoding", "base64")
        .with("X-Gitlab-Execute-Filemode", "false")
        .with("X-Gitlab-File-Name", short)
        .with("X-Gitlab-File-Path", path)
        .with("X-Gitlab-Last-Commit-Id", &commit.sha)
        .with("X-Gitlab-Ref", name.unwrap_or_else(|| "HEAD".into()))
        .with("X-Gitlab-Size", file.bytes.len().to_string())
        .with("Content-Disposition", format!("inline; filename=\"{short}\"")))
}

/// `GET /projects/:id/repository/tree`
pub fn tree(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = readable(state, call, id)?;
    let parameters = &call.parameters;
    let commit = project.commit(parameters.text("ref").as_deref()).ok_or_else(|| Answer::not_found("Tree"))?;
    let folder = parameters.text("path").unwrap_or_default();
    let folder = folder.trim_matches('/');
    let entries = entries(commit, folder, parameters.truth("recursive").unwrap_or(false));
    if entries.is_empty() && !folder.is_empty() {
        return Err(Answer::not_found("invalid revision or path"));
    }
    let entries: Vec<(String, Value)> = entries.into_iter().collect();
    if parameters.text("pagination").is_some_and(|kind| kind == "keyset") {
        return keyset(state, call, &entries);
    }
    Ok(paging::page(state, call, &entries, |(_, shown)| shown.clone()))
}

/// The page after a certain entry.
fn keyset(state: &State, call: &Call<'_>, entries: &[(String, Value)]) -> Reply {
    let start = match call.parameters.text("page_token") {
        None => 0,
        Some(token) => {
            let last = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let at = last.and_then(|last| entries.iter().position(|(path, _)| *path == last));
            at.map(|at| at + 1).ok_or_else(|| Answer::message(422, "invalid page token"))?
        }
    };
    let size = paging::per_page(call, paging::PAGE_MAX);
    let shown: Vec<&(String, Value)> = entries.iter().skip(start).take(size).collect();
    let body = shown.iter().map(|(_, shown)| shown.clone()).collect();
    let answer = Answer::json(200, &Value::Array(body));
    let Some((last, _)) = shown.last().filter(|_| start + size < entries.len()) else { return Ok(answer) };
    let next = [("page_token", URL_SAFE_NO_PAD.encode(last)), ("per_page", size.to_string())];
    Ok(answer.with("Link", format!("<{}>; rel=\"next\"", paging::link(state, call, &next))))
}

/// What is in a folder, folders before files as GitLab lists them.
fn entries(commit: &Commit, folder: &str, recursive: bool) -> Vec<(String, Value)> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let show = |id: &str, path: &str, is_file: bool| {
        let (kind, mode) = if is_file { ("blob", "100644") } else { ("tree", "040000") };
        json!({"id": id, "name": path.rsplit('/').next(), "type": kind, "path": path, "mode": mode})
    };
    let (mut folders, mut files) = (BTreeMap::new(), Vec::new());
    for (path, file) in commit.files.iter() {
        let Some(rest) = path.strip_prefix(&prefix) else { continue };
        for (at, _) in rest.match_indices('/') {
            let inner = &path[..prefix.len() + at];
            if recursive || !rest[..at].contains('/') {
                folders.insert(inner.to_owned(), show(&commit.sha, inner, false));
            }
        }
        if recursive || !rest.contains('/') {
            files.push((path.clone(), show(&file.id, path, true)));
        }
    }
    folders.into_iter().chain(files).collect()
}

/// `GET /projects/:id/repository/commits`
pub fn commits(state: &State, call: &Call<'_>, id: &str) -> Reply {
    let project = readable(state, call, id)?;
    let name = call.parameters.text("ref_name");
    let missing = if name.is_some() { "Commit" } else { "Repository" };
    let branch = project.branch(name.as_deref()).ok_or_else(|| Answer::not_found(missing))?;
    let newest_first: Vec<&Commit> = branch.commits.iter().rev().collect();
    let parent = |commit: &Commit| {
        let at = branch.commits.iter().position(|other| other.sha == commit.sha).filter(|at| *at > 0)?;
        Some(branch.commits[at - 1].sha.clone())
    };
    Ok(paging::page(state, call, &newest_first, |commit| {
        let at = rest(commit.created_at).replace('Z', "+00:00");
        json!({
            "id": commit.sha, "short_id": &commit.sha[..8], "created_at": at, "title": commit.title(),
            "message": commit.message, "parent_ids": parent(commit).into_iter().collect::<Vec<_>>(),
            "author_name": "A. Author", "author_email": "author@example.org", "authored_date": at,
            "committer_name": "A. Author", "committer_email": "author@example.org", "committed_date": at,
            "trailers": {}, "extended_trailers": {},
            "web_url": format!("{}/-/commit/{}", state.web_url(project), commit.sha),
        })
    }))
}
