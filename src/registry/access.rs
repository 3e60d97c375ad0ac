//! Getting in: passwords, and tokens that last until they expire (distribution-spec, token authentication).

use std::time::Duration;

use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::time::Instant;

use super::challenge::{self, Challenge};
use super::error::{RegistryError, said};
use super::host::{Answer, Host, Question, Token};
use super::logins::Login;
use super::{Registry, Target};
use crate::job::Secret;

/// Longest answer with a token that is read, in bytes.
const TOKEN_MAX: usize = 256 * 1024;
/// How long a token is good that does not say so, in seconds (token authentication, "expires_in").
const EXPIRES_IN: u64 = 60;
/// Longest that a token counts, in seconds, whatever it says.
const EXPIRES_IN_MAX: u64 = 24 * 3600;
/// How long before its end a token is not used any more, in seconds.
const SPARE: u64 = 10;

impl Registry {
    /// The answer to a question about an image, whatever it says; after a login where the registry wants one.
    pub(super) async fn let_in(
        &self,
        host: &Host,
        target: &Target<'_>,
        mut question: Question<'_>,
    ) -> Result<Answer, RegistryError> {
        host.check_pace()?;
        let known = self.authorization(host, target).await?;
        question.authorization = known.as_ref().map(Secret::expose);
        let answer = host.ask(&question).await?;
        if answer.status != 401 {
            return Ok(answer);
        }
        // It asks for the first time, or for something else than before; or a token is no good any more.
        let unauthorized = |reason: String| RegistryError::Unauthorized { image: target.image.to_owned(), reason };
        let challenge =
            challenge::of(&answer.headers).map_err(|reason| unauthorized(format!("its registry: {reason}")))?;
        host.set_challenge(challenge);
        host.forget_token(target.repository);
        self.logins.forget_helped();
        let renewed = self.authorization(host, target).await?;
        let words = said(&answer.body);
        match &renewed {
            None => return Err(unauthorized(format!("its registry wants a login{words}: add one to the auth file"))),
            Some(renewed) if Some(renewed) == known.as_ref() => {
                return Err(unauthorized(format!(
                    "its registry does not take the login{words}: put another one into the auth file"
                )));
            }
            Some(_) => {}
        }
        question.authorization = renewed.as_ref().map(Secret::expose);
        host.ask(&question).await
    }

    /// The header that lets us in, as far as it is known that one is needed.
    async fn authorization(&self, host: &Host, target: &Target<'_>) -> Result<Option<Secret>, RegistryError> {
        let Some(challenge) = host.challenge() else { return Ok(None) };
        if let (Challenge::Bearer { .. }, Some(token)) = (&challenge, host.token(target.repository)) {
            return Ok(Some(token.header));
        }
        let name = format!("{}/{}", host.name, target.repository);
        let unauthorized = |reason| RegistryError::Unauthorized { image: target.image.to_owned(), reason };
        let login = self.logins.login(&name).await.map_err(unauthorized)?;
        match challenge {
            Challenge::Basic => {
                let own = Url::parse(&format!("https://{}/", host.name)).ok();
                let login = login.filter(|login| own.as_ref().is_some_and(|own| login.may_go_to(own)));
                Ok(login.map(|login| Secret::new(login.header())))
            }
            Challenge::Bearer { realm, service } => {
                let token = self.fetch_token(host, target, &realm, service.as_deref(), login).await?;
                let header = token.header.clone();
                host.keep_token(target.repository, token);
                Ok(Some(header))
            }
        }
    }

    async fn fetch_token(
        &self,
        host: &Host,
        target: &Target<'_>,
        realm: &Url,
        service: Option<&str>,
        login: Option<Login>,
    ) -> Result<Token, RegistryError> {
        let image = || target.image.to_owned();
        if realm.scheme() != "https" && !(host.insecure && realm.scheme() == "http") {
            let reason = "its registry gives out tokens without TLS, which is for registries that registries.conf calls insecure";
            return Err(RegistryError::Unauthorized { image: image(), reason: reason.to_owned() });
        }
        let login = login.filter(|login| login.may_go_to(realm));
        let mut url = realm.clone();
        // To read this repository: the least that is of use.
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", &format!("repository:{}:pull", target.repository));
        let header = login.as_ref().map(Login::header);
        let (accept, authorization) = ("application/json", header.as_deref());
        let question = Question { method: Method::GET, at: "", accept, authorization, max: TOKEN_MAX };
        let answer = host.send(&question, url.as_str()).await?;
        let words = said(&answer.body);
        match (answer.status, login) {
            (200, _) => token(&answer.body).map_err(|reason| RegistryError::Odd {
                image: image(),
                reason: format!("asked for a token: {reason}"),
            }),
            (401, None) => Err(RegistryError::Unauthorized {
                image: image(),
                reason: format!("its registry wants a login{words}: add one to the auth file"),
            }),
            (401, Some(login)) => Err(RegistryError::Unauthorized {
                image: image(),
                reason: format!(
                    "its registry does not take the login of {}{words}: put another one into the auth file",
                    login.user
                ),
            }),
            (403, _) => Err(RegistryError::Denied { image: image(), said: words }),
            (404, _) => Err(RegistryError::NotFound { image: image(), said: words }),
            (status, _) if status >= 500 => {
                Err(host.unreachable(&format!("asked for a token, it answers {status}{words}")))
            }
            (status, _) => Err(RegistryError::Odd {
                image: image(),
                reason: format!("asked for a token, it answers {status}{words}"),
            }),
        }
    }
}

/// The token in an answer.
fn token(body: &[u8]) -> Result<Token, String> {
    #[derive(Deserialize)]
    struct Given {
        token: Option<Secret>,
        access_token: Option<Secret>,
        expires_in: Option<u64>,
    }
    let given: Given = serde_json::from_slice(body).map_err(|error| super::manifest::unreadable("answer", &error))?;
    let of_both = [given.token, given.access_token];
    let is_good =
        |token: &Secret| !token.expose().is_empty() && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
    let token = of_both.into_iter().flatten().find(is_good).ok_or("there is none in its answer")?;
    let good_for = given.expires_in.unwrap_or(EXPIRES_IN).min(EXPIRES_IN_MAX).saturating_sub(SPARE);
    let until = Instant::now() + Duration::from_secs(good_for);
    Ok(Token { header: Secret::new(format!("Bearer {}", token.expose())), until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_has_one_of_two_names_and_an_end() {
        let of = |body: &str| token(body.as_bytes());
        let now = Instant::now();
        let found = of(r#"{"token":"abc","expires_in":300}"#).expect("one");
        assert_eq!(found.header.expose(), "Bearer abc");
        assert!(found.until > now + Duration::from_secs(280) && found.until < now + Duration::from_secs(300));
        assert_eq!(of(r#"{"access_token":"x"}"#).expect("one").header.expose(), "Bearer x");
        assert!(
            of(r#"{"token":"x","expires_in":99999999999}"#).expect("one").until < now + Duration::from_secs(25 * 3600)
        );
        for wrong in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\nb"}"#] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
