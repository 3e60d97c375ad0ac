//! What a registry asks for before it answers: `WWW-Authenticate`.

use reqwest::Url;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Most challenges that are read of one answer.
const CHALLENGES_MAX: usize = 16;

/// How a registry wants to know who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// By user and password with each request.
    Basic,
    /// By a token that somebody else gives.
    Bearer {
        /// Who gives it.
        realm: Url,
        /// For whom it is.
        service: Option<String>,
    },
}

/// The challenge of an answer that we can meet; a token before a password, which then goes to fewer places. The scope that it names is not
/// taken over: we need to read, and nothing else.
pub(super) fn of(headers: &HeaderMap) -> Result<Challenge, String> {
    let mut found = None;
    let texts = headers.get_all(WWW_AUTHENTICATE).into_iter().filter_map(|value| value.to_str().ok());
    for text in texts.take(CHALLENGES_MAX) {
        let Ok(challenges) = http_auth::parse_challenges(text) else { continue };
        for challenge in challenges {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let value = |name: &str| {
                    let of_name = |(key, _): &&(&str, http_auth::ParamValue<'_>)| key.eq_ignore_ascii_case(name);
                    challenge.params.iter().find(of_name).map(|(_, value)| value.to_unescaped())
                };
                let realm = value("realm").ok_or("it asks for a token and does not say where to get it")?;
                let realm =
                    Url::parse(&realm).map_err(|error| format!("where it gives tokens is no address: {error}"))?;
                return Ok(Challenge::Bearer { realm, service: value("service") });
            }
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                found = Some(Challenge::Basic);
            }
        }
    }
    found.ok_or_else(|| "it wants a login of a kind that is not known here".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Challenge, String> {
        of(&texts.iter().map(|text| (WWW_AUTHENTICATE, text.parse().expect("a value"))).collect())
    }

    #[test]
    fn a_token_comes_before_a_password() {
        let bearer = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: Url::parse("https://auth.docker.io/token").expect("a URL"),
            service: Some("registry.docker.io".into()),
        };
        assert_eq!(parse(&[bearer]), Ok(expected.clone()));
        assert_eq!(parse(&["Basic realm=\"x\"", bearer]), Ok(expected.clone()));
        assert_eq!(parse(&[&format!("Basic realm=\"x\", {bearer}")]), Ok(expected));
        assert_eq!(parse(&["basic realm=\"windlass\""]), Ok(Challenge::Basic));
    }

    #[test]
    fn what_cannot_be_met_is_said() {
        for texts in [
            &[][..],
            &["Negotiate"],
            &["Bearer realm"],
            &["Bearer service=\"x\""],
            &["Bearer realm=\"not a url\""],
            &["\""],
        ] {
            assert!(parse(texts).is_err(), "{texts:?}");
        }
    }
}
