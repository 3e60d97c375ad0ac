//! GitLab's API.

mod about;
mod clock;
mod error;
mod graphql;
mod hooks;
mod pipelines;
mod projects;
mod request;
mod token;
mod verify;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use reqwest::{Certificate, Url};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::config::GitlabSettings;
use crate::metrics::Metrics;
use crate::registry::Login;
use crate::sys::secrets::Secret;
use clock::Clock;
use request::{Call, Pace};
use token::Token;

pub use about::{HookEvent, MAINTAINER};
pub use error::{GitlabError, Refusal};
pub use graphql::{Page, ScanQuery, Scanned, ScannedPipeline, is_refused, is_too_complex};
pub use hooks::{HookRow, WishedHook};
pub use pipelines::{JobRow, PipelineRow, PipelinesOf};
pub use projects::{ProjectRow, parse_end, parse_time};
pub use verify::Refused;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at once.
const AT_ONCE: usize = 4;

/// Calls GitLab.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    token: Token,
    places: Semaphore,
    pace: Pace,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Whether the last request got no answer; before the first nobody knows.
    silent: RwLock<Option<bool>>,
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

/// What GitLab says of the token itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TokenRow {
    /// Its scopes.
    pub scopes: Vec<String>,
    /// The day on which it expires.
    pub expires_at: Option<String>,
}

impl Client {
    /// A client for the GitLab of these settings; none where they name no GitLab.
    ///
    /// # Errors
    /// When its certificates or its token can't be read, or the system has no certificates at all.
    pub fn new(settings: &GitlabSettings) -> Result<Option<Self>> {
        Self::with(settings, || Token::read(settings.token_file.as_deref()))
    }

    /// The same for what is asked with a token of somebody else's alone.
    ///
    /// # Errors
    /// As [`Client::new`] has them, but for the token.
    pub fn without_token(settings: &GitlabSettings) -> Result<Option<Self>> {
        Self::with(settings, || Ok(Token::default()))
    }

    fn with(settings: &GitlabSettings, token: impl Fn() -> Result<Token>) -> Result<Option<Self>> {
        let Some(url) = &settings.url else { return Ok(None) };
        let mut builder = reqwest::Client::builder()
            // A redirection would carry a token to wherever it leads.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("windlass/", env!("CARGO_PKG_VERSION")));
        if let Some(proxy) = &settings.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).with_context(|| format!("[gitlab] proxy {proxy}"))?);
        }
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
        Ok(Some(Self {
            http,
            url,
            token: token()?,
            places: Semaphore::new(AT_ONCE),
            pace: Pace::default(),
            clock: Clock::default(),
            metrics: Arc::default(),
            silent: RwLock::default(),
        }))
    }

    /// One whose requests are counted there.
    #[must_use]
    pub fn measured(mut self, metrics: &Arc<Metrics>) -> Self {
        self.metrics = Arc::clone(metrics);
        self
    }

    /// Where its requests are counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether GitLab answered when it was asked last; none: it was not asked yet.
    #[must_use]
    pub fn answers(&self) -> Option<bool> {
        self.silent.read().unwrap_or_else(PoisonError::into_inner).map(|silent| !silent)
    }

    /// Counts a request; the answer's status, if there was one.
    fn count(&self, status: Option<u16>, since: Instant) {
        self.metrics.gitlab_asked(status, since.elapsed());
        // Who is in front of a GitLab that is down says 502, 503 or 504.
        let silent = status.is_none_or(|status| matches!(status, 502..=504));
        *self.silent.write().unwrap_or_else(PoisonError::into_inner) = Some(silent);
    }

    /// Whether there is a token for everything but questions about jobs.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.token.is_there()
    }

    /// The token as a login for GitLab's own registry (any user name goes with it). Only GitLab itself may see it: a registry that sends
    /// people elsewhere for their login learns nothing.
    #[must_use]
    pub fn registry_login(&self) -> Option<Login> {
        let host = self.url.host_str()?.to_owned();
        Some(Login { user: "windlass".to_owned(), password: self.token.get()?, only_to: Some([host].into()) })
    }

    /// Where GitLab is, with a slash at the end.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The hosts by which this GitLab is known: with and without its port.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let host = self.url.host_str().unwrap_or_default().to_owned();
        let with_port = self.url.port().map(|port| format!("{host}:{port}"));
        [host].into_iter().chain(with_port).collect()
    }

    /// The path that GitLab has on its host, without slashes around it; mostly empty.
    fn root(&self) -> &str {
        self.url.path().trim_matches('/')
    }

    /// Now, by GitLab's clock as far as its answers tell: milliseconds since 1970.
    #[must_use]
    pub fn now(&self) -> i64 {
        host_now() + self.clock.ahead()
    }

    /// The job that a job token belongs to.
    ///
    /// # Errors
    /// [`GitlabError`]; 401 for a token of no running job.
    pub async fn job_of(&self, token: &Secret) -> Result<RunningJob, GitlabError> {
        let call = Call::get("job").with_job_token(token).once();
        self.json(call).await
    }

    /// What GitLab says of the token.
    ///
    /// # Errors
    /// [`GitlabError`]; 404 where the token is none that GitLab describes.
    pub async fn token(&self) -> Result<TokenRow, GitlabError> {
        self.json(Call::get("personal_access_tokens/self")).await
    }

    /// The name of the user that the token is of.
    ///
    /// # Errors
    /// [`GitlabError`]
    pub async fn username(&self) -> Result<String, GitlabError> {
        #[derive(Deserialize)]
        struct User {
            username: String,
        }
        Ok(self.json::<User>(Call::get("user")).await?.username)
    }
}

/// Milliseconds since 1970 by this host's clock.
fn host_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
