//! One request after another: retries with a bound, limits that GitLab names, and what the clock there says.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::error::{GitlabError, Refusal, message_of};
use super::{Client, TIMEOUT, host_now};
use crate::loops;
use crate::sys::secrets::Secret;

/// How often GitLab is asked where that does no harm.
const ATTEMPTS: u32 = 4;
/// The pause after the first attempt; doubled each time, and up to half as long again by chance.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause that GitLab may ask for before a call is given up.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Longest answer that is read, in bytes: a page of a hundred projects with their files.
const ANSWER_MAX: usize = 32 << 20;

/// A call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    method: Method,
    /// Below the instance's address.
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    job_token: Option<&'a Secret>,
    /// Whether to send it again when nobody knows whether it has arrived.
    repeats: bool,
    limit: Duration,
    needs: &'static str,
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(super) struct Answer {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl<'a> Call<'a> {
    fn new(method: Method, path: impl Display) -> Self {
        let repeats = method != Method::POST;
        Self {
            method,
            path: format!("api/v4/{path}"),
            query: Vec::new(),
            body: None,
            job_token: None,
            repeats,
            limit: TIMEOUT,
            needs: "to be a member of this project or group",
        }
    }

    pub(super) fn get(path: impl Display) -> Self {
        Self::new(Method::GET, path)
    }

    pub(super) fn post(path: impl Display) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn put(path: impl Display) -> Self {
        Self::new(Method::PUT, path)
    }

    pub(super) fn delete(path: impl Display) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// A question of GraphQL: it changes nothing.
    pub(super) fn graphql(body: Value, limit: Duration) -> Self {
        Self { path: "api/graphql".to_owned(), repeats: true, limit, ..Self::post("").with_body(body) }
    }

    pub(super) fn with(mut self, key: &'static str, value: impl Display) -> Self {
        self.query.push((key, value.to_string()));
        self
    }

    pub(super) fn with_body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(super) fn with_job_token(mut self, token: &'a Secret) -> Self {
        (self.job_token, self.needs) = (Some(token), "");
        self
    }

    /// What the token's user has to have.
    pub(super) fn needing(mut self, needs: &'static str) -> Self {
        self.needs = needs;
        self
    }

    pub(super) fn once(mut self) -> Self {
        self.repeats = false;
        self
    }

    fn asked(&self) -> String {
        format!("{} {}", self.method, self.path.strip_prefix("api/v4/").unwrap_or(&self.path))
    }
}

/// When the next request may go.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Lets nothing go before a moment.
    fn hold(&self, pause: Duration) {
        let until = Instant::now() + pause.min(PAUSE_MAX);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(held.map_or(until, |held| held.max(until)));
    }

    async fn wait(&self) {
        loop {
            let held = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match held.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }
}

impl Client {
    /// The answer to a call, as what it means.
    pub(super) async fn json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, GitlabError> {
        let asked = call.asked();
        let answer = self.send(call).await?;
        self.read(&asked, &answer)
    }

    pub(super) fn read<T: DeserializeOwned>(&self, asked: &str, answer: &Answer) -> Result<T, GitlabError> {
        serde_json::from_slice(&answer.body).map_err(|error| {
            // Where, and not what: a part of an answer may be anything.
            let (line, column) = (error.line(), error.column());
            let category = format!("{:?}", error.classify()).to_lowercase();
            self.unreachable(
                &format!("its answer to {asked} can't be read ({category}, line {line}, column {column})"),
                true,
            )
        })
    }

    /// All items of a list that GitLab gives in pages, up to `max`.
    pub(super) async fn all<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&'static str, String)],
        max: usize,
    ) -> Result<Vec<T>, GitlabError> {
        let mut items: Vec<T> = Vec::new();
        let mut page = Some("1".to_owned());
        while let Some(number) = page {
            let mut call = Call::get(path).with("per_page", 100).with("page", &number);
            call.query.extend(query.iter().cloned());
            let asked = call.asked();
            let answer = self.send(call).await?;
            items.extend(self.read::<Vec<T>>(&asked, &answer)?);
            page = next_page(&answer.headers).filter(|_| items.len() < max);
        }
        items.truncate(max);
        Ok(items)
    }

    /// Sends a call, again where that does no harm, and waits where GitLab asks for that.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, GitlabError> {
        let mut pause = FIRST_PAUSE;
        let mut renewed = false;
        for attempt in 1.. {
            let token = self.token.get();
            let (error, wanted) = match self.send_once(&call, token.as_ref()).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if error.status() == Some(StatusCode::UNAUTHORIZED) && call.job_token.is_none() && !renewed {
                renewed = true;
                if self.token.renew(token.as_ref()) {
                    tracing::info!("the token for GitLab was read again");
                    continue;
                }
            }
            // Too many requests: this one was not looked at.
            let harmless =
                call.repeats || error.status() == Some(StatusCode::TOO_MANY_REQUESTS) || !error.may_have_worked();
            if !error.is_transient() || !harmless || attempt >= ATTEMPTS || call.job_token.is_some() {
                return Err(error);
            }
            let chance = Duration::from_millis(fastrand::u64(0..=u64::try_from(pause.as_millis() / 2).unwrap_or(0)));
            match wanted {
                Some(wanted) if wanted > PAUSE_MAX => return Err(error),
                Some(wanted) => {
                    self.metrics.gitlab_held();
                    self.pace.hold(wanted + chance);
                }
                None => tokio::time::sleep(pause + chance).await,
            }
            tracing::debug!("{error}; asking again");
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    /// The answer, or what went wrong and how long GitLab wants to be left alone.
    async fn send_once(
        &self,
        call: &Call<'_>,
        token: Option<&Secret>,
    ) -> Result<Answer, (GitlabError, Option<Duration>)> {
        let failed = |reason: &dyn Display, was_sent| (self.unreachable(reason, was_sent), None);
        let mut url = self.url.join(&call.path).map_err(|error| failed(&error, false))?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = self.http.request(call.method.clone(), url).timeout(call.limit);
        request = match (call.job_token, token) {
            (Some(token), _) => request.header("JOB-TOKEN", token.expose()),
            (None, Some(token)) => request.header("PRIVATE-TOKEN", token.expose()),
            (None, None) => request,
        };
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        // The semaphore is never closed. Who has waited for a place may have to wait once more: for what the answers before said.
        let _place = self.places.acquire().await;
        self.pace.wait().await;
        let (since, sent_at) = (std::time::Instant::now(), host_now());
        let sent = request.send().await;
        loops::step();
        self.count(sent.as_ref().ok().map(|answer| answer.status().as_u16()), since);
        let mut answer =
            sent.map_err(|error| failed(&causes(&error, call.limit), !error.is_connect() && !error.is_builder()))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        self.note_clock(&headers, sent_at);
        if let Some(pause) = self.spare(&headers) {
            self.metrics.gitlab_held();
            self.pace.hold(pause);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&causes(&error, call.limit), true))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_MAX {
                return Err(failed(&format!("its answer to {} has more than {ANSWER_MAX} bytes", call.asked()), true));
            }
        }
        if status.is_success() {
            return Ok(Answer { headers, body });
        }
        let refusal = Refusal { status, asked: call.asked(), message: message_of(&body), needs: call.needs };
        let error = GitlabError::Answer { url: self.url.to_string(), refusal: Box::new(refusal) };
        Err((error, retry_after(&headers)))
    }

    pub(super) fn unreachable(&self, reason: &dyn Display, was_sent: bool) -> GitlabError {
        GitlabError::Unreachable { url: self.url.to_string(), reason: reason.to_string(), was_sent }
    }

    /// What an answer to a request that was sent then says of GitLab's clock.
    fn note_clock(&self, headers: &HeaderMap, sent_at: i64) {
        let received_at = host_now();
        let date = headers.get("date").and_then(|value| httpdate::parse_http_date(value.to_str().ok()?).ok());
        let Some(since) = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()) else { return };
        self.clock.note(i64::try_from(since.as_millis()).unwrap_or(0), sent_at, received_at);
    }

    /// How long to wait so that the requests that are left last until GitLab counts anew: the last twentieth is left to others with
    /// the same token, and to what is under way already.
    fn spare(&self, headers: &HeaderMap) -> Option<Duration> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
        let (limit, left) = (number("ratelimit-limit")?, number("ratelimit-remaining")?);
        self.metrics.gitlab_limit(limit, left);
        let under_way = i64::try_from(super::AT_ONCE).unwrap_or(0);
        if left > (limit / 20).max(under_way) {
            return None;
        }
        // Whole seconds since 1970, by GitLab's clock: to the end of that one.
        let reset = number("ratelimit-reset")? * 1000 + 999 - self.now();
        u64::try_from(reset).ok().map(Duration::from_millis)
    }
}

/// What `Retry-After` asks for: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The number of the next page, from the header `Link`: it has the whole address, of which the path may be another's in front of a proxy.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all("link").into_iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|links| links.split(',')).find(|link| {
        link.split(';')
            .skip(1)
            .any(|part| part.trim().eq_ignore_ascii_case("rel=\"next\"") || part.trim() == "rel=next")
    })?;
    let address = next.split(';').next()?.trim().trim_start_matches('<').trim_end_matches('>');
    let url = reqwest::Url::parse(address).ok()?;
    url.query_pairs().find(|(key, _)| key == "page").map(|(_, value)| value.into_owned())
}

/// An error with what caused it, without the address: that is said already.
fn causes(error: &reqwest::Error, limit: Duration) -> String {
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
        (_, true) => format!("no answer within {}", humantime::format_duration(limit)),
        (true, _) => "the request failed".to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should say where")]

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
    }

    #[test]
    fn the_next_page_is_in_the_link_header() {
        let links = "<https://g.example.com/api/v4/x?page=1&per_page=100>; rel=\"first\", \
                     <https://g.example.com/api/v4/x?per_page=100&page=3>; rel=\"next\"";
        assert_eq!(next_page(&headers(&[("link", links)])).as_deref(), Some("3"));
        assert_eq!(next_page(&headers(&[("link", "<https://g/x?page=1>; rel=\"last\"")])), None);
        assert_eq!(next_page(&headers(&[])), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(&headers(&[("retry-after", "30")])), Some(Duration::from_secs(30)));
        let past = headers(&[("retry-after", "Tue, 05 Jan 2021 11:00:00 GMT")]);
        assert_eq!(retry_after(&past), Some(Duration::ZERO));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
    }
}
