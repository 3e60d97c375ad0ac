//! GitLab's API.

mod verify;

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Certificate, StatusCode, Url};
use serde::Deserialize;
use thiserror::Error;

use crate::config::GitlabSettings;
use crate::job::Secret;

pub use verify::Refused;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Calls GitLab.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
}

/// A call that failed.
#[derive(Debug, Error)]
pub enum GitlabError {
    /// GitLab has answered that it does not want to.
    #[error("GitLab at {url} answers {status}")]
    Answer {
        /// Where it is.
        url: String,
        /// The status of its answer.
        status: StatusCode,
    },
    /// It could not be asked, or what it says is unreadable.
    #[error("GitLab at {url}: {reason}")]
    Unreachable {
        /// Where it is.
        url: String,
        /// Why, without anything secret.
        reason: String,
    },
}

impl GitlabError {
    /// Whether asking again may help: not after a clear answer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Answer { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
        }
    }
}

/// What GitLab says about the job that a token belongs to (`GET /job`, doc/api/jobs.md: only while the job runs).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RunningJob {
    /// Its id.
    pub id: i64,
    /// Its page: the instance as people know it, the project's path, and the id.
    pub web_url: String,
    /// Its pipeline.
    pub pipeline: PipelineOfJob,
}

/// The pipeline of a job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PipelineOfJob {
    /// The project's id.
    pub project_id: i64,
}

impl Client {
    /// A client for the GitLab of these settings; none where they name no GitLab.
    ///
    /// # Errors
    /// When its certificates can't be read, or the system has none at all.
    pub fn new(settings: &GitlabSettings) -> Result<Option<Self>> {
        let Some(url) = &settings.url else { return Ok(None) };
        let mut builder = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A redirection would carry a token to wherever it leads.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &settings.ca_file {
            let pem = std::fs::read(file).with_context(|| format!("read [gitlab] ca_file {}", file.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("[gitlab] ca_file {} has no certificates (PEM)", file.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().context("make an HTTP client")?;
        let mut url = Url::parse(url).with_context(|| format!("[gitlab] url {url}"))?;
        // Without it the last word would be replaced and not followed.
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Some(Self { http, url }))
    }

    /// The path that GitLab has on its host, without slashes around it; mostly empty.
    fn root(&self) -> &str {
        self.url.path().trim_matches('/')
    }

    /// The job that a job token belongs to.
    ///
    /// # Errors
    /// [`GitlabError`]; 401 for a token of no running job.
    pub async fn job_of(&self, token: &Secret) -> Result<RunningJob, GitlabError> {
        let unreachable = |reason: &dyn fmt::Display| GitlabError::Unreachable {
            url: self.url.to_string(),
            reason: reason.to_string(),
        };
        let url = self.url.join("api/v4/job").map_err(|error| unreachable(&error))?;
        let sent = self.http.get(url).header("JOB-TOKEN", token.expose()).send().await;
        let mut answer = sent.map_err(|error| unreachable(&causes(&error)))?;
        if !answer.status().is_success() {
            return Err(GitlabError::Answer { url: self.url.to_string(), status: answer.status() });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(&causes(&error)))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                return Err(unreachable(&format!("its answer has more than {ANSWER_MAX} bytes")));
            }
        }
        serde_json::from_slice(&body).map_err(|error| {
            unreachable(&format!("its answer is not what /job says (line {}, column {})", error.line(), error.column()))
        })
    }
}

/// An error with what caused it, without the address: that is said already.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    match (text.is_empty(), error.is_timeout()) {
        (_, true) => format!("no answer within {}", humantime::format_duration(TIMEOUT)),
        (true, _) => "the request failed".to_owned(),
        _ => text,
    }
}
