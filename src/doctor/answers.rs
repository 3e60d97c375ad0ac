//! Whether a server answers this host, with the certificates that jobs have, and in words why not.

use std::path::Path;
use std::time::Duration;

use reqwest::Certificate;

use super::targets::{REGISTRY, Target};

/// How long one request or one look-up of the host's may take.
pub const WITHIN: Duration = Duration::from_secs(10);

/// Whether anything answers, with the certificates that jobs have.
///
/// # Errors
/// Why not, for people.
pub async fn answers(url: &str, target: &Target, ca_file: Option<&Path>) -> Result<(), String> {
    let mut builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(WITHIN);
    if let Some(proxy) = target.proxy.as_deref() {
        builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(|error| error.to_string())?);
    }
    if let Some(file) = ca_file {
        let pem = crate::executor::certificates::bundle(file).map_err(|error| format!("{error:#}"))?;
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(|error| error.to_string())?);
    }
    let client = builder.build().map_err(|error| error.to_string())?;
    let status = client.get(url).send().await.map_err(|error| causes(&error))?.status().as_u16();
    match status {
        200 | 401 => Ok(()),
        status if target.name == REGISTRY => {
            Err(format!("it answers {status} to /v2/, where a registry says 200 or 401"))
        }
        _ => Ok(()),
    }
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
        (_, true) => format!("no answer within {}", humantime::format_duration(WITHIN)),
        (true, _) => "the request failed".to_owned(),
        _ => words.join(": "),
    }
}
