//! A pass: what is decided, noted, and started.
//!
//! A start is on record before it is sent and settled after. Where nobody knows whether GitLab has heard of it, its pipeline is looked for
//! before anything is sent again (`doubt`).

use std::collections::BTreeSet;

use super::Controller;
use super::hooks::host_now;
use super::view::{reason, words_of};
use crate::chain::facts::{Inputs, Outcome, Pipeline, ProjectId, Status, Success, Time, Upstream};
use crate::chain::reconcile::{Limits, Plan, State, decide};
use crate::gitlab::{GitlabError, parse_time};
use crate::store::{StartNote, StartRow};

/// Rounds of a pass: each start may make another possible.
const ROUNDS: usize = 100;

/// After so many starts of a round that GitLab is to blame for, the others wait for the next pass.
const TROUBLES_MAX: u32 = 3;

/// What came of a start.
enum Started {
    /// There is a pipeline.
    Yes,
    /// There is none, because of this project.
    No,
    /// There is none, or nobody knows, because of GitLab or the database.
    Trouble,
}

impl Controller {
    /// Takes up what an earlier daemon left: events that nobody has looked at.
    pub(super) async fn take_up(&self) {
        match self.store.open_events().await {
            Ok(events) => self.state().dirty.extend(events.into_iter().map(|event| event.project)),
            Err(error) => tracing::error!("{error:#}"),
        }
    }

    /// What bounds a pass now.
    pub(super) fn limits(&self) -> Limits {
        let settle = Time::try_from(self.settings.settle.as_millis()).unwrap_or(Time::MAX);
        let max_running = usize::try_from(self.settings.max_running).unwrap_or(usize::MAX);
        Limits { now: self.gitlab.now(), max_running, settle, quiet: self.quiet().is_some() }
    }

    /// Why nothing is started now.
    pub(super) fn quiet(&self) -> Option<&'static str> {
        if self.state().paused {
            return Some("the chain is paused");
        }
        self.in_quiet_hours().then_some("it is the hour for quiet")
    }

    /// What is to be done now.
    pub(super) fn decide(&self) -> Plan {
        let limits = self.limits();
        decide(&self.state().facts, &limits)
    }

    /// Decides, notes what has changed, and starts what is due. Whether time alone will bring something on soon.
    pub(super) async fn pass(&self) -> bool {
        self.resolve().await;
        for _ in 0..ROUNDS {
            let plan = self.decide();
            self.note(&plan).await;
            let (mut started, mut troubles) = (false, 0);
            if !self.settings.dry_run {
                for (id, inputs) in plan.triggers {
                    match self.start(id, inputs).await {
                        Started::Yes => started = true,
                        Started::No => {}
                        // It may be about this project alone; else it would not work for the next either.
                        Started::Trouble => {
                            troubles += 1;
                            if troubles >= TROUBLES_MAX {
                                break;
                            }
                        }
                    }
                }
            }
            if !started {
                break;
            }
        }
        self.tell().await;
        let plan = self.decide();
        let is_soon = |state: &State| matches!(state, State::Settling | State::Retries { .. } | State::Starting);
        plan.decisions.values().any(|decision| is_soon(&decision.state))
    }

    /// Notes the states that have changed, and since when.
    async fn note(&self, plan: &Plan) {
        let now = self.gitlab.now();
        let mut changed = BTreeSet::new();
        {
            let mut state = self.state();
            for (id, decision) in &plan.decisions {
                let words = words_of(&state, &decision.state);
                let Some(about) = state.about.get_mut(id) else { continue };
                if about.state != words {
                    tracing::info!(project = about.path, from = about.state, to = words, "chain");
                    (about.state, about.state_since) = (words, now);
                    changed.insert(*id);
                }
            }
        }
        if !changed.is_empty() {
            self.save_or_say(changed).await;
        }
    }

    /// Starts a pipeline, if that is still right when GitLab has been asked once more.
    async fn start(&self, id: ProjectId, inputs: Inputs) -> Started {
        // What is on record may be old, from before a restart or a backup, and people start pipelines too.
        if let Err(error) = self.look(id).await {
            tracing::warn!(project = self.state().path(id), "not started: {error:#}");
            self.state().trouble = Some(format!("{error:#}"));
            return Started::Trouble;
        }
        self.state().trouble = None;
        let plan = self.decide();
        if !plan.triggers.iter().any(|(due, wanted)| *due == id && *wanted == inputs) {
            return Started::No;
        }
        let Some((row, reference)) = self.begin(id, inputs, &plan) else { return Started::No };
        if let Err(error) = self.save_start(id, StartNote::Begins(&row)).await {
            // Not on record: then it is not sent.
            tracing::error!(project = row.path, "not started: {error:#}");
            self.state().facts.withdraw_attempt(id);
            return Started::Trouble;
        }
        let answer = self.gitlab.create_pipeline(id, &reference).await;
        let (outcome, words) = self.settle(id, answer);
        self.gitlab.metrics().chain_started(word(outcome.as_ref()));
        tracing::info!(project = row.path, reason = row.reason, outcome = words, "start");
        let row = StartRow {
            outcome: words,
            pending: outcome == Some(Outcome::Pending),
            pipeline: match &outcome {
                Some(Outcome::Created(pipeline)) => Some(*pipeline),
                _ => None,
            },
            ..row
        };
        if let Err(error) = self.save_start(id, StartNote::Ends(&row)).await {
            tracing::error!("{error:#}");
        }
        match outcome {
            Some(Outcome::Created(_)) => Started::Yes,
            Some(Outcome::Failed(_) | Outcome::Refused(_)) => Started::No,
            Some(Outcome::Pending) | None => Started::Trouble,
        }
    }

    /// Begins an attempt: how it goes on record, and of which branch it is; none where it may not be made.
    fn begin(&self, id: ProjectId, inputs: Inputs, plan: &Plan) -> Option<(StartRow, String)> {
        let mut state = self.state();
        let about = state.about.get(&id)?;
        let (path, reference) = (about.path.clone(), self.tracked(about)?.to_owned());
        let decision = plan.decisions.get(&id)?;
        let is_cause = |(upstream, _): &(&Upstream, &Success)| decision.because.contains(upstream);
        let causes = inputs.iter().filter(is_cause).map(|(upstream, success)| (upstream.clone(), *success)).collect();
        let row = StartRow {
            at: host_now(),
            project: id,
            path,
            reason: reason(&state, decision),
            causes: Some(causes),
            outcome: "GitLab is asked for it".to_owned(),
            pending: true,
            pipeline: None,
        };
        state.facts.begin_attempt(id, inputs, self.gitlab.now()).then_some((row, reference))
    }

    /// Takes GitLab's answer to a start in: the outcome, none where it does not count; and what to say of it.
    fn settle(
        &self,
        id: ProjectId,
        answer: Result<crate::gitlab::PipelineRow, GitlabError>,
    ) -> (Option<Outcome>, String) {
        let mut state = self.state();
        let (outcome, words) = match answer {
            Ok(row) => {
                let created_at = row.created_at.as_deref().and_then(parse_time).unwrap_or_else(|| self.gitlab.now());
                state.facts.settle_attempt(id, Outcome::Created(row.id));
                let success = state.facts.projects.get(&id).and_then(|project| project.success);
                state.facts.observe(id, Some(Pipeline { id: row.id, status: Status::Running, created_at }), success);
                state.trouble = None;
                return (Some(Outcome::Created(row.id)), format!("pipeline {}", row.id));
            }
            Err(error) => judge(&error),
        };
        match &outcome {
            Some(outcome) => state.facts.settle_attempt(id, outcome.clone()),
            None => {
                state.trouble = Some(words.clone());
                state.facts.withdraw_attempt(id);
            }
        }
        (outcome, words)
    }
}

/// An outcome in one word; none: it does not count.
pub(super) fn word(outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Created(_)) => "created",
        Some(Outcome::Refused(_)) => "refused",
        Some(Outcome::Failed(_)) => "failed",
        Some(Outcome::Pending) => "in-doubt",
        None => "gitlab",
    }
}

/// What a failed start means: none where it does not count, because GitLab never looked at it or nothing of the project is to blame.
fn judge(error: &GitlabError) -> (Option<Outcome>, String) {
    let words = error.to_string();
    if error.may_have_worked() {
        return (Some(Outcome::Pending), format!("in doubt: {words}"));
    }
    if error.is_about_token() || error.is_transient() {
        return (None, words);
    }
    let message = error.refusal().map(|refusal| refusal.message.clone()).unwrap_or_default();
    let refused = if message.contains("rules configuration prevented") {
        "its rules make no jobs for pipelines from the API (CI_PIPELINE_SOURCE is \"api\")"
    } else if message.contains("Insufficient permissions to set pipeline variables") {
        "it lets nobody set pipeline variables, not even none"
    } else if message.contains("Reference not found") {
        "its branch is not there"
    } else if message.contains("Missing CI config file") {
        "it has no .gitlab-ci.yml"
    } else {
        return (Some(Outcome::Failed(words.clone())), words);
    };
    (Some(Outcome::Refused(refused.to_owned())), format!("refused: {refused}"))
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::gitlab::Refusal;

    fn answer(status: u16, message: &str) -> GitlabError {
        let status = StatusCode::from_u16(status).expect("a status");
        let refusal =
            Refusal { status, asked: "POST projects/1/pipeline".into(), message: message.into(), needs: "the role" };
        GitlabError::Answer { url: "https://gitlab.example.com/".into(), refusal: Box::new(refusal) }
    }

    #[test]
    fn what_gitlab_will_not_do_is_a_state_with_words() {
        for (message, words) in [
            (
                "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs from being added to the pipeline.",
                "rules",
            ),
            ("Insufficient permissions to set pipeline variables", "variables"),
            ("Reference not found", "branch"),
            ("Missing CI config file", ".gitlab-ci.yml"),
        ] {
            let (outcome, _) = judge(&answer(400, message));
            assert!(matches!(&outcome, Some(Outcome::Refused(reason)) if reason.contains(words)), "{outcome:?}");
        }
        assert!(matches!(judge(&answer(400, "something new")).0, Some(Outcome::Failed(_))));
        assert!(matches!(judge(&answer(403, "403 Forbidden")).0, Some(Outcome::Failed(_))));
    }

    #[test]
    fn what_says_nothing_of_the_project_does_not_count_and_a_lost_answer_is_in_doubt() {
        assert_eq!(judge(&answer(401, "401 Unauthorized")).0, None);
        assert_eq!(judge(&answer(403, "insufficient_scope")).0, None);
        assert_eq!(judge(&answer(429, "Retry later")).0, None);
        assert_eq!(judge(&answer(502, "")).0, Some(Outcome::Pending));
        let lost = |was_sent| GitlabError::Unreachable { url: String::new(), reason: "timed out".into(), was_sent };
        assert_eq!(judge(&lost(true)).0, Some(Outcome::Pending));
        assert_eq!(judge(&lost(false)).0, None);
    }
}
