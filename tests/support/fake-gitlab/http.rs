//! Requests and answers, without a server around them.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, POST, ...
    pub method: String,
    /// Its path without the root, still encoded.
    pub path: String,
    /// What follows the question mark, still encoded.
    pub query: String,
    /// Names in lower case, in the order of their coming.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// What a handler comes to: both are answers, the second a refusal.
pub type Reply = Result<Answer, Answer>;

impl Request {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The words of the path, each decoded by itself: an encoded slash is part of its word.
    pub fn words(&self) -> Vec<String> {
        self.path.split('/').filter(|word| !word.is_empty()).map(decoded).collect()
    }

    /// All parameters: those of the query, and those of the body, be it JSON or a form.
    pub fn parameters(&self) -> Parameters {
        let mut all = Map::new();
        for (name, value) in pairs(&self.query) {
            all.insert(name, Value::String(value));
        }
        if let Ok(Value::Object(body)) = serde_json::from_slice(&self.body) {
            all.extend(body);
        } else if self.header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
        {
            for (name, value) in pairs(&String::from_utf8_lossy(&self.body)) {
                all.insert(name, Value::String(value));
            }
        }
        Parameters(all)
    }

    /// The parameters of the query alone.
    pub fn query_pairs(&self) -> BTreeMap<String, String> {
        pairs(&self.query).collect()
    }
}

impl Answer {
    /// One with a JSON body.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::bytes(status, "application/json", body.to_string().into_bytes())
    }

    /// One with this body.
    pub fn bytes(status: u16, kind: &str, body: Vec<u8>) -> Self {
        Self { status, headers: vec![("Content-Type".into(), kind.into())], body }
    }

    /// One without a body.
    pub const fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// With this header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// A refusal as most of GitLab's API words it: `{"message": ...}`.
    pub fn message(status: u16, text: &str) -> Self {
        Self::json(status, &json!({"message": text}))
    }

    /// A refusal as Grape, GitLab's API library, words it: `{"error": ...}`.
    pub fn error(status: u16, text: &str) -> Self {
        Self::json(status, &json!({"error": text}))
    }

    /// What is not there, or not for this token.
    pub fn not_found(what: &str) -> Self {
        Self::message(404, &format!("404 {what} Not Found"))
    }

    /// What the token's user may not do.
    pub fn forbidden() -> Self {
        Self::message(403, "403 Forbidden")
    }
}

/// The parameters of a request.
#[derive(Debug, Clone)]
pub struct Parameters(Map<String, Value>);

impl Parameters {
    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether it is given, be it as null.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether there are none at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One as text; none where it is empty.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name)? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            other => Some(other.to_string()),
        }
    }

    /// One as truth, as GitLab reads it.
    pub fn truth(&self, name: &str) -> Option<bool> {
        match self.text(name)?.as_str() {
            "true" | "1" | "t" | "yes" => Some(true),
            "false" | "0" | "f" | "no" => Some(false),
            _ => None,
        }
    }

    /// One as a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

/// Undoes percent encoding.
pub fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")))
    })
}
