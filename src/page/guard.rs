//! What every answer of the page carries, and which requests get none: the page trusts no script, style or frame but its own, and
//! answers only to names that are its own.

use http::HeaderMap;
use http::header::HeaderValue;

/// Nothing from any other place, nothing inline, in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Adds the headers of every answer.
pub fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Names of projects are nobody's to keep.
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));
}

/// Whether a page for which nobody has to log in answers to this `Host`: a foreign page whose name was pointed at this host, or at the end
/// of somebody's tunnel to it, must not read it (DNS rebinding). `names` are the administrator's own.
#[must_use]
pub fn is_own_host(host: Option<&str>, names: &[String]) -> bool {
    let Some(host) = host else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        || names.iter().any(|own| own.eq_ignore_ascii_case(name))
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|port| port.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_loopback_and_the_administrators_own_are_answered() {
        let own = ["ci.example.com".to_owned()];
        for host in ["localhost", "localhost:9253", "127.0.0.1:9253", "[::1]:9253", "[::1]", "CI.example.com:443"] {
            assert!(is_own_host(Some(host), &own), "{host}");
        }
        for host in ["", "evil.example.com", "localhost.evil.example.com", "[::1]x", "127.0.0.1:x", "192.0.2.1"] {
            assert!(!is_own_host(Some(host), &own), "{host}");
        }
        assert!(!is_own_host(None, &own));
    }
}
