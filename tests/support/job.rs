//! A job as the tests describe it, and the payload that GitLab would send for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::wait::seconds;

/// Job ids of this test program; those of others start elsewhere.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A GitLab job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: u64,
    /// The project's id.
    pub project: u64,
    /// The project's full path.
    pub project_path: String,
    /// Whether its ref is protected; older GitLab does not tell.
    pub protected: Option<bool>,
    /// The image it names.
    pub image: Option<String>,
    /// `image: entrypoint:`.
    pub entrypoint: Option<Vec<String>>,
    /// The lines of `script`.
    pub script: Vec<String>,
    /// The lines of `after_script`.
    pub after_script: Vec<String>,
    /// The pipeline's variables.
    pub variables: Vec<(String, String)>,
    /// The job's timeout.
    pub timeout: Duration,
    /// The `--profile` of the runner that took it.
    pub profile: Option<String>,
    /// Where its repository is; without one GIT_STRATEGY is none.
    pub repository: Option<Repository>,
    /// Whether it has an artifact and a cache.
    pub artifacts: bool,
    /// Canceled in GitLab as soon as the job log contains this.
    pub cancel_when: Option<String>,
    /// Pause between attempts to prepare; gitlab-runner's is 3 seconds.
    pub prepare_pause: Duration,
    /// gitlab-runner's graceful_kill_timeout.
    pub graceful_kill: Duration,
    /// Keeps only length and digest of what user stages print.
    pub digest_only: bool,
    /// Variables that are not public.
    pub secrets: Vec<(String, String)>,
    /// Variables that are files.
    pub files: Vec<(String, String)>,
    /// Parts of the payload that are otherwise.
    pub payload: Vec<(String, Value)>,
}

/// A repository to clone.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Its URL as the job's container reaches it.
    pub url: String,
    /// The commit.
    pub sha: String,
}

impl Job {
    /// A job of project 7 that runs `true` in `image`.
    pub fn new(image: &str) -> Self {
        let id = u64::from(std::process::id()) * 1000 + NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            id,
            project: 7,
            project_path: "group/project".into(),
            protected: Some(false),
            image: Some(image.into()),
            entrypoint: None,
            script: vec!["true".into()],
            after_script: Vec::new(),
            variables: Vec::new(),
            timeout: seconds(3600),
            profile: None,
            repository: None,
            artifacts: false,
            cancel_when: None,
            prepare_pause: Duration::from_millis(100),
            graceful_kill: seconds(20),
            digest_only: false,
            secrets: Vec::new(),
            files: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// With these lines as its script.
    pub fn script(mut self, lines: &[&str]) -> Self {
        self.script = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// With this after_script.
    pub fn after_script(mut self, lines: &[&str]) -> Self {
        self.after_script = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// With a variable of the pipeline's.
    pub fn variable(mut self, key: &str, value: &str) -> Self {
        self.variables.push((key.into(), value.into()));
        self
    }

    /// With a variable that is not public.
    pub fn secret(mut self, key: &str, value: &str) -> Self {
        self.secrets.push((key.into(), value.into()));
        self
    }

    /// With a variable that is a file.
    pub fn file(mut self, key: &str, content: &str) -> Self {
        self.files.push((key.into(), content.into()));
        self
    }

    /// With this instead of a part of the payload, such as `services`.
    pub fn with(mut self, part: &str, value: Value) -> Self {
        self.payload.push((part.into(), value));
        self
    }

    /// With `image: entrypoint:`.
    pub fn entrypoint(mut self, entrypoint: &[&str]) -> Self {
        self.entrypoint = Some(entrypoint.iter().map(|word| (*word).to_owned()).collect());
        self
    }

    /// Taken by a runner whose `config_args` name this profile.
    pub fn profile(mut self, profile: &str) -> Self {
        self.profile = Some(profile.into());
        self
    }

    /// With this timeout.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Of this project.
    pub fn project(mut self, id: u64, path: &str) -> Self {
        (self.project, self.project_path) = (id, path.into());
        self
    }

    /// Canceled as soon as its log contains `text`.
    pub fn cancel_when(mut self, text: &str) -> Self {
        self.cancel_when = Some(text.into());
        self
    }

    /// The project's directory in the container.
    pub fn project_dir(&self) -> String {
        format!("/builds/{}", self.project_path)
    }

    /// The variables that GitLab sends with it.
    pub fn payload_variables(&self) -> Vec<(String, String)> {
        let strategy = if self.repository.is_some() { "clone" } else { "none" };
        let mut variables: Vec<(String, String)> = [
            ("CI_JOB_ID", self.id.to_string()),
            ("CI_PROJECT_ID", self.project.to_string()),
            ("CI_PROJECT_PATH", self.project_path.clone()),
            ("CI_SERVER_URL", "https://gitlab.example.com".into()),
            ("CI_JOB_TOKEN", self.token()),
            ("GIT_STRATEGY", strategy.into()),
            ("FF_TIMESTAMPS", "false".into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        variables.extend(self.variables.iter().chain(&self.secrets).chain(&self.files).cloned());
        variables
    }

    /// Its job token.
    pub fn token(&self) -> String {
        format!("glcbt-64_job{}", self.id)
    }

    /// The payload, as in the answer to `jobs/request` and, encoded again, in JOB_RESPONSE_FILE.
    pub fn response(&self) -> Value {
        let url = match &self.repository {
            Some(repository) => repository.url.clone(),
            None => format!("https://gitlab-ci-token:{}@gitlab.example.com/{}.git", self.token(), self.project_path),
        };
        let sha = self.repository.as_ref().map_or("0".repeat(40), |repository| repository.sha.clone());
        let timeout = self.timeout.as_secs();
        let step = |name: &str, lines: &[String]| json!({"name": name, "script": lines, "timeout": timeout, "when": "on_success", "allow_failure": name != "script"});
        let mut steps = vec![step("script", &self.script)];
        if !self.after_script.is_empty() {
            steps.push(step("after_script", &self.after_script));
        }
        let variables: Vec<Value> = self
            .payload_variables()
            .into_iter()
            .map(|(key, value)| {
                let among = |list: &[(String, String)]| list.iter().any(|(name, _)| *name == key);
                let public = !among(&self.secrets) && !among(&self.files) && key != "CI_JOB_TOKEN";
                json!({"key": key, "value": value, "public": public, "file": among(&self.files), "masked": false, "raw": false})
            })
            .collect();
        let artifacts = if self.artifacts {
            json!([{"name": "a", "paths": ["out/"], "when": "always", "artifact_type": "archive", "artifact_format": "zip"}])
        } else {
            Value::Null
        };
        let mut response = json!({
            "id": self.id, "token": self.token(), "allow_git_fetch": true,
            "job_info": {
                "name": "test", "stage": "test", "project_id": self.project, "project_name": "project",
                "project_full_path": self.project_path, "pipeline_id": 1, "user_id": 1, "time_in_queue_seconds": 0.5,
                "project_jobs_running_on_instance_runners_count": "0"
            },
            "git_info": {
                "repo_url": url, "ref": "main", "sha": sha, "before_sha": "0".repeat(40), "ref_type": "branch",
                "refspecs": ["+refs/heads/main:refs/remotes/origin/main"], "depth": 0, "protected": self.protected
            },
            "runner_info": {"timeout": timeout},
            "variables": variables,
            "steps": steps,
            "image": {"name": self.image.clone().unwrap_or_default(), "entrypoint": self.entrypoint},
            "services": null,
            "artifacts": artifacts,
            "cache": null,
            "credentials": null,
            "dependencies": null,
            "features": {
                "trace_sections": true,
                "failure_reasons": ["script_failure", "runner_system_failure", "job_execution_timeout", "unknown_failure"]
            }
        });
        for (part, value) in &self.payload {
            response[part] = value.clone();
        }
        response
    }
}
