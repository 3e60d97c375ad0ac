//! One registry: where it is, how it is spoken to, how much at once, and what it has said of itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::challenge::Challenge;
use super::error::{RegistryError, causes};
use super::pace::{self, PullLimit};
use crate::loops;

/// Docker Hub's name in images, and where its API is.
const DOCKER_HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");
/// Tokens that are kept for one registry; more are fetched again.
const TOKENS_MAX: usize = 1000;

/// Nobody knows yet how an insecure registry is spoken to.
const UNKNOWN: u8 = 0;
const PLAIN: u8 = 1;
const TLS: u8 = 2;

/// A registry.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name in images.
    pub name: String,
    /// Whether it may be spoken to without TLS, or with whatever certificate it has.
    pub insecure: bool,
    pub http: reqwest::Client,
    pub places: Semaphore,
    limit: Duration,
    scheme: AtomicU8,
    said: Mutex<Said>,
}

/// What it has said of itself.
#[derive(Debug, Default)]
struct Said {
    /// Until when it wants to be left alone.
    held: Option<Instant>,
    /// What is left of its limit on pulls.
    pulls: Option<PullLimit>,
    /// How it wants to know who asks; none: not at all, as far as is known.
    challenge: Option<Challenge>,
    /// Tokens, by repository.
    tokens: HashMap<String, Token>,
}

/// A token.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// The header that shows it.
    pub header: crate::job::Secret,
    /// Until when it is good.
    pub until: Instant,
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub method: Method,
    /// Below the API's root, or a whole address.
    pub at: &'a str,
    pub accept: &'a str,
    pub authorization: Option<&'a str>,
    /// Longest answer that is read, in bytes.
    pub max: usize,
}

/// An answer, whatever it says.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Host {
    pub(super) fn new(name: &str, http: reqwest::Client, insecure: bool, at_once: usize, limit: Duration) -> Self {
        Self {
            name: name.to_owned(),
            insecure,
            http,
            places: Semaphore::new(at_once.max(1)),
            limit,
            scheme: AtomicU8::new(UNKNOWN),
            said: Mutex::default(),
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails while it wants to be left alone.
    pub(super) fn check_pace(&self) -> Result<(), RegistryError> {
        let now = Instant::now();
        match self.said().held.filter(|until| *until > now) {
            Some(until) => Err(RegistryError::Limited { registry: self.name.clone(), wait: until - now }),
            None => Ok(()),
        }
    }

    pub(super) fn pulls(&self) -> Option<PullLimit> {
        self.said().pulls
    }

    pub(super) fn challenge(&self) -> Option<Challenge> {
        self.said().challenge.clone()
    }

    pub(super) fn set_challenge(&self, challenge: Challenge) {
        self.said().challenge = Some(challenge);
    }

    pub(super) fn token(&self, repository: &str) -> Option<Token> {
        self.said().tokens.get(repository).filter(|token| token.until > Instant::now()).cloned()
    }

    pub(super) fn keep_token(&self, repository: &str, token: Token) {
        let mut said = self.said();
        if said.tokens.len() >= TOKENS_MAX {
            said.tokens.clear();
        }
        said.tokens.insert(repository.to_owned(), token);
    }

    pub(super) fn forget_token(&self, repository: &str) {
        self.said().tokens.remove(repository);
    }

    /// Asks something below the API's root. An insecure registry is first spoken to without TLS, and with it where that makes no sense to it.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Answer, RegistryError> {
        let address = if self.name == DOCKER_HUB.0 { DOCKER_HUB.1 } else { &self.name };
        let schemes: &[u8] = match (self.insecure, self.scheme.load(Ordering::Relaxed)) {
            (false, _) | (true, TLS) => &[TLS],
            (true, PLAIN) => &[PLAIN],
            (true, _) => &[PLAIN, TLS],
        };
        let mut last = None;
        for scheme in schemes {
            let word = if *scheme == PLAIN { "http" } else { "https" };
            let url = format!("{word}://{address}/v2/{}", question.at);
            let answer = self.send(question, &url).await;
            match answer {
                // What a TLS server says to one that speaks without.
                Ok(Answer { status: 400, .. }) | Err(RegistryError::Unreachable { .. }) if schemes.len() > 1 => {
                    // The first trouble is the better to tell where both ways fail.
                    last.get_or_insert(answer);
                }
                Ok(answer) => {
                    self.scheme.store(*scheme, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
        last.unwrap_or_else(|| Err(self.unreachable("no way to it is known")))
    }

    /// Asks at a whole address, which is the registry's or one that it has named. What it says of limits is kept.
    pub(super) async fn send(&self, question: &Question<'_>, url: &str) -> Result<Answer, RegistryError> {
        let mut request = self.http.request(question.method.clone(), url).timeout(self.limit);
        request = request.header(ACCEPT, question.accept);
        if let Some(authorization) = question.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let failed = |error: &reqwest::Error| self.unreachable(&causes(error, self.limit));
        let sent = request.send().await;
        loops::step();
        let mut answer = sent.map_err(|error| failed(&error))?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        if let Some(pause) = pace::pause(status, &headers) {
            self.said().held = Some(Instant::now() + pause);
            return Err(RegistryError::Limited { registry: self.name.clone(), wait: pause });
        }
        if let Some(pulls) = pace::pull_limit(&headers) {
            self.said().pulls = Some(pulls);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > question.max {
                return Err(self.unreachable(&format!("it answers with more than {} bytes", question.max)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, headers, body })
    }

    pub(super) fn unreachable(&self, reason: &str) -> RegistryError {
        RegistryError::Unreachable { registry: self.name.clone(), reason: reason.to_owned() }
    }
}
