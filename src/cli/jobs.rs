//! `windlass jobs`: what has become of jobs, as a table or as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;

use super::ask::{SOCKET, ask, columns, unexpected};
use crate::protocol::daemon::{Reply, Request};
use crate::protocol::history::{JOBS_MAX, JobOutcome, JobQuery, JobRow};
use crate::words::rough;

/// How long the daemon may take.
const LIMIT: Duration = Duration::from_secs(15);
/// Jobs that are shown unless something else is said.
const SHOWN: u32 = 50;
/// Digits of a digest that are shown, as podman shows ids.
const DIGITS: usize = 12;
/// What begins a digest.
const ALGORITHM: &str = "sha256:";

/// Jobs that are over: project, user, image, outcome, and how long each part took
///
/// The newest first. `[history]` in windlass.toml says how many are remembered and for how long. Jobs that run now are in `windlass status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  windlass jobs
  windlass jobs --outcome system-failure --since 2days
  windlass jobs --project group/app --user ada
  windlass jobs --image sha256:4bcff63911fc --limit 1000
  windlass jobs --json | jq '.[] | select(.stages[] | .name == \"get_sources\" and .ms > 60000) | .job_id'")]
pub struct JobsArgs {
    /// Jobs of this project: its path or id, with or without the GitLab's host before it
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Jobs of this user: login or id
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Jobs that ran in this image, or beside it as helper or service: a digest or an id, or how it begins, with or without "sha256:"
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub image: Option<String>,
    /// Jobs with this outcome: success, failed, canceled, timeout, system-failure or runner-gone
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    pub outcome: Option<JobOutcome>,
    /// Jobs that ended within this time, such as 90m or 2days
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = SHOWN, value_parser = clap::value_parser!(u32).range(1..=i64::from(JOBS_MAX)))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// The daemon's socket
    #[arg(long, value_name = "PATH", default_value = SOCKET)]
    pub socket: PathBuf,
}

fn outcome(word: &str) -> Result<JobOutcome, String> {
    let known = || JobOutcome::ALL.map(JobOutcome::word).join(", ");
    JobOutcome::of(word).ok_or_else(|| format!("there are {}", known()))
}

fn digest(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix(ALGORITHM).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(
            "a digest has hexadecimal digits, such as sha256:4bcff63911fc; `podman images --digests` shows them"
                .to_owned(),
        );
    }
    Ok(digits.to_ascii_lowercase())
}

/// Prints them.
///
/// # Errors
/// When the daemon does not answer, or its history can't be read.
pub fn run(arguments: &JobsArgs) -> Result<u8> {
    let since = match arguments.since {
        Some(ago) => Some(milliseconds(SystemTime::now().checked_sub(ago).context("--since is before all time")?)),
        None => None,
    };
    let query = JobQuery {
        project: arguments.project.clone(),
        user: arguments.user.clone(),
        image: arguments.image.clone(),
        outcome: arguments.outcome,
        since,
        limit: arguments.limit,
    };
    let jobs = match ask(&arguments.socket, &Request::Jobs(query), LIMIT)? {
        Reply::Jobs { jobs } => jobs,
        _ => return Err(unexpected()),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&jobs)?);
    } else if jobs.is_empty() {
        eprintln!("no such job is over and still remembered; `windlass status` shows those that run");
    } else {
        print!("{}", table(&jobs, milliseconds(SystemTime::now())));
    }
    Ok(0)
}

fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The jobs for people.
fn table(jobs: &[JobRow], now: i64) -> String {
    let head =
        ["ENDED", "JOB", "PROJECT", "NAME", "USER", "OUTCOME", "WAITED", "PREPARE", "SCRIPT", "ALL", "IMAGE", "DIGEST"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(jobs.iter().map(|job| row(job, now)));
    let mut text = columns(&rows);
    for job in jobs {
        if let Some(reason) = &job.reason {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "job {}: {reason}", job.job_id);
        }
    }
    text
}

fn row(job: &JobRow, now: i64) -> [String; 12] {
    let image = job.images.iter().find(|image| image.role == "job");
    let digest = image.and_then(|image| image.digest.as_deref()).unwrap_or_default();
    let ago = u64::try_from(now.saturating_sub(job.ended) / 1000).unwrap_or(0);
    let outcome = match job.exit_code {
        Some(code) => format!("{} ({code})", job.outcome),
        None => job.outcome.to_string(),
    };
    let user = job.user.clone().or_else(|| job.user_id.map(|id| id.to_string()));
    [
        format!("{} ago", rough(ago)),
        job.job_id.to_string(),
        job.project_path.clone(),
        job.name.clone().unwrap_or_default(),
        user.unwrap_or_default(),
        outcome,
        seconds(Some(job.waited_ms)),
        seconds(job.prepare_ms),
        seconds(script_ms(job)),
        seconds(Some(job.duration_ms)),
        image.map(|image| image.name.clone()).unwrap_or_default(),
        digest.strip_prefix(ALGORITHM).unwrap_or(digest).chars().take(DIGITS).collect(),
    ]
}

/// What the user's own stages took.
fn script_ms(job: &JobRow) -> Option<u64> {
    let own = job.stages.iter().filter(|stage| stage.name == "build_script" || stage.name.starts_with("step_"));
    let took: Vec<u64> = own.filter_map(|stage| stage.ms).collect();
    (!took.is_empty()).then(|| took.iter().sum())
}

/// Tenths of seconds up to a minute, then in words.
fn seconds(ms: Option<u64>) -> String {
    match ms {
        None => String::new(),
        Some(ms) if ms < 60_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        Some(ms) => rough(ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::history::{JobImage, StageResult, StageRow};

    #[test]
    fn the_table_has_times_outcome_and_digest_and_below_it_the_reasons() {
        let job = JobRow {
            lease: "0123".into(),
            attempts: 1,
            instance: "gitlab.example.com".into(),
            job_id: 11,
            project_id: 7,
            project_path: "g/p".into(),
            name: Some("test".into()),
            reference: None,
            pipeline: None,
            protected: false,
            user_id: Some(3),
            user: None,
            profile: "default".into(),
            slot: Some(0),
            outcome: JobOutcome::Failed,
            exit_code: Some(3),
            reason: Some("build_script ended with exit code 3".into()),
            came: 0,
            waited_ms: 0,
            prepare_ms: Some(140),
            ended: 100_000,
            duration_ms: 99_000,
            memory_peak: None,
            cpu_us: None,
            written: None,
            images: vec![JobImage {
                role: "job".into(),
                name: "docker.io/library/alpine:3".into(),
                id: "ab".into(),
                digest: Some("sha256:0123456789abcdef".into()),
                other_digests: Vec::new(),
            }],
            stages: vec![StageRow {
                name: "build_script".into(),
                began: 0,
                ms: Some(61_500),
                result: StageResult::Exited { exit_code: 3 },
            }],
        };
        let expected = "\
ENDED   JOB  PROJECT  NAME  USER  OUTCOME     WAITED  PREPARE  SCRIPT  ALL     IMAGE                       DIGEST
5s ago  11   g/p      test  3     failed (3)  0.0s    0.1s     1m 1s   1m 39s  docker.io/library/alpine:3  0123456789ab
job 11: build_script ended with exit code 3
";
        assert_eq!(table(&[job], 105_000), expected);
    }

    #[test]
    fn a_digest_is_hexadecimal_with_or_without_its_algorithm() {
        assert_eq!(digest("sha256:4BCF").as_deref(), Ok("4bcf"));
        assert_eq!(digest("4bcf").as_deref(), Ok("4bcf"));
        assert!(digest("alpine:3").is_err() && digest("sha256:").is_err());
        assert!(outcome("runner-gone").is_ok() && outcome("gone").is_err());
    }
}
