//! A project: its repository, its hooks, and how its pipelines go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Hook, JobPlan};
use crate::clock::Time;

/// What files a commit has, by path.
pub type Files = BTreeMap<String, File>;

/// A file of a repository.
#[derive(Debug, Clone)]
pub struct File {
    /// Its content.
    pub bytes: Arc<[u8]>,
    /// The id of its content.
    pub id: String,
}

impl File {
    /// One with this content.
    pub fn new(bytes: &[u8]) -> Self {
        Self { id: id_of(&[b"blob", bytes]), bytes: bytes.into() }
    }

    /// Its content; none where it is no text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok().filter(|text| !text.contains('\0'))
    }
}

/// A commit.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its id.
    pub sha: String,
    /// What it says.
    pub message: String,
    /// When it was made.
    pub created_at: Time,
    /// All files of its tree.
    pub files: Arc<Files>,
}

impl Commit {
    /// The first line of what it says.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }
}

/// A branch or a tag.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Whether it is a tag.
    pub is_tag: bool,
    /// Whether only maintainers may run pipelines on it.
    pub is_protected: bool,
    /// Its commits, the newest last.
    pub commits: Vec<Commit>,
}

impl Branch {
    /// Its newest commit.
    pub fn head(&self) -> Option<&Commit> {
        self.commits.last()
    }
}

/// Which projects' job tokens may reach a project.
#[derive(Debug, Clone)]
pub struct JobTokenScope {
    /// Whether the list counts.
    pub inbound_enabled: bool,
    /// Projects on the list, besides the project itself.
    pub projects: Vec<u64>,
    /// Groups on the list, by path.
    pub groups: Vec<String>,
}

/// A project.
#[derive(Debug, Clone)]
pub struct Project {
    /// Its id.
    pub id: u64,
    /// Its full path.
    pub path: String,
    /// What it is for.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// When something was last done in it.
    pub last_activity_at: Time,
    /// Its default branch; none while it is empty.
    pub default_branch: Option<String>,
    /// Whether it is archived.
    pub archived: bool,
    /// The day on which it was marked for deletion.
    pub marked_for_deletion_on: Option<String>,
    /// `private`, `internal` or `public`.
    pub visibility: String,
    /// Who may use its registry: `enabled`, `private` or `disabled`.
    pub registry: String,
    /// Who may see its pipelines.
    pub builds: String,
    /// Who may see its repository.
    pub repository: String,
    /// Whether it has a CI configuration.
    pub has_ci_config: bool,
    /// Where that is, if not at its usual place.
    pub ci_config_path: Option<String>,
    /// Why its rules let no pipeline be made, as the API says it.
    pub refusal: Option<String>,
    /// The least role that may set variables of a pipeline.
    pub variables_role: u32,
    /// Branches and tags by name.
    pub branches: BTreeMap<String, Branch>,
    /// What its pipelines consist of.
    pub jobs: Vec<JobPlan>,
    /// How long its pipelines take; none: as all do.
    pub auto_ms: Option<u64>,
    /// How its next pipelines end; after that they succeed.
    pub script: VecDeque<String>,
    /// By id.
    pub hooks: BTreeMap<u64, Hook>,
    /// Whose job tokens may reach it.
    pub job_tokens: JobTokenScope,
    /// Its pipelines, the oldest first.
    pub pipelines: Vec<u64>,
    /// The number of its last pipeline within it.
    pub last_iid: u64,
}

impl Project {
    /// The last word of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The path of its group; none at the top.
    pub fn group(&self) -> Option<&str> {
        self.path.rsplit_once('/').map(|(group, _)| group)
    }

    /// The branch or tag that a ref means; none and `HEAD` are the default branch.
    pub fn branch(&self, name: Option<&str>) -> Option<&Branch> {
        match name.filter(|name| *name != "HEAD") {
            Some(name) => {
                let short = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/"));
                self.branches.get(short.unwrap_or(name))
            }
            None => self.branches.get(self.default_branch.as_deref()?),
        }
    }

    /// The commit that a branch, a tag or a commit's id means.
    pub fn commit(&self, name: Option<&str>) -> Option<&Commit> {
        let branch = self.branch(name).and_then(Branch::head);
        branch.or_else(|| self.commit_of(name?))
    }

    /// The commit with this id.
    pub fn commit_of(&self, sha: &str) -> Option<&Commit> {
        self.branches.values().flat_map(|branch| &branch.commits).find(|commit| commit.sha == sha)
    }

    /// Commits these changes on a branch, and makes the branch where it is not there. A file without content is removed.
    pub fn push(
        &mut self,
        name: &str,
        is_tag: bool,
        message: &str,
        changes: BTreeMap<String, Option<File>>,
        now: Time,
    ) {
        let from = self.commit(Some(name)).or_else(|| self.commit(None));
        let mut files = from.map(|commit| (*commit.files).clone()).unwrap_or_default();
        for (path, file) in changes {
            match file {
                Some(file) => files.insert(path, file),
                None => files.remove(&path),
            };
        }
        let is_first = self.default_branch.is_none() && !is_tag;
        if is_first {
            self.default_branch = Some(name.to_owned());
        }
        let branch = self.branches.entry(name.to_owned()).or_insert_with(|| Branch {
            is_tag,
            is_protected: is_first,
            commits: Vec::new(),
        });
        let salt = fastrand::u64(..).to_le_bytes();
        let sha = id_of(&[b"commit", name.as_bytes(), message.as_bytes(), &salt]);
        branch.commits.push(Commit { sha, message: message.to_owned(), created_at: now, files: Arc::new(files) });
        self.last_activity_at = now;
    }
}

/// Forty hexadecimal digits, as git has them.
fn id_of(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}
