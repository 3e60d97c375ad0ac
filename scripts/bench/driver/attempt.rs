//! A job as gitlab-runner drives it: one temporary directory, one environment, and calls of four executables.
//!
//! Windlass and the scripts on podman are driven by the same code; only the executables differ.

use std::fs::{DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Result;
use super::call::{Done, call};
use super::options::Options;

/// The stages of a job with a cache and artifacts, in gitlab-runner's order.
pub const STAGES: [&str; 8] = [
    "prepare_script",
    "get_sources",
    "restore_cache",
    "build_script",
    "after_script",
    "archive_cache",
    "upload_artifacts_on_success",
    "cleanup_file_variables",
];

/// How long the daemon may take to remove a job's container.
const TEARDOWN: Duration = Duration::from_secs(60);
/// How often it is asked whether it has.
const ASK: Duration = Duration::from_millis(10);

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Whose executables are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The shims.
    Ours,
    /// The scripts on podman.
    Peer,
}

/// A job under way.
#[derive(Debug)]
pub struct Attempt<'a> {
    options: &'a Options,
    side: Side,
    directory: PathBuf,
    environment: Vec<(String, String)>,
}

impl<'a> Attempt<'a> {
    /// Makes what gitlab-runner makes before it calls the first executable.
    pub fn new(options: &'a Options, side: Side) -> Result<Self> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = options.work.join(format!("job-{id}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|error| format!("make {}: {error}", directory.display()))?;
        let at = |name: &str| directory.join(name).display().to_string();
        let environment = [
            ("TMPDIR", directory.display().to_string()),
            ("BUILD_FAILURE_EXIT_CODE", "1".into()),
            ("SYSTEM_FAILURE_EXIT_CODE", "2".into()),
            ("BUILD_EXIT_CODE_FILE", at("build_exit_code")),
            ("JOB_RESPONSE_FILE", at("response.json")),
            ("CUSTOM_ENV_CI_JOB_ID", id.to_string()),
            ("CUSTOM_ENV_CI_JOB_IMAGE", options.image.clone()),
            ("CUSTOM_ENV_CI_PROJECT_ID", "7".into()),
            ("CUSTOM_ENV_CI_CONCURRENT_PROJECT_ID", "0".into()),
            ("CUSTOM_ENV_CI_RUNNER_ID", "1".into()),
            ("CUSTOM_ENV_CI_JOB_SERVICES", String::new()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let attempt = Self { options, side, directory, environment };
        let response = json!({
            "id": id,
            "token": "bench",
            "job_info": {"name": "bench", "stage": "test", "project_id": 7, "project_name": "bench"},
            "git_info": {"repo_url": "https://gitlab.example.com/windlass/bench.git", "ref": "main", "ref_type": "branch"},
            "runner_info": {"timeout": 3600},
            "image": {"name": options.image},
        });
        attempt.write("response.json", &response.to_string())?;
        Ok(attempt)
    }

    /// Calls config and takes over what it answers.
    pub fn config(&mut self) -> Result<Duration> {
        let done = self.call("config", &[])?;
        let answer: Value =
            serde_json::from_slice(&done.stdout).map_err(|error| format!("config's answer: {error}"))?;
        for (name, value) in answer["job_env"].as_object().into_iter().flatten() {
            let value = value.as_str().ok_or("config's answer: job_env holds more than strings")?;
            self.environment.push((name.clone(), value.to_owned()));
        }
        Ok(done.elapsed)
    }

    /// Calls prepare.
    pub fn prepare(&self) -> Result<Duration> {
        self.call("prepare", &[]).map(|done| done.elapsed)
    }

    /// Calls run with a script.
    pub fn run(&self, stage: &str, script: &str) -> Result<Done> {
        // gitlab-runner, too, writes each script to a file of its own before it starts the executable.
        let script = self.write(&format!("script-{stage}"), script)?;
        self.call("run", &[&script.display().to_string(), stage])
    }

    /// Calls cleanup.
    pub fn cleanup(&self) -> Result<Duration> {
        self.call("cleanup", &[]).map(|done| done.elapsed)
    }

    /// Waits until nothing of the job is left; returns how long that took. Without it, what the daemon still takes down
    /// in the background would burden whoever is measured next.
    pub fn gone(&self) -> Result<Duration> {
        let since = Instant::now();
        if self.side == Side::Peer {
            return Ok(since.elapsed());
        }
        while since.elapsed() < TEARDOWN {
            let mut status = Command::new(&self.options.windlass);
            status.args(["status", "--json", "--socket"]).arg(&self.options.socket).stdin(Stdio::null());
            let status: Value = serde_json::from_slice(&call(&mut status)?.stdout)
                .map_err(|error| format!("windlass status --json: {error}"))?;
            if status["leases"].as_array().is_some_and(Vec::is_empty) {
                return Ok(since.elapsed());
            }
            std::thread::sleep(ASK);
        }
        Err(format!("the job's container was not removed within {} s", TEARDOWN.as_secs()))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        std::fs::write(&path, text)
            .and_then(|()| File::open(&path)?.set_permissions(Permissions::from_mode(0o600)))
            .map_err(|error| format!("write {}: {error}", path.display()))?;
        Ok(path)
    }

    fn call(&self, step: &str, arguments: &[&str]) -> Result<Done> {
        let mut command = match self.side {
            Side::Ours => {
                let mut command = Command::new(self.options.libexec.join(format!("windlass-{step}")));
                command.arg("--socket").arg(&self.options.socket);
                command
            }
            Side::Peer => Command::new(self.options.peer.join(format!("{step}.sh"))),
        };
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        call(command.args(arguments).envs(environment).current_dir(&self.directory).stdin(Stdio::null()))
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // The script removes the directory that this one is in.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
