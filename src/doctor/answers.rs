//! Whether a server answers, with the certificates that jobs have, and in words why not: asked from the host, or through a container.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, RequestBuilder};

use super::targets::{REGISTRY, Target};

/// How long one request or one look-up of the host's may take.
pub const WITHIN: Duration = Duration::from_secs(10);
/// The length of the header with which a request needs several packets of full size, in bytes. nginx, with which GitLab comes, takes 8 KiB
/// (`large_client_header_buffers`); one that refuses it has got it.
pub const LARGE: usize = 6 * 1024;

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It answers as it should.
    Good,
    /// Its certificate is not trusted, and why.
    Distrusted(String),
    /// Nothing came within [`WITHIN`].
    Silent,
    /// Something else is wrong.
    Odd(String),
}

impl Answer {
    /// What is wrong with it, for people.
    pub fn problem(&self) -> String {
        match self {
            Self::Good => "nothing".to_owned(),
            Self::Silent => format!("no answer within {}", humantime::format_duration(WITHIN)),
            Self::Distrusted(error) | Self::Odd(error) => error.clone(),
        }
    }
}

/// Asks a target from the host, the way that jobs take: with their proxy.
pub async fn from_host(url: &str, target: &Target, ca_file: Option<&Path>) -> Answer {
    let proxy = |builder: ClientBuilder| match target.proxy.as_deref() {
        Some(proxy) => Ok(builder.proxy(reqwest::Proxy::all(proxy).map_err(|error| error.to_string())?)),
        None => Ok(builder),
    };
    match builder(ca_file).and_then(proxy).and_then(build) {
        Ok(client) => ask(client.get(url), target).await,
        Err(error) => Answer::Odd(error),
    }
}

/// Asks a target over a connection that is there already, behind a socket. `size` bytes go along in a header.
pub async fn over(socket: &Path, url: &str, target: &Target, ca_file: Option<&Path>, size: usize) -> Answer {
    match builder(ca_file).map(|builder| builder.unix_socket(socket)).and_then(build) {
        Ok(client) => ask(client.get(url).header("X-Windlass-Doctor", "a".repeat(size)), target).await,
        Err(error) => Answer::Odd(error),
    }
}

fn builder(ca_file: Option<&Path>) -> Result<ClientBuilder, String> {
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(WITHIN);
    let Some(file) = ca_file else { return Ok(builder) };
    let pem = crate::executor::certificates::bundle(file).map_err(|error| format!("{error:#}"))?;
    Ok(builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?))
}

fn build(builder: ClientBuilder) -> Result<Client, String> {
    builder.build().map_err(|error| error.to_string())
}

async fn ask(request: RequestBuilder, target: &Target) -> Answer {
    match request.send().await {
        Ok(answer) => match answer.status().as_u16() {
            200 | 401 => Answer::Good,
            status if target.name == REGISTRY => {
                Answer::Odd(format!("it answers {status} to /v2/, where a registry says 200 or 401"))
            }
            _ => Answer::Good,
        },
        Err(error) if error.is_timeout() => Answer::Silent,
        Err(error) => judged(causes(&error)),
    }
}

fn judged(error: String) -> Answer {
    let is_trust = ["certificate", "issuer", "UnknownIssuer"].iter().any(|word| error.contains(word));
    if is_trust { Answer::Distrusted(error) } else { Answer::Odd(error) }
}

/// An error with what caused it, without the address.
pub fn causes(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    match (words.is_empty(), error.is_timeout()) {
        (_, true) => Answer::Silent.problem(),
        (true, _) => "the request failed".to_owned(),
        _ => words.join(": "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_is_told_from_other_errors() {
        let distrusted = judged("invalid peer certificate: UnknownIssuer".into());
        assert!(matches!(&distrusted, Answer::Distrusted(error) if distrusted.problem() == *error), "{distrusted:?}");
        assert!(matches!(judged("connection reset".into()), Answer::Odd(_)));
        assert!(Answer::Silent.problem().contains("within 10s"));
    }
}
