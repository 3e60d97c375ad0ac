//! Who may look: a token that people log in with once, a cookie that proves it until it is over, and few attempts.
//!
//! The cookie has a time and a signature over it, with a key made of the token. So sessions outlast a restart of the daemon, nothing is
//! kept of them, and another token ends them all.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::sys::secrets::Secret;

/// The cookie's name.
pub const COOKIE: &str = "windlass-page";
/// How long a session lasts.
pub const SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
/// A shorter token could be guessed, in characters.
pub const TOKEN_MIN: usize = 16;
/// Wrong tokens within [`WINDOW`], from all together: behind a proxy all look the same.
const WRONG_MAX: usize = 10;
/// The time that wrong tokens are counted in.
const WINDOW: Duration = Duration::from_secs(60);

/// What came of an attempt to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is the token.
    Right,
    /// It is not.
    Wrong,
    /// Too many were wrong; nobody has looked at this one.
    TooMany,
}

/// The door.
#[derive(Debug)]
pub struct Login {
    token: Option<Secret>,
    wrong: Mutex<VecDeque<Instant>>,
}

impl Login {
    /// With this token; none: the door is open.
    #[must_use]
    pub fn new(token: Option<Secret>) -> Self {
        Self { token, wrong: Mutex::default() }
    }

    /// Whether anybody has to log in.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.token.is_some()
    }

    /// Tries a token.
    pub fn attempt(&self, given: &str, now: Instant) -> Attempt {
        let Some(token) = &self.token else { return Attempt::Right };
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        while wrong.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            wrong.pop_front();
        }
        if wrong.len() >= WRONG_MAX {
            return Attempt::TooMany;
        }
        // Of digests, so that the time tells nothing of the length either.
        if bool::from(Sha256::digest(given).ct_eq(&Sha256::digest(token.expose()))) {
            return Attempt::Right;
        }
        wrong.push_back(now);
        Attempt::Wrong
    }

    /// The cookie's value for a session that begins now; `now` in seconds since 1970.
    #[must_use]
    pub fn session(&self, now: u64) -> String {
        let over = now + SESSION.as_secs();
        format!("{over}.{}", hex(&self.signature(over)))
    }

    /// Whether a request with these headers may look.
    pub fn may_look(&self, headers: &HeaderMap, now: u64) -> bool {
        if self.token.is_none() {
            return true;
        }
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let bearer = headers.get("authorization").and_then(text);
        if let Some(given) = bearer.as_deref().and_then(|value| value.strip_prefix("Bearer ")) {
            return self.attempt(given.trim(), Instant::now()) == Attempt::Right;
        }
        let cookies: Vec<String> = headers.get_all("cookie").iter().filter_map(text).collect();
        let mut pairs =
            cookies.iter().flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == COOKIE && self.is_session(value, now))
    }

    fn is_session(&self, value: &str, now: u64) -> bool {
        let Some((over, signature)) = value.split_once('.') else { return false };
        let Ok(over) = over.parse::<u64>() else { return false };
        let right = hex(&self.signature(over));
        over > now && over <= now + SESSION.as_secs() && bool::from(right.as_bytes().ct_eq(signature.as_bytes()))
    }

    fn signature(&self, over: u64) -> Vec<u8> {
        let token = self.token.as_ref().map_or("", Secret::expose);
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.as_bytes()) else { return Vec::new() };
        mac.update(b"windlass page session ");
        mac.update(&over.to_be_bytes());
        mac.finalize().into_bytes().to_vec()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(token: &str) -> Login {
        Login::new(Some(Secret::new(token)))
    }

    fn cookie(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("cookie", format!("a=b; {COOKIE}={value}").parse().expect("a header"));
        headers
    }

    #[test]
    fn a_session_lasts_its_time_and_no_longer() {
        let door = login("correct horse battery");
        let value = door.session(1000);
        assert!(door.may_look(&cookie(&value), 1001));
        assert!(!door.may_look(&cookie(&value), 1000 + SESSION.as_secs()));
        assert!(!login("another token at all").may_look(&cookie(&value), 1001));
        assert!(!door.may_look(&HeaderMap::new(), 1001));
    }

    #[test]
    fn a_cookie_that_was_made_up_or_changed_is_none() {
        let door = login("correct horse battery");
        let value = door.session(1000);
        let later = value.replacen("605800", "905800", 1);
        assert_ne!(later, value);
        for wrong in ["", ".", "9999999999.", "x.y", &later, &value[..value.len() - 1], &format!("{value}0")] {
            assert!(!door.may_look(&cookie(wrong), 1001), "{wrong}");
        }
    }

    #[test]
    fn after_some_wrong_tokens_nobody_is_heard_for_a_while() {
        let (door, now) = (login("correct horse battery"), Instant::now());
        for _ in 0..WRONG_MAX {
            assert_eq!(door.attempt("wrong", now), Attempt::Wrong);
        }
        assert_eq!(door.attempt("correct horse battery", now), Attempt::TooMany);
        let later = now + WINDOW + Duration::from_secs(1);
        assert_eq!(door.attempt("correct horse battery", later), Attempt::Right);
    }
}
