//! A job response as GitLab would send it for this job.

use serde_json::{Value, json};

/// The job response; `url` is the repository's.
pub fn job_response(image: &str, variables: &[(String, String)], url: &str) -> Value {
    let id = std::process::id();
    let variables: Vec<Value> = variables
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value, "public": true, "file": false, "masked": false, "raw": true}))
        .collect();
    json!({
        "id": id,
        "token": "",
        "allow_git_fetch": true,
        "job_info": {"name": "windlass try", "stage": "test", "project_id": 1, "project_name": "try", "project_full_path": "windlass/try"},
        "git_info": {"repo_url": url, "ref": "main", "sha": "0".repeat(40), "ref_type": "branch", "refspecs": [], "depth": 0, "protected": false},
        "runner_info": {"timeout": 3600},
        "variables": variables,
        "steps": [{"name": "script", "script": [], "timeout": 3600, "when": "on_success", "allow_failure": false}],
        "image": {"name": image},
        "services": null,
        "features": {"trace_sections": true, "failure_reasons": ["script_failure", "runner_system_failure", "job_execution_timeout"]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job;

    #[test]
    fn the_daemon_understands_it() {
        let response = job_response("alpine", &[("A".into(), "b".into())], "https://gitlab.example.com/g/p.git");
        let job = Job::parse(response.to_string().as_bytes()).expect("valid");
        assert_eq!(
            (job.project_path.as_str(), job.instance.as_str(), job.image.as_deref()),
            ("windlass/try", "gitlab.example.com", Some("alpine"))
        );
    }
}
