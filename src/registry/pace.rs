//! When a registry wants to be left alone, and what it says is left of its limits.

use std::time::{Duration, SystemTime};

use reqwest::header::HeaderMap;

/// How long a registry is left alone that says it has had enough, but not for how long.
const WAIT: Duration = Duration::from_secs(300);
/// Longest pause that a registry can ask for.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// What is left of a limit on pulls, in the words of Docker Hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullLimit {
    /// Pulls in a window.
    pub limit: u64,
    /// Pulls that are left of them.
    pub remaining: u64,
    /// How long a window is, where it says so.
    pub window: Option<Duration>,
}

/// What the headers say is left.
pub(super) fn pull_limit(headers: &HeaderMap) -> Option<PullLimit> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let (limit, window) = amount(text("ratelimit-limit")?)?;
    let (remaining, _) = amount(text("ratelimit-remaining")?)?;
    Some(PullLimit { limit, remaining, window })
}

/// An amount, and in how long: `100;w=21600`.
fn amount(text: &str) -> Option<(u64, Option<Duration>)> {
    let (amount, rest) = text.split_once(';').unwrap_or((text, ""));
    let window = rest.split(';').find_map(|part| part.trim().strip_prefix("w=")?.parse().ok());
    Some((amount.trim().parse().ok()?, window.map(Duration::from_secs)))
}

/// How long to leave a registry alone that has had enough (429), or that names a pause while it is out of order (503).
pub(super) fn pause(status: u16, headers: &HeaderMap) -> Option<Duration> {
    let asked = retry_after(headers);
    match status {
        429 => Some(asked.unwrap_or(WAIT).min(WAIT_MAX)),
        503 => asked.map(|asked| asked.min(WAIT_MAX)),
        _ => None,
    }
}

/// What `Retry-After` asks for: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&'static str, &str)| (name.parse().expect("a name"), value.parse().expect("a value"));
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        let of = |status, value: &str| pause(status, &headers(&[("retry-after", value)]));
        assert_eq!(of(429, "30"), Some(Duration::from_secs(30)));
        assert_eq!(of(503, "30"), Some(Duration::from_secs(30)));
        assert_eq!(of(200, "30"), None);
        let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        let wait = of(429, &later).expect("a pause");
        assert!((Duration::from_secs(98)..=Duration::from_secs(100)).contains(&wait), "{wait:?}");
        assert_eq!(of(429, "Tue, 05 Jan 2021 11:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of(429, "soon"), Some(WAIT));
        assert_eq!(of(429, "99999999999999"), Some(WAIT_MAX), "no registry is lost for ever");
        assert_eq!((pause(429, &HeaderMap::new()), pause(503, &HeaderMap::new())), (Some(WAIT), None));
    }

    #[test]
    fn docker_hubs_limit_is_read() {
        let found = pull_limit(&headers(&[("ratelimit-limit", "10;w=3600"), ("ratelimit-remaining", "7;w=3600")]));
        assert_eq!(found, Some(PullLimit { limit: 10, remaining: 7, window: Some(Duration::from_secs(3600)) }));
        assert_eq!(pull_limit(&headers(&[("ratelimit-limit", "x"), ("ratelimit-remaining", "7")])), None);
    }
}
