//! What an audit says of images' ages, and of what they were built on.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Controller;
use super::patterns::Images;
use super::state::State;
use super::view::rfc3339;
use crate::chain::age::Verdict;
use crate::chain::facts::{Project, ProjectId, Time};
use crate::protocol::chain::{Finding, ImageAge};
use crate::words::rough;

impl Controller {
    /// An image that no project builds.
    pub(super) fn image_finding(&self, state: &State, image: &str, users: BTreeSet<&str>, pinned: bool) -> Finding {
        let users: Vec<String> = users.into_iter().map(str::to_owned).collect();
        let by = users.join(", ");
        let finding = |words: String, is_problem, age| Finding {
            kind: "external-image".to_owned(),
            subject: image.to_owned(),
            words,
            is_problem,
            age: Some(age),
        };
        let mut age = ImageAge { verdict: "unknown".to_owned(), users, ..ImageAge::default() };
        if pinned {
            return finding(format!("no project of the chain builds it; built on, by its digest, by {by}"), false, age);
        }
        let is_watched = self.registry.is_some() && Images::of(&self.settings.watch).has(image);
        let Some(look) = state.looks.get(image).filter(|_| is_watched) else {
            let why = if is_watched { "not looked up yet" } else { "not watched" };
            return finding(format!("no project of the chain builds it; {why}; built on by {by}"), false, age);
        };
        age.error.clone_from(&look.error);
        let trouble = look.error.as_ref().map_or_else(String::new, |error| {
            let since = look.failed_since.unwrap_or(0);
            format!("; its registry has not answered for {}: {error}", span(self.gitlab.now() - since))
        });
        let Some(seen) = &look.seen else {
            return finding(format!("never seen yet{trouble}; built on by {by}"), true, age);
        };
        let (now, moves) = (self.gitlab.now(), look.moves);
        let verdict = moves.verdict(now, self.max_age());
        age.verdict = verdict.word().to_owned();
        age.moved_at = moves.last.map(rfc3339);
        age.watched_since = Some(rfc3339(moves.since));
        age.every_s = moves.interval().map(|interval| interval / 1000);
        age.digest = Some(seen.platform_digest.to_string());
        let often =
            moves.interval().map_or_else(String::new, |interval| format!(", every {} on average", span(interval)));
        let moved = match moves.last {
            Some(at) => format!("moved {} ago{often}", span(now - at)),
            None => format!("has not moved in the {} since it was seen first", span(now - moves.since)),
        };
        let words = format!("{}: {moved}{trouble}; built on by {by}", verdict.word());
        // A registry that is down now and then is no reason to wake anybody; one whose answers are missing that long is.
        let is_lost = look.failed_since.is_some_and(|since| now - since > self.max_age());
        finding(words, verdict == Verdict::Stale || is_lost, age)
    }

    /// A project's own image: one that was not built for too long, and one that was built on an old base.
    pub(super) fn own_finding(&self, state: &State, id: ProjectId, project: &Project) -> Vec<Finding> {
        let finding = |kind: &str, words: String, age| Finding {
            kind: kind.to_owned(),
            subject: state.path(id),
            words,
            is_problem: true,
            age,
        };
        let mut findings = Vec::new();
        let now = self.gitlab.now();
        if let Some(success) = project.success.filter(|success| now - success.at > self.max_age()) {
            let age = ImageAge {
                verdict: Verdict::Stale.word().to_owned(),
                moved_at: Some(rfc3339(success.at)),
                ..ImageAge::default()
            };
            let words = format!("stale: was built with success {} ago, and not since", span(now - success.at));
            findings.push(finding("own-image", words, Some(age)));
        }
        if let Some(built) = state.built.get(&id).filter(|built| built.on_new == Some(false)) {
            let words = format!("{}; its build has to pull its base (--pull=always --no-cache)", built.words);
            findings.push(finding("old-base", words, None));
        }
        findings
    }
}

/// A time in words.
fn span(time: Time) -> String {
    rough(Duration::from_millis(u64::try_from(time).unwrap_or(0)).as_secs())
}
