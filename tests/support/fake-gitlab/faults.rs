//! What goes wrong with requests: where, how often, and how.

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::clock::{Clock, http_date};
use crate::http::{Answer, Request};
use crate::share::{All, Share};

/// Something that goes wrong, as a test describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// With requests of this method; none: of all.
    #[serde(default)]
    pub method: Option<String>,
    /// With requests to these paths, in which `*` stands for anything; none: to all.
    #[serde(default)]
    pub path: Option<String>,
    /// So many of them go well first.
    #[serde(default)]
    pub after: u64,
    /// Which of the following go wrong.
    #[serde(default = "all")]
    pub times: Share,
    /// How.
    pub what: Trouble,
}

fn all() -> Share {
    Share::All(All::All)
}

/// How it goes wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Trouble {
    /// This status.
    Status {
        /// Which.
        status: u16,
        /// Whether what was asked for was done all the same.
        #[serde(default)]
        done: bool,
    },
    /// Too many requests.
    Throttled {
        /// When to come again, in seconds.
        #[serde(default)]
        retry_after: Option<u64>,
        /// Which of GitLab's two ways to say so.
        #[serde(default)]
        form: Form,
    },
    /// The connection ends, nothing is done, and nothing is answered.
    Closed,
    /// It is done, and the connection ends before the answer.
    Lost,
    /// It is done, and the connection ends in the middle of the answer.
    Cut,
    /// It takes long. Everything else is as it should be.
    Slow {
        /// How long.
        ms: u64,
        /// Whether it is done first, and answered late.
        #[serde(default)]
        done: bool,
    },
    /// It is done, and the answer is the page of a proxy, with status 200.
    Garbage,
    /// It is done, and the answer has half of its body, without anything to show that there was more.
    Truncated,
}

/// The two ways in which GitLab says that there were too many requests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The limit for everything: plain text, and headers that say when to come again.
    #[default]
    Plain,
    /// The limit of one endpoint: JSON, and no headers.
    Json,
}

/// Something that goes wrong, and how often it still does.
#[derive(Debug)]
pub struct Fault {
    /// What a test has described.
    pub plan: Plan,
    path: Option<GlobMatcher>,
}

impl Fault {
    /// Reads a description.
    pub fn new(plan: Plan) -> Result<Self, String> {
        let glob = |pattern: &String| GlobBuilder::new(pattern).literal_separator(false).build();
        let path = plan.path.as_ref().map(glob).transpose().map_err(|error| error.to_string())?;
        Ok(Self { plan, path: path.map(|glob| glob.compile_matcher()) })
    }

    fn concerns(&self, request: &Request) -> bool {
        self.plan.method.as_ref().is_none_or(|method| *method == request.method)
            && self.path.as_ref().is_none_or(|path| path.is_match(&request.path))
    }
}

/// What goes wrong with this request; the first fault that concerns it decides.
pub fn draw(faults: &mut [Fault], request: &Request, chance: &mut fastrand::Rng) -> Option<Trouble> {
    let mut current = faults.iter_mut().filter(|fault| !fault.plan.times.is_over() && fault.concerns(request));
    let plan = &mut current.next()?.plan;
    if plan.after > 0 {
        plan.after -= 1;
        return None;
    }
    plan.times.draw(chance).then(|| plan.what.clone())
}

/// An answer with this status, as the proxy before GitLab gives it, or GitLab itself.
pub fn status(status: u16) -> Answer {
    match status {
        502..=504 => {
            let page = format!(
                "<!DOCTYPE html>\n<html><head><title>GitLab is not responding ({status})</title></head></html>"
            );
            Answer::bytes(status, "text/html", page.into_bytes())
        }
        500 => Answer::message(500, "500 Internal Server Error"),
        other => Answer::message(other, &other.to_string()),
    }
}

/// The page of a proxy that has nothing to do with GitLab.
pub fn garbage() -> Answer {
    let page = b"<html><body><h1>Maintenance</h1>{\"id\": </body></html>\xff\xfe".to_vec();
    Answer::bytes(200, "text/html", page)
}

/// Too many requests, in one of the two ways.
pub fn throttled(form: Form, retry_after: Option<u64>, clock: Clock) -> Answer {
    if form == Form::Json {
        let text = "This endpoint has been requested too many times. Try again later.";
        let answer = Answer::json(429, &json!({"message": {"error": text}}));
        return match retry_after {
            Some(seconds) => answer.with("Retry-After", seconds.to_string()),
            None => answer,
        };
    }
    let seconds = retry_after.unwrap_or(30);
    let reset = clock.now() / 1000 + i64::try_from(seconds).unwrap_or_default();
    Answer::bytes(429, "text/plain", b"Retry later\n".to_vec())
        .with("RateLimit-Limit", "60")
        .with("RateLimit-Name", "throttle_authenticated_api")
        .with("RateLimit-Observed", "67")
        .with("RateLimit-Remaining", "0")
        .with("RateLimit-Reset", reset.to_string())
        .with("RateLimit-ResetTime", http_date(reset * 1000))
        .with("Retry-After", seconds.to_string())
}
