//! What is served at which path, below the base path:
//!
//! | path | what |
//! | --- | --- |
//! | `/`, `/chain`, `/chain/ID`, `/images`, `/jobs`, `/disk` | the pages; `/chain` takes `show` (`all`, `not-fresh`) and `q` |
//! | `/live/now`, `/live/chain`, `/live/chain/ID`, `/live/images`, `/live/jobs`, `/live/disk` | their changes, as server-sent events |
//! | `/api/v1/...` | the same as JSON (`openapi.json` says what) |
//! | `/login`, `/logout` | where a token is wanted; `/login` takes `next`, one of the pages |
//! | `/assets/...` | style sheet, script, icon |

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _};
use http::header::HeaderValue;
use http::{HeaderMap, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use warp::reply::Response;
use warp::{Buf, Filter, Rejection, Reply};

use super::html::{self, Frame, chain, door, project};
use super::live::Live;
use super::login::{Attempt, COOKIE, Login, Look, SESSION, sender};
use super::moment::project_of;
use super::paths::{field, live_path, next, page_path, topic};
use super::render::{Rendering, Topic, unix_time};
use super::{api, assets, guard};
use crate::http::Peer;

/// Longest form, in bytes: a token.
const FORM_MAX: usize = 4096;
/// What answers need.
#[derive(Debug)]
pub struct Site {
    /// What is before every path.
    pub base: String,
    /// Where only names of this host are answered to: which more. None: whoever asks has to log in.
    pub hosts: Option<Vec<String>>,
    /// Who may look.
    pub login: Login,
    /// The pages.
    pub rendering: Arc<Rendering>,
    /// Their changes.
    pub live: Arc<Live>,
    /// Whether jobs run here.
    pub has_jobs: bool,
    /// Whether there is a chain.
    pub has_chain: bool,
}

/// A request, as far as anything depends on it.
struct Ask<'a> {
    method: Method,
    /// Below the base path.
    path: &'a str,
    query: &'a str,
    headers: &'a HeaderMap,
    /// Where it comes from.
    peer: Peer,
}

/// The whole site.
pub fn site(
    site: Arc<Site>,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::any()
        .and(warp::method())
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<Peer>())
        .and(warp::body::stream())
        .then(move |method, path: warp::path::FullPath, query: String, headers: HeaderMap, peer: Option<Peer>, body| {
            let site = Arc::clone(&site);
            async move {
                let peer = peer.unwrap_or(Peer(None));
                let ask = Ask { method, path: site.below(path.as_str()), query: &query, headers: &headers, peer };
                let mut response = site.answer(&ask, body).await;
                guard::protect(response.headers_mut());
                response
            }
        })
}

impl Site {
    /// A path without the base, whether a proxy has taken that off or not.
    fn below<'a>(&self, path: &'a str) -> &'a str {
        match path.strip_prefix(&self.base) {
            Some("") => "/",
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        }
    }

    async fn answer<B: Buf>(&self, ask: &Ask<'_>, body: impl Stream<Item = Result<B, warp::Error>> + Send) -> Response {
        if let Some(names) = &self.hosts {
            let host = ask.headers.get("host").and_then(|value| value.to_str().ok());
            if !guard::is_own_host(host, names) {
                let words = "This name is not the page's: add it to hosts in [page] of windlass.toml if it should be.";
                return problem(ask, StatusCode::MISDIRECTED_REQUEST, words);
            }
        }
        if let Some(name) = ask.path.strip_prefix("/assets/") {
            return asset(name, ask);
        }
        match (&ask.method, ask.path) {
            (&Method::GET | &Method::HEAD, "/login") => {
                let next = next(field(ask.query, "next"));
                return match self.login.has_session(ask.headers, now()) {
                    true => self.to(&next, None),
                    false => html_reply(StatusCode::OK, door::login(&self.base, None, &next)),
                };
            }
            (&Method::POST, "/login") => return self.log_in(ask, body).await,
            (&Method::POST, "/logout") => return self.to("/login", Some(self.cookie(ask, "", 0))),
            (&Method::GET | &Method::HEAD, _) => {}
            _ => return problem(ask, StatusCode::METHOD_NOT_ALLOWED, "This page can only be looked at."),
        }
        match self.login.may_look(ask.peer, ask.headers, now()) {
            Look::Yes => {}
            Look::No => return self.refused(ask),
            Look::TooMany(wait) => return too_many(ask, wait),
        }
        if let Some(topic) = ask.path.strip_prefix("/live/") {
            return self.follow(topic, ask);
        }
        if let Some(path) = ask.path.strip_prefix("/api/v1/") {
            return api::answer(&self.rendering.sources, path).await;
        }
        self.page(ask).await
    }

    async fn page(&self, ask: &Ask<'_>) -> Response {
        let Some(topic) = topic(ask.path, ask.query) else { return self.missing() };
        let Some(parts) = self.rendering.fresh(&topic).await else { return self.missing() };
        let moment = self.rendering.sources.moment().await;
        let entries = self.entries();
        let (title, here, head) = match &topic {
            Topic::Now => ("Now".to_owned(), "/", maud::html! { h1 { "Now" } }),
            Topic::Disk => ("Disk".to_owned(), "/disk", maud::html! { h1 { "Disk" } }),
            Topic::Images => ("Images".to_owned(), "/images", maud::html! { h1 { "Images from elsewhere" } }),
            Topic::Jobs => ("Jobs".to_owned(), "/jobs", maud::html! { h1 { "Jobs of the past days" } }),
            Topic::Chain(show) => ("Image chain".to_owned(), "/chain", chain::head(&self.base, show)),
            Topic::Project(id) => {
                let of = moment.chain.as_ref().and_then(|chain| project_of(&chain.status, *id));
                let Some(of) = of else { return self.missing() };
                (of.path.clone(), "/chain", project::head(&self.base, of))
            }
        };
        let frame = Frame {
            base: &self.base,
            title: &title,
            here,
            live: Some(live_path(&topic)),
            now: unix_time(),
            session: self.login.is_wanted(),
            entries: &entries,
        };
        html_reply(StatusCode::OK, html::page(&frame, &head, &parts))
    }

    fn entries(&self) -> Vec<(&'static str, &'static str)> {
        let mut entries = vec![("/", "Now")];
        if self.has_chain {
            entries.extend([("/chain", "Chain"), ("/images", "Images")]);
        }
        if self.has_jobs {
            entries.extend([("/jobs", "Jobs"), ("/disk", "Disk")]);
        }
        entries
    }

    fn missing(&self) -> Response {
        let entries = self.entries();
        let frame = Frame {
            base: &self.base,
            title: "Not here",
            here: "",
            live: None,
            now: unix_time(),
            session: self.login.is_wanted(),
            entries: &entries,
        };
        let words = "There is no such page, or no such project in the chain any more.";
        html_reply(StatusCode::NOT_FOUND, html::message(&frame, "Not here", words))
    }

    fn follow(&self, path: &str, ask: &Ask<'_>) -> Response {
        let page = match path {
            "now" => "/".to_owned(),
            other => format!("/{other}"),
        };
        let Some(topic) = topic(&page, ask.query) else {
            return (StatusCode::NOT_FOUND, "there is no such page").reply();
        };
        let full = || (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open already").reply();
        // Whoever was refused asks whether there is a place again.
        let mut response = if ask.method == Method::HEAD {
            if !self.live.has_place() {
                return full();
            }
            (StatusCode::OK, "").reply()
        } else {
            let Some(events) = self.live.follow(topic) else { return full() };
            warp::reply::stream(events).into_response()
        };
        response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
        // nginx would keep events back until there are many.
        response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }

    /// For somebody who has not logged in.
    fn refused(&self, ask: &Ask<'_>) -> Response {
        if ask.path.starts_with("/api/") {
            let mut response = api::error(StatusCode::UNAUTHORIZED, "log in, or send Authorization: Bearer TOKEN");
            response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
            return response;
        }
        if ask.path.starts_with("/live/") {
            return (StatusCode::UNAUTHORIZED, "log in").reply();
        }
        let place = match topic(ask.path, ask.query) {
            Some(topic) => format!("/login?next={}", utf8_percent_encode(&page_path(&topic), NON_ALPHANUMERIC)),
            None => "/login".to_owned(),
        };
        if has_sent_cookies(ask.headers) {
            return self.to(&place, None);
        }
        let mut response = html_reply(StatusCode::UNAUTHORIZED, door::step(&format!("{}{place}", self.base)));
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        response
    }

    async fn log_in<B: Buf>(&self, ask: &Ask<'_>, body: impl Stream<Item = Result<B, warp::Error>> + Send) -> Response {
        let Some(form) = read(body).await else {
            return (StatusCode::PAYLOAD_TOO_LARGE, "this is no form of the page's").reply();
        };
        let (token, next) = (field(&form, "token").unwrap_or_default(), next(field(&form, "next")));
        match self.login.attempt(token.trim(), sender(ask.peer, ask.headers), Instant::now()) {
            Attempt::Right => {
                let value = self.login.session(now());
                self.to(&next, Some(self.cookie(ask, &value, SESSION.as_secs())))
            }
            Attempt::Wrong => {
                html_reply(StatusCode::FORBIDDEN, door::login(&self.base, Some("This is not the token."), &next))
            }
            Attempt::TooMany(wait) => {
                let words = "This is not the token, and too many before it were not within a minute.";
                later(html_reply(StatusCode::TOO_MANY_REQUESTS, door::login(&self.base, Some(words), &next)), wait)
            }
        }
    }

    fn cookie(&self, ask: &Ask<'_>, value: &str, lasts: u64) -> String {
        let https = ask.headers.get("x-forwarded-proto").is_some_and(|value| value.as_bytes() == b"https");
        let secure = if https { "; Secure" } else { "" };
        let path = if self.base.is_empty() { "/" } else { &self.base };
        format!("{COOKIE}={value}; Path={path}; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}")
    }

    fn to(&self, path: &str, cookie: Option<String>) -> Response {
        let mut response = (StatusCode::SEE_OTHER, "").reply();
        let place = format!("{}{path}", self.base);
        for (name, value) in [("location", Some(place)), ("set-cookie", cookie)] {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// For somebody who sends wrong tokens on and on.
fn too_many(ask: &Ask<'_>, wait: Duration) -> Response {
    let words = "this token is wrong, and so were too many before it within a minute";
    later(problem(ask, StatusCode::TOO_MANY_REQUESTS, words), wait)
}

/// What is wrong with a request: as JSON where that was asked for.
fn problem(ask: &Ask<'_>, status: StatusCode, words: &'static str) -> Response {
    if ask.path.starts_with("/api/") { api::error(status, words) } else { (status, words).reply() }
}

/// Whether a browser would have sent our cookie with this request, if it had one: not when it came from another site (SameSite=Strict).
/// Browsers say that where the connection is safe.
fn has_sent_cookies(headers: &HeaderMap) -> bool {
    let from = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    matches!(from, Some(b"none" | b"same-origin" | b"same-site"))
}

/// Seconds since 1970.
fn now() -> u64 {
    u64::try_from(unix_time()).unwrap_or(0)
}

/// An answer that says when to come again.
fn later(mut response: Response, wait: Duration) -> Response {
    response.headers_mut().insert("retry-after", HeaderValue::from(wait.as_secs() + 1));
    response
}

/// A short body; none where it is longer, or not whole.
async fn read<B: Buf>(body: impl Stream<Item = Result<B, warp::Error>> + Send) -> Option<String> {
    let mut bytes = Vec::new();
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.ok()?;
        if bytes.len() + chunk.remaining() > FORM_MAX {
            return None;
        }
        while chunk.has_remaining() {
            let some = chunk.chunk();
            bytes.extend_from_slice(some);
            let count = some.len();
            chunk.advance(count);
        }
    }
    String::from_utf8(bytes).ok()
}

fn asset(name: &str, ask: &Ask<'_>) -> Response {
    let Some(asset) = assets::find(name) else { return (StatusCode::NOT_FOUND, "there is no such file").reply() };
    let tag = format!("\"{}\"", asset.version);
    let known = ask.headers.get("if-none-match").is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => (StatusCode::NOT_MODIFIED, "").reply(),
        false => asset.content.into_response(),
    };
    let is_this = field(ask.query, "v").as_deref() == Some(asset.version.as_str());
    let keep = if is_this { "public, max-age=31536000, immutable" } else { "no-cache" };
    for (name, value) in [("content-type", asset.kind), ("etag", &tag), ("cache-control", keep)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn html_reply(status: StatusCode, text: String) -> Response {
    warp::reply::with_status(warp::reply::html(text), status).into_response()
}

trait Plain {
    /// An answer of plain text.
    fn reply(self) -> Response;
}

impl Plain for (StatusCode, &'static str) {
    fn reply(self) -> Response {
        warp::reply::with_status(self.1, self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_comes_from_another_site_has_sent_no_cookie() {
        let from = |site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            has_sent_cookies(&headers)
        };
        assert!(from(Some("none")) && from(Some("same-origin")) && from(Some("same-site")));
        assert!(!from(Some("cross-site")) && !from(None));
    }
}
