//! The scan: a page of a group's projects with the files and pipelines that the chain looks at, in one request (GraphQL).
//!
//! Fields as in GitLab 19.4's schema. The registry's prefix of a project is not among them; REST has it.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::Call;
use super::{Client, GitlabError, Refusal};

/// How long a page may take: it makes GitLab read from a hundred repositories.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Pipelines of a branch that are looked at: those of merge requests may be among them.
const PIPELINES: usize = 5;
/// Projects that are named one by one in a request.
const NAMED: usize = 10;

/// What to ask for.
#[derive(Debug, Clone)]
pub struct ScanQuery {
    /// The paths of files.
    pub paths: Vec<String>,
    /// The branches whose pipelines are wanted; at most two.
    pub references: Vec<String>,
    /// Whether to say at which commit a repository is.
    pub head: bool,
}

/// A page of projects.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The projects.
    pub projects: Vec<Scanned>,
    /// Where the next page begins; none: this is the last.
    pub next: Option<String>,
}

/// A project as the scan saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Its id.
    pub id: i64,
    /// Its path.
    pub path: String,
    /// Its page.
    pub web_url: String,
    /// Whether it is archived or about to be deleted.
    pub is_leaving: bool,
    /// Its default branch; none while its repository is empty.
    pub default_branch: Option<String>,
    /// The commit that its default branch is at.
    pub head: Option<String>,
    /// The files that are there; without text where that is none.
    pub files: Vec<(String, Option<String>)>,
    /// By branch, in the order of the query: its latest pipelines, and its latest successes.
    pub pipelines: Vec<(Vec<ScannedPipeline>, Vec<ScannedPipeline>)>,
}

/// A pipeline as the scan saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedPipeline {
    /// Its id.
    pub id: i64,
    /// One of GitLab's words, in lower case.
    pub status: String,
    /// What started it.
    pub source: Option<String>,
    /// When it was created.
    pub created_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
}

impl Client {
    /// A page of a group's projects, its subgroups' too; of at most `count` projects.
    ///
    /// # Errors
    /// [`GitlabError`]; [`is_too_complex`] where fewer projects at once may work, [`is_refused`] where GraphQL is not to be had.
    pub async fn scan_group(
        &self,
        group: &str,
        after: Option<&str>,
        count: usize,
        query: &ScanQuery,
    ) -> Result<Page, GitlabError> {
        let text = format!(
            "query Scan($group: ID!, $after: String, $count: Int!, {}) {{ group(fullPath: $group) {{ projects(includeSubgroups: true, \
             includeArchived: false, first: $count, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ ...Project }} }} }} }} {}",
            query.parameters(),
            query.fragment(),
        );
        let mut variables = query.variables();
        variables["group"] = group.into();
        variables["after"] = after.into();
        variables["count"] = count.into();
        let data: GroupData = self.graphql(&text, variables).await?;
        let Some(group) = data.group else {
            return Err(
                self.refused(StatusCode::NOT_FOUND, format!("there is no group {group}, or the token may not see it"))
            );
        };
        let next = group.projects.page_info.end_cursor.filter(|_| group.projects.page_info.has_next_page);
        Ok(Page { projects: group.projects.nodes.into_iter().filter_map(|node| node?.scanned(query)).collect(), next })
    }

    /// Projects by their paths; those that are not there, or not to be seen, are missing.
    ///
    /// # Errors
    /// As [`Self::scan_group`].
    pub async fn scan_projects(&self, paths: &[String], query: &ScanQuery) -> Result<Vec<Scanned>, GitlabError> {
        let mut found = Vec::new();
        for some in paths.chunks(NAMED) {
            let declared: Vec<String> = (0..some.len()).map(|at| format!("$p{at}: ID!")).collect();
            let asked: Vec<String> =
                (0..some.len()).map(|at| format!("p{at}: project(fullPath: $p{at}) {{ ...Project }}")).collect();
            let text = format!(
                "query Scan({}, {}) {{ {} }} {}",
                declared.join(", "),
                query.parameters(),
                asked.join(" "),
                query.fragment()
            );
            let mut variables = query.variables();
            for (at, path) in some.iter().enumerate() {
                variables[format!("p{at}")] = path.as_str().into();
            }
            let data: std::collections::BTreeMap<String, Option<Node>> = self.graphql(&text, variables).await?;
            found.extend(data.into_values().flatten().filter_map(|node| node.scanned(query)));
        }
        Ok(found)
    }

    async fn graphql<T: serde::de::DeserializeOwned>(&self, query: &str, variables: Value) -> Result<T, GitlabError> {
        let answer: Answered<T> =
            self.json(Call::graphql(json!({ "query": query, "variables": variables }), TIMEOUT)).await?;
        if let Some(error) = answer.errors.into_iter().flatten().next() {
            // Limits of the application come like this too, with the status of a success.
            let status = if error.message.contains("too many times") {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                StatusCode::BAD_REQUEST
            };
            return Err(self.refused(status, error.message));
        }
        answer.data.ok_or_else(|| self.unreachable(&"its answer to a GraphQL query has neither data nor errors", true))
    }

    fn refused(&self, status: StatusCode, message: String) -> GitlabError {
        let refusal = Refusal { status, asked: "a GraphQL query".to_owned(), message, needs: "" };
        GitlabError::Answer { url: self.url().to_string(), refusal: Box::new(refusal) }
    }
}

/// Whether fewer projects at once may work.
#[must_use]
pub fn is_too_complex(error: &GitlabError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.message.contains("complexity"))
}

/// Whether GraphQL is not to be had here: an instance that is too old, or a token that may not.
#[must_use]
pub fn is_refused(error: &GitlabError) -> bool {
    error.refusal().is_some_and(|refusal| {
        matches!(refusal.status.as_u16(), 400 | 403 | 404 | 405 | 410) && refusal.asked.contains("raphql")
            || refusal.status == StatusCode::BAD_REQUEST && !refusal.message.contains("complexity")
    })
}

impl ScanQuery {
    fn parameters(&self) -> String {
        let references: Vec<String> = (0..self.references.len()).map(|at| format!(", $ref{at}: String!")).collect();
        format!("$paths: [String!]!, $files: Int!, $pipelines: Int!{}", references.concat())
    }

    fn variables(&self) -> Value {
        let mut variables = json!({ "paths": self.paths, "files": self.paths.len(), "pipelines": PIPELINES });
        for (at, reference) in self.references.iter().enumerate() {
            variables[format!("ref{at}")] = reference.as_str().into();
        }
        variables
    }

    fn fragment(&self) -> String {
        const PIPELINE: &str = "nodes { id status source createdAt finishedAt }";
        let pipelines = |at: usize| {
            format!(
                "latest{at}: pipelines(ref: $ref{at}, first: $pipelines) {{ {PIPELINE} }} \
                 success{at}: pipelines(ref: $ref{at}, status: SUCCESS, first: $pipelines) {{ {PIPELINE} }}"
            )
        };
        let pipelines: Vec<String> = (0..self.references.len()).map(pipelines).collect();
        let head = if self.head { " tree { lastCommit { sha } }" } else { "" };
        format!(
            "fragment Project on Project {{ id fullPath archived webUrl markedForDeletion repository {{ rootRef{head} \
             blobs(paths: $paths, first: $files) {{ nodes {{ path rawTextBlob }} }} }} {} }}",
            pipelines.join(" ")
        )
    }
}

#[derive(Deserialize)]
struct Answered<T> {
    data: Option<T>,
    errors: Option<Vec<Message>>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

#[derive(Deserialize)]
struct GroupData {
    group: Option<Group>,
}

#[derive(Deserialize)]
struct Group {
    projects: Projects,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Projects {
    page_info: PageInfo,
    nodes: Vec<Option<Node>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

/// A list that may be missing, as everything may that the token may not see.
#[derive(Deserialize)]
struct List<T> {
    nodes: Option<Vec<Option<T>>>,
}

fn items<T>(list: Option<List<T>>) -> impl Iterator<Item = T> {
    list.and_then(|list| list.nodes).into_iter().flatten().flatten()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: String,
    full_path: String,
    archived: Option<bool>,
    web_url: Option<String>,
    marked_for_deletion: Option<bool>,
    repository: Option<Repository>,
    latest0: Option<List<Pipeline>>,
    success0: Option<List<Pipeline>>,
    latest1: Option<List<Pipeline>>,
    success1: Option<List<Pipeline>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Repository {
    root_ref: Option<String>,
    blobs: Option<List<Blob>>,
    tree: Option<Tree>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    path: String,
    raw_text_blob: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tree {
    last_commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Commit {
    sha: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pipeline {
    id: String,
    status: String,
    source: Option<String>,
    created_at: Option<String>,
    finished_at: Option<String>,
}

impl Pipeline {
    fn scanned(self) -> Option<ScannedPipeline> {
        Some(ScannedPipeline {
            id: number(&self.id)?,
            status: self.status.to_ascii_lowercase(),
            source: self.source,
            created_at: self.created_at,
            finished_at: self.finished_at,
        })
    }
}

impl Node {
    fn scanned(self, query: &ScanQuery) -> Option<Scanned> {
        let pipelines = |list| items::<Pipeline>(list).filter_map(Pipeline::scanned).collect();
        let both =
            [(pipelines(self.latest0), pipelines(self.success0)), (pipelines(self.latest1), pipelines(self.success1))];
        let (default_branch, head, files) = match self.repository {
            None => (None, None, Vec::new()),
            Some(repository) => (
                repository.root_ref,
                repository.tree.and_then(|tree| Some(tree.last_commit?.sha)),
                items(repository.blobs).map(|blob| (blob.path, blob.raw_text_blob)).collect(),
            ),
        };
        Some(Scanned {
            id: number(&self.id)?,
            path: self.full_path,
            web_url: self.web_url.unwrap_or_default(),
            is_leaving: self.archived.unwrap_or(false) || self.marked_for_deletion.unwrap_or(false),
            default_branch,
            head,
            files,
            pipelines: both.into_iter().take(query.references.len()).collect(),
        })
    }
}

/// The number in `gid://gitlab/Project/101`.
fn number(id: &str) -> Option<i64> {
    id.rsplit_once('/').map_or(id, |(_, number)| number).parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    #[test]
    fn a_page_is_read_with_all_that_may_be_missing() {
        let query = ScanQuery { paths: vec!["Containerfile".into()], references: vec!["main".into()], head: false };
        let text = r#"{"group":{"projects":{"pageInfo":{"hasNextPage":true,"endCursor":"abc"},"nodes":[
            {"id":"gid://gitlab/Project/101","fullPath":"g/base","archived":false,"webUrl":"https://x/g/base","markedForDeletion":null,
             "repository":{"rootRef":"main","blobs":{"nodes":[{"path":"Containerfile","rawTextBlob":"FROM x\n"},{"path":"bin","rawTextBlob":null}]}},
             "latest0":{"nodes":[{"id":"gid://gitlab/Ci::Pipeline/9","status":"SUCCESS","source":"push","createdAt":"2026-05-12T15:26:29Z","finishedAt":null}]},
             "success0":{"nodes":null}},
            null,
            {"id":"gid://gitlab/Project/105","fullPath":"g/none","archived":true,"webUrl":null,"repository":null,"latest0":null}]}}}"#;
        let data: GroupData = serde_json::from_str(text).unwrap();
        let found: Vec<Scanned> =
            data.group.unwrap().projects.nodes.into_iter().filter_map(|node| node?.scanned(&query)).collect();
        assert_eq!((found.len(), found[0].id, found[0].default_branch.as_deref()), (2, 101, Some("main")));
        assert_eq!(found[0].files, [("Containerfile".into(), Some("FROM x\n".into())), ("bin".into(), None)]);
        let (latest, success) = &found[0].pipelines[0];
        assert_eq!((latest[0].id, latest[0].status.as_str(), success.len()), (9, "success", 0));
        assert!(found[1].is_leaving && found[1].files.is_empty());
    }
}
