//! Tokens, and what their users may do where.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Project;

/// The roles that something depends on, as GitLab numbers them.
pub const REPORTER: u32 = 20;
/// May push, and start pipelines of branches that are not protected.
pub const DEVELOPER: u32 = 30;
/// May do what a chain needs.
pub const MAINTAINER: u32 = 40;

/// A personal, project or group access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Token {
    /// What is sent.
    pub token: String,
    /// The name of its user.
    pub username: String,
    /// `api`, `read_api`, `read_user`, `read_repository`, ...
    pub scopes: Vec<String>,
    /// The day on which it ends, as `2026-05-12`.
    pub expires_at: Option<String>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Its user's role in everything within reach; 0 is none.
    pub role: u32,
    /// Roles in single groups or projects, by full path; the longest path decides.
    pub roles: BTreeMap<String, u32>,
}

impl Default for Token {
    fn default() -> Self {
        Self {
            token: String::new(),
            username: "group_9_bot".into(),
            scopes: vec!["api".into()],
            expires_at: None,
            revoked: false,
            role: MAINTAINER,
            roles: BTreeMap::new(),
        }
    }
}

/// What a request may do in a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access(pub u32);

impl Token {
    /// Whether its day is over.
    pub fn is_expired(&self, today: &str) -> bool {
        self.expires_at.as_deref().is_some_and(|end| end <= today)
    }

    /// Whether it has one of these scopes.
    pub fn has_scope(&self, wanted: &[&str]) -> bool {
        self.scopes.iter().any(|scope| wanted.contains(&scope.as_str()))
    }

    /// Its user's role in a project. Who has none may see internal and public ones, and no more.
    pub fn access(&self, project: &Project) -> Option<Access> {
        let path = project.path.to_lowercase();
        let within = |prefix: &str| {
            let prefix = prefix.to_lowercase();
            path == prefix || path.strip_prefix(&prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let nearest = self.roles.iter().filter(|(prefix, _)| within(prefix)).max_by_key(|(prefix, _)| prefix.len());
        let role = nearest.map_or(self.role, |(_, role)| *role);
        (role > 0 || project.visibility != "private").then_some(Access(role))
    }
}
