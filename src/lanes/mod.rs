//! Lanes: a project's place on this host, by its key.

pub mod ranges;

use std::fmt;

use crate::job::Job;

/// Who shares a lane, and a range of user ids: jobs of one project of one GitLab instance, of protected refs or of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Host of the GitLab instance: two of them both have a project 7.
    pub instance: String,
    /// GitLab's id of the project.
    pub project: i64,
    /// Whether for protected refs.
    pub protected: bool,
}

impl From<&Job> for Key {
    fn from(job: &Job) -> Self {
        Self { instance: job.instance.clone(), project: job.project_id, protected: job.protected }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.protected { "protected" } else { "unprotected" };
        write!(f, "{} {} {kind}", self.instance, self.project)
    }
}
