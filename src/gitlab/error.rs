//! What can go wrong with a call, in words for an administrator.

use reqwest::StatusCode;
use serde_json::Value;
use thiserror::Error;

/// Longest text of GitLab's that is shown.
const SHOWN: usize = 300;

/// A call that failed.
#[derive(Debug, Error)]
pub enum GitlabError {
    /// GitLab has answered that it does not want to.
    #[error("GitLab at {url} {refusal}")]
    Answer {
        /// Where it is.
        url: String,
        /// Its answer.
        refusal: Box<Refusal>,
    },
    /// It could not be asked, or what it says is unreadable.
    #[error("GitLab at {url}: {reason}")]
    Unreachable {
        /// Where it is.
        url: String,
        /// Why, without anything secret.
        reason: String,
        /// Whether it may have heard the request, and done what was asked.
        was_sent: bool,
    },
}

/// An answer that is a refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: StatusCode,
    /// What was asked: method and path.
    pub asked: String,
    /// GitLab's own words; empty where it has none.
    pub message: String,
    /// What the caller has to have for this call, for a refusal that is about that.
    pub needs: &'static str,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "answers {} to {}", self.status, self.asked)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match self.status {
            StatusCode::UNAUTHORIZED if !self.needs.is_empty() => {
                f.write_str(
                    "; the token is wrong, revoked or expired: put a new one into [gitlab] token_file, or, where systemd hands it over, into \
                     /etc/windlass/gitlab-token, and restart windlassd",
                )
            }
            StatusCode::FORBIDDEN if self.message.contains("insufficient_scope") => {
                f.write_str("; the token needs the scope api")
            }
            StatusCode::FORBIDDEN if !self.needs.is_empty() => {
                write!(f, "; the token's user needs {}", self.needs)
            }
            _ => Ok(()),
        }
    }
}

impl GitlabError {
    /// Whether asking again may help: not after a clear answer.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Answer { refusal, .. } => {
                refusal.status.is_server_error() || refusal.status == StatusCode::TOO_MANY_REQUESTS
            }
        }
    }

    /// The status of GitLab's answer, if it has given one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.refusal().map(|refusal| refusal.status)
    }

    /// GitLab's answer, if it has given one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Answer { refusal, .. } => Some(refusal),
            Self::Unreachable { .. } => None,
        }
    }

    /// The same, saying what the token's user has to have.
    #[must_use]
    pub(super) fn needing(mut self, what: &'static str) -> Self {
        if let Self::Answer { refusal, .. } = &mut self {
            refusal.needs = what;
        }
        self
    }

    /// Whether GitLab may have done what was asked all the same.
    #[must_use]
    pub fn may_have_worked(&self) -> bool {
        match self {
            Self::Unreachable { was_sent, .. } => *was_sent,
            // A proxy in front of it gave up waiting, or GitLab broke in the middle of it.
            Self::Answer { refusal, .. } => refusal.status.is_server_error(),
        }
    }

    /// Whether it is about the token and not about what was asked.
    #[must_use]
    pub fn is_about_token(&self) -> bool {
        self.refusal().is_some_and(|refusal| {
            refusal.status == StatusCode::UNAUTHORIZED
                || (refusal.status == StatusCode::FORBIDDEN && refusal.message.contains("insufficient_scope"))
        })
    }
}

/// GitLab's own words in the body of a refusal: it has many forms (`message` as text, list or map of lists, `error`).
pub(super) fn message_of(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let mut words = Vec::new();
            for key in ["message", "error", "error_description"] {
                value.get(key).into_iter().for_each(|value| gather(value, &mut words));
            }
            words.join(": ")
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            // A page for people says nothing that helps.
            if text.trim_start().starts_with('<') { String::new() } else { text.trim().to_owned() }
        }
    };
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

fn gather(value: &Value, words: &mut Vec<String>) {
    match value {
        Value::String(text) => words.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| gather(value, words)),
        Value::Object(map) => map.values().for_each(|value| gather(value, words)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: StatusCode, body: &str) -> String {
        let (asked, needs) = ("GET projects/1/hooks".to_owned(), "the role Maintainer in this project");
        Refusal { status, asked, message: message_of(body.as_bytes()), needs }.to_string()
    }

    #[test]
    fn gitlabs_own_words_are_found_in_all_their_forms() {
        for (body, words) in [
            (r#"{"message":{"base":["Reference not found"]}}"#, "Reference not found"),
            (r#"{"message":"401 Unauthorized"}"#, "401 Unauthorized"),
            (r#"{"error":"Invalid url given"}"#, "Invalid url given"),
            (
                r#"{"error":"invalid_token","error_description":"Token is expired."}"#,
                "invalid_token: Token is expired.",
            ),
            (r#"{"message":{"error":"requested too many times"}}"#, "requested too many times"),
            ("Retry later\n", "Retry later"),
            ("<html>502 Bad Gateway</html>", ""),
            ("", ""),
        ] {
            assert_eq!(message_of(body.as_bytes()), words, "{body}");
        }
    }

    #[test]
    fn a_refusal_says_which_scope_or_role_is_missing() {
        let expired =
            refusal(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_token","error_description":"Token is expired."}"#);
        assert!(expired.contains("Token is expired") && expired.contains("token_file"), "{expired}");
        let scope = r#"{"error":"insufficient_scope","error_description":"…","scope":"api"}"#;
        assert!(refusal(StatusCode::FORBIDDEN, scope).ends_with("needs the scope api"));
        let role = refusal(StatusCode::FORBIDDEN, r#"{"message":"403 Forbidden"}"#);
        assert!(role.ends_with("needs the role Maintainer in this project"), "{role}");
    }
}
