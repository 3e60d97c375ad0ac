//! What an administrator should know of the chain, beside its state.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::BoxFuture;

use super::Controller;
use super::scan::some_at_once;
use super::view::words_of;
use crate::chain::facts::{ProjectId, Upstream};
use crate::chain::reconcile;
use crate::protocol::chain::Finding;

impl Controller {
    /// Everything that was found, sorted.
    pub(super) async fn audit(&self) -> Vec<Finding> {
        let mut findings = self.known_findings();
        findings.extend(self.allowlists().await);
        findings.sort();
        findings
    }

    /// What is known without a question.
    #[must_use]
    pub fn known_findings(&self) -> Vec<Finding> {
        let plan = self.decide();
        let state = self.state();
        let mut findings = Vec::new();
        let mut images: BTreeMap<&str, (BTreeSet<&str>, bool)> = BTreeMap::new();
        let mut add = |kind: &str, subject: &str, words: String, is_problem| {
            findings.push(Finding { kind: kind.to_owned(), subject: subject.to_owned(), words, is_problem, age: None });
        };
        for (id, project) in &state.facts.projects {
            let Some(about) = state.about.get(id) else { continue };
            let path = about.path.as_str();
            for finding in &about.findings {
                add("unreadable", path, finding.clone(), true);
            }
            for problem in &about.problems {
                add("problem", path, problem.clone(), true);
            }
            if let Some(decision) =
                plan.decisions.get(id).filter(|decision| matches!(decision.state, reconcile::State::Cycle { .. }))
            {
                add("cycle", path, words_of(&state, &decision.state), true);
            }
            match (&about.hook.problem, about.hook.id) {
                (Some(problem), _) => add("no-webhook", path, problem.clone(), true),
                (None, None) => add(
                    "no-webhook",
                    path,
                    "no webhook is set up: changes are seen by the timer alone".to_owned(),
                    false,
                ),
                (None, Some(_)) => {}
            }
            for edge in &project.edges {
                match &edge.upstream {
                    Upstream::Image(image) => {
                        let users = images.entry(image).or_insert((BTreeSet::new(), true));
                        users.0.insert(path);
                        users.1 &= edge.pinned;
                    }
                    Upstream::Project(upstream) if edge.pinned => {
                        let words = format!(
                            "builds on a fixed digest of {}: it is never rebuilt for that",
                            state.path(*upstream)
                        );
                        add("pinned", path, words, false);
                    }
                    Upstream::Project(_) => {}
                }
            }
        }
        for (id, project) in &state.facts.projects {
            findings.extend(self.own_finding(&state, *id, project));
        }
        for (image, (users, pinned)) in images {
            findings.push(self.image_finding(&state, image, users, pinned));
        }
        findings
    }

    /// Projects that may not pull what they build on: private ones whose job token allowlist leaves them out.
    async fn allowlists(&self) -> Vec<Finding> {
        let mut edges: BTreeMap<ProjectId, Vec<String>> = BTreeMap::new();
        {
            let state = self.state();
            for (id, project) in &state.facts.projects {
                for edge in &project.edges {
                    if let Upstream::Project(upstream) = edge.upstream
                        && state
                            .about
                            .get(&upstream)
                            .is_some_and(|about| about.visibility.as_deref() == Some("private"))
                    {
                        edges.entry(upstream).or_default().push(state.path(*id));
                    }
                }
            }
        }
        let mut work: Vec<BoxFuture<'_, Vec<Finding>>> = Vec::new();
        for (upstream, users) in edges {
            work.push(Box::pin(self.allowlist(upstream, users)));
        }
        some_at_once(work).await.into_iter().flatten().collect()
    }

    async fn allowlist(&self, upstream: ProjectId, users: Vec<String>) -> Vec<Finding> {
        let path = self.state().path(upstream);
        let finding = |kind: &str, subject: String, words| Finding {
            kind: kind.to_owned(),
            subject,
            words,
            is_problem: true,
            age: None,
        };
        match self.gitlab.job_token_allowlist(upstream).await {
            Ok(None) => Vec::new(),
            Ok(Some(allowed)) => {
                let left_out = users.into_iter().filter(|user| !is_allowed(user, &path, &allowed));
                let words = format!(
                    "is not on the job token allowlist of {path}, which is private, so its jobs can't pull what they build on: add it there \
                     (Settings, CI/CD, Job token permissions)"
                );
                left_out.map(|user| finding("not-allowed", user, words.clone())).collect()
            }
            Err(error) => vec![finding("problem", path, format!("its job token allowlist can't be read: {error}"))],
        }
    }
}

/// Whether a project is on a list of projects and groups, or the project itself, which always may.
fn is_allowed(user: &str, itself: &str, allowed: &[String]) -> bool {
    let user = user.to_lowercase();
    user == itself.to_lowercase()
        || allowed.iter().any(|entry| {
            let entry = entry.to_lowercase();
            user == entry || user.strip_prefix(&entry).is_some_and(|rest| rest.starts_with('/'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_allowed_by_name_or_by_its_group() {
        let allowed = ["tools/x".to_owned(), "Images".to_owned()];
        assert!(is_allowed("tools/x", "a/b", &allowed) && is_allowed("images/sub/app", "a/b", &allowed));
        assert!(is_allowed("a/b", "a/b", &[]), "itself");
        assert!(!is_allowed("imagesque/app", "a/b", &allowed) && !is_allowed("tools/xy", "a/b", &allowed));
    }
}
