//! GitLab's words for pipelines, and what they mean to the chain. Words that nobody knows yet never stop it.

use super::facts::Status;

/// Sources of pipelines that say nothing of a branch's images: those of merge requests, of other pipelines' children, and all that
/// GitLab itself leaves out of a branch's state ("dangling", config of Enums::Ci::Pipeline).
const SOURCES_ASIDE: [&str; 10] = [
    "merge_request_event",
    "external_pull_request_event",
    "webide",
    "parent_pipeline",
    "ondemand_dast_scan",
    "ondemand_dast_validation",
    "security_orchestration_policy",
    "container_registry_push",
    "duo_workflow",
    "pipeline_execution_policy_schedule",
];

/// Whether a pipeline of this source counts.
#[must_use]
pub fn counts(source: Option<&str>) -> bool {
    source.is_none_or(|source| !SOURCES_ASIDE.iter().any(|aside| aside.eq_ignore_ascii_case(source)))
}

/// The state of a pipeline, or of a job, by GitLab's word. What is not known to be over is not over.
#[must_use]
pub fn status(word: &str) -> Status {
    match word.to_ascii_lowercase().as_str() {
        "success" => Status::Success,
        "failed" => Status::Failed,
        "canceled" => Status::Canceled,
        "skipped" => Status::Skipped,
        "manual" => Status::Manual,
        _ => Status::Running,
    }
}

/// A state in a word, GitLab's where it has one.
#[must_use]
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Success => "success",
        Status::Failed => "failed",
        Status::Canceled => "canceled",
        Status::Skipped => "skipped",
        Status::Manual => "manual",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_of_merge_requests_and_children_are_aside() {
        for source in ["push", "web", "schedule", "api", "trigger", "pipeline", "chat", "something_new"] {
            assert!(counts(Some(source)), "{source}");
        }
        assert!(counts(None), "older ones have none");
        for source in ["merge_request_event", "parent_pipeline", "PARENT_PIPELINE"] {
            assert!(!counts(Some(source)), "{source}");
        }
    }

    #[test]
    fn what_is_not_known_to_be_over_runs() {
        for (word, expected) in [("success", Status::Success), ("SUCCESS", Status::Success), ("manual", Status::Manual)]
        {
            assert_eq!(status(word), expected);
        }
        for word in ["created", "waiting_for_resource", "pending", "running", "canceling", "scheduled", "brand_new"] {
            assert_eq!(status(word), Status::Running, "{word}");
        }
    }
}
