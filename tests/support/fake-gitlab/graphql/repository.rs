//! Repositories and what is in them.

use async_graphql::{Context, ID, Object, Result, SimpleObject};

use super::asker;
use super::connection::{Connection, Page};
use super::limits::page_cost;
use super::scalars::{BigInt, RefType, Time};
use crate::state;

/// A project's repository.
pub struct Repository {
    /// The project.
    pub project: u64,
}

impl Repository {
    fn see<T>(&self, context: &Context<'_>, look: impl FnOnce(&state::Project) -> Option<T>) -> Result<Option<T>> {
        Ok(asker(context)?.see(|state| state.projects.get(&self.project).and_then(look)))
    }
}

#[Object]
impl Repository {
    // What asks the git server costs one more than other fields.
    #[graphql(complexity = 2)]
    async fn root_ref(&self, context: &Context<'_>) -> Result<Option<String>> {
        self.see(context, |project| project.default_branch.clone())
    }

    #[graphql(complexity = 2)]
    async fn empty(&self, context: &Context<'_>) -> Result<bool> {
        Ok(self.see(context, |project| Some(project.default_branch.is_none()))?.unwrap_or(true))
    }

    #[graphql(complexity = 2)]
    async fn exists(&self) -> bool {
        true
    }

    /// Files that are not there are absent from the answer.
    #[expect(clippy::too_many_arguments, reason = "GitLab's own")]
    #[graphql(complexity = "page_cost(child_complexity + paths.len() + 2, first)")]
    async fn blobs(
        &self,
        context: &Context<'_>,
        paths: Vec<String>,
        #[graphql(name = "ref")] branch: Option<String>,
        ref_type: Option<RefType>,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<Option<Connection<RepositoryBlob>>> {
        let found = self.see(context, |project| {
            let commit = commit(project, branch.as_deref(), ref_type)?;
            let blob = |path: String| commit.files.get(&path).map(|file| RepositoryBlob { path, file: file.clone() });
            Some(paths.into_iter().filter_map(blob).collect::<Vec<_>>())
        })?;
        let numbered = |all: Vec<RepositoryBlob>| (1..).zip(all).collect();
        found.map(|all| Connection::new(numbered(all), &Page { after, before, first, last })).transpose()
    }

    #[graphql(complexity = "child_complexity + 2")]
    async fn tree(
        &self,
        context: &Context<'_>,
        #[graphql(default)] path: String,
        #[graphql(default = false)] recursive: bool,
        #[graphql(name = "ref")] branch: Option<String>,
        ref_type: Option<RefType>,
    ) -> Result<Option<Tree>> {
        self.see(context, |project| {
            project.default_branch.as_ref()?;
            let Some(commit) = commit(project, branch.as_deref(), ref_type) else {
                return Some(Tree { last_commit: None, files: Vec::new() });
            };
            let folder = path.trim_matches('/');
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            let is_in = |file: &str| file.strip_prefix(&prefix).is_some_and(|rest| recursive || !rest.contains('/'));
            let files = commit.files.iter().filter(|(file, _)| is_in(file));
            let last_commit = Commit {
                id: format!("gid://gitlab/Commit/{}", commit.sha).into(),
                sha: commit.sha.clone(),
                title: Some(commit.title().to_owned()),
                message: Some(commit.message.clone()),
                committed_date: Some(Time(commit.created_at)),
            };
            let files = files.map(|(file, content)| (file.clone(), content.id.clone())).collect();
            Some(Tree { last_commit: Some(last_commit), files })
        })
    }
}

fn commit<'p>(project: &'p state::Project, name: Option<&str>, kind: Option<RefType>) -> Option<&'p state::Commit> {
    let Some(kind) = kind else { return project.commit(name) };
    project.branch(name).filter(|branch| branch.is_tag == (kind == RefType::Tags))?.head()
}

/// A file of a repository.
pub struct RepositoryBlob {
    path: String,
    file: state::File,
}

#[Object]
impl RepositoryBlob {
    async fn id(&self) -> ID {
        format!("gid://gitlab/Blob/{}", self.file.id).into()
    }

    async fn path(&self) -> &str {
        &self.path
    }

    async fn name(&self) -> Option<&str> {
        self.path.rsplit('/').next()
    }

    async fn oid(&self) -> &str {
        &self.file.id
    }

    async fn size(&self) -> Option<BigInt> {
        Some(BigInt(self.file.bytes.len()))
    }

    async fn raw_text_blob(&self) -> Option<&str> {
        self.file.text()
    }

    async fn raw_blob(&self) -> Option<String> {
        Some(String::from_utf8_lossy(&self.file.bytes).into_owned())
    }
}

/// A folder of a repository.
pub struct Tree {
    last_commit: Option<Commit>,
    files: Vec<(String, String)>,
}

/// A commit.
#[derive(Clone, SimpleObject)]
struct Commit {
    id: ID,
    sha: String,
    title: Option<String>,
    message: Option<String>,
    committed_date: Option<Time>,
}

/// A file in a folder.
#[derive(SimpleObject)]
pub struct Blob {
    id: ID,
    sha: String,
    name: String,
    path: String,
}

#[Object]
impl Tree {
    #[graphql(complexity = "child_complexity + 2")]
    async fn last_commit(&self) -> Option<Commit> {
        self.last_commit.clone()
    }

    #[graphql(complexity = "page_cost(child_complexity + 1, first)")]
    async fn blobs(
        &self,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<Connection<Blob>> {
        let blob = |(path, id): &(String, String)| Blob {
            id: format!("gid://gitlab/Blob/{id}").into(),
            sha: id.clone(),
            name: path.rsplit('/').next().unwrap_or_default().to_owned(),
            path: path.clone(),
        };
        let all = (1..).zip(self.files.iter().map(blob)).collect();
        Connection::new(all, &Page { after, before, first, last })
    }
}
