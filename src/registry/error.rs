//! What can go wrong between us and a registry, in words for an administrator.

use std::time::Duration;

use thiserror::Error;

/// Longest text of a registry's that is shown, in characters.
const SHOWN: usize = 200;

/// A question to a registry that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// It says that it has no such thing.
    #[error("{image}: its registry has none of that name{said}")]
    NotFound {
        /// What was asked for.
        image: String,
        /// Its own words, with something in front of them; empty where it has none.
        said: String,
    },
    /// It wants a login, or another one.
    #[error("{image}: {reason}")]
    Unauthorized {
        /// What was asked for.
        image: String,
        /// Why, and what to do.
        reason: String,
    },
    /// It knows who asks, and does not let them.
    #[error("{image}: its registry does not let this login have it{said}")]
    Denied {
        /// What was asked for.
        image: String,
        /// Its own words, with something in front of them.
        said: String,
    },
    /// It wants to be left alone for a while. Nothing is asked of it until then.
    #[error("{registry}: has had enough requests for now, and is asked again in {}", humantime::format_duration(whole(*wait)))]
    Limited {
        /// The registry.
        registry: String,
        /// How long from now.
        wait: Duration,
    },
    /// It could not be asked, or is broken itself.
    #[error("{registry}: {reason}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why.
        reason: String,
    },
    /// An index without an image for the platform.
    #[error("{image}: has no image for {platform}")]
    NoPlatform {
        /// What was asked for.
        image: String,
        /// The platform.
        platform: String,
    },
    /// It answers what makes no sense, or is not what was asked for.
    #[error("{image}: its registry's answer makes no sense: {reason}")]
    Odd {
        /// What was asked for.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RegistryError {
    /// Whether the registry itself is in the way, and its other images would fare no better now.
    #[must_use]
    pub fn is_about_registry(&self) -> bool {
        matches!(self, Self::Limited { .. } | Self::Unreachable { .. })
    }
}

fn whole(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs().max(1))
}

/// A registry's own words in the body of a refusal (distribution-spec, Error Codes), with something in front of them.
pub(super) fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        errors: Vec<Item>,
        #[serde(default)]
        details: String,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(body) = serde_json::from_slice::<Body>(body) else { return String::new() };
    let words: Vec<String> = body
        .errors
        .into_iter()
        .map(|item| if item.message.is_empty() { item.code } else { item.message })
        .chain([body.details])
        .filter(|words| !words.is_empty())
        .collect();
    if words.is_empty() { String::new() } else { format!(": {}", shown(&words.join("; "))) }
}

/// A text of a registry's as it may be shown.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

/// An error of the client with what caused it, without the address.
pub(super) fn causes(error: &reqwest::Error, limit: Duration) -> String {
    if error.is_timeout() {
        return format!("no answer within {}", humantime::format_duration(limit));
    }
    let mut words = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    if words.is_empty() { "the request failed".to_owned() } else { words.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_found_bounded_and_harmless() {
        for (body, words) in [
            (r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#, ": manifest unknown"),
            (r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#, ": TOOMANYREQUESTS"),
            (r#"{"details":"incorrect username or password"}"#, ": incorrect username or password"),
            (r#"{"errors":[{"message":"a\u001b[31mb"}]}"#, ": a[31mb"),
            (r#"{"errors":"x"}"#, ""),
            ("<html>", ""),
            ("", ""),
        ] {
            assert_eq!(said(body.as_bytes()), words, "{body}");
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(10_000));
        assert_eq!(said(long.as_bytes()).chars().count(), SHOWN + 2);
    }
}
