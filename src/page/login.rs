//! Who may look: a token that people log in with once, a cookie that proves it until it is over, and few attempts.
//!
//! The cookie has a time and a signature over it, with a key made of the token. So sessions outlast a restart of the daemon, nothing is
//! kept of them, and another token ends them all.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::http::Peer;
use crate::sys::secrets::Secret;

/// The cookie's name.
pub const COOKIE: &str = "windlass-page";
/// How long a session lasts.
pub const SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
/// A shorter token could be guessed, in characters.
pub const TOKEN_MIN: usize = 16;
/// Wrong tokens within [`WINDOW`] of one sender.
const WRONG_MAX: usize = 10;
/// Wrong tokens within it of all together, who may make addresses up: that many guesses a minute lead nowhere.
const WRONG_MAX_OF_ALL: usize = 100;
/// The time that wrong tokens are counted in.
const WINDOW: Duration = Duration::from_secs(60);

/// What came of an attempt to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is the token.
    Right,
    /// It is not.
    Wrong,
    /// Too many of this sender were wrong; nobody has looked at this one, nor does anybody look at others for so long.
    TooMany(Duration),
}

/// Whether somebody may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// They may.
    Yes,
    /// They have to log in.
    No,
    /// Their token was not looked at: too many were wrong. They may try again after so long.
    TooMany(Duration),
}

/// Who sends tokens, as far as they can be told apart; none: somebody on this host.
pub type Sender = Option<IpAddr>;

/// Who has sent a request. Behind a proxy on this host that is whom the proxy names: the last in `X-Forwarded-For`. Whoever else could have
/// written that would only name themselves.
#[must_use]
pub fn sender(peer: Peer, headers: &HeaderMap) -> Sender {
    if peer.0.is_some_and(|address| !address.is_loopback()) {
        return peer.0.map(network);
    }
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let address: IpAddr = last.rsplit(',').next()?.trim().parse().ok()?;
    Some(network(address.to_canonical()))
}

/// The network of somebody with this address: of IPv6, everybody has 2^64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

/// The door.
#[derive(Debug)]
pub struct Login {
    token: Option<Secret>,
    /// Wrong tokens of the last while: at most as many as are looked at in it.
    wrong: Mutex<VecDeque<(Instant, Sender)>>,
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
    pub fn attempt(&self, given: &str, from: Sender, now: Instant) -> Attempt {
        let Some(token) = &self.token else { return Attempt::Right };
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        while wrong.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            wrong.pop_front();
        }
        let own: Vec<Instant> = wrong.iter().filter(|(_, other)| *other == from).map(|(at, _)| *at).collect();
        // When the first of them counts no more, one more is looked at.
        let first = match wrong.front() {
            Some((first, _)) if wrong.len() >= WRONG_MAX_OF_ALL => Some(*first),
            _ => own.first().copied().filter(|_| own.len() >= WRONG_MAX),
        };
        if let Some(first) = first {
            return Attempt::TooMany((first + WINDOW).saturating_duration_since(now));
        }
        // Of digests, so that the time tells nothing of the length either.
        if bool::from(Sha256::digest(given).ct_eq(&Sha256::digest(token.expose()))) {
            return Attempt::Right;
        }
        wrong.push_back((now, from));
        Attempt::Wrong
    }

    /// The cookie's value for a session that begins now; `now` in seconds since 1970.
    #[must_use]
    pub fn session(&self, now: u64) -> String {
        let over = now + SESSION.as_secs();
        format!("{over}.{}", hex(&self.signature(over)))
    }

    /// Whether a request of this peer with these headers may look; `now` in seconds since 1970.
    pub fn may_look(&self, peer: Peer, headers: &HeaderMap, now: u64) -> Look {
        if self.token.is_none() {
            return Look::Yes;
        }
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let bearer = headers.get("authorization").and_then(text);
        if let Some(given) = bearer.as_deref().and_then(|value| value.strip_prefix("Bearer ")) {
            return match self.attempt(given.trim(), sender(peer, headers), Instant::now()) {
                Attempt::Right => Look::Yes,
                Attempt::Wrong => Look::No,
                Attempt::TooMany(wait) => Look::TooMany(wait),
            };
        }
        let cookies: Vec<String> = headers.get_all("cookie").iter().filter_map(text).collect();
        let mut pairs =
            cookies.iter().flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        match pairs.any(|(name, value)| name == COOKIE && self.is_session(value, now)) {
            true => Look::Yes,
            false => Look::No,
        }
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
        let look = |door: &Login, headers: &HeaderMap, now| door.may_look(Peer(None), headers, now);
        assert_eq!(look(&door, &cookie(&value), 1001), Look::Yes);
        assert_eq!(look(&door, &cookie(&value), 1000 + SESSION.as_secs()), Look::No);
        assert_eq!(look(&login("another token at all"), &cookie(&value), 1001), Look::No);
        assert_eq!(look(&door, &HeaderMap::new(), 1001), Look::No);
    }

    #[test]
    fn a_cookie_that_was_made_up_or_changed_is_none() {
        let door = login("correct horse battery");
        let value = door.session(1000);
        let later = value.replacen("605800", "905800", 1);
        assert_ne!(later, value);
        for wrong in ["", ".", "9999999999.", "x.y", &later, &value[..value.len() - 1], &format!("{value}0")] {
            assert_eq!(door.may_look(Peer(None), &cookie(wrong), 1001), Look::No, "{wrong}");
        }
    }

    const TOKEN: &str = "correct horse battery";

    fn from(text: &str) -> Sender {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn after_some_wrong_tokens_their_sender_is_not_heard_for_a_while_and_others_are() {
        let (door, now) = (login(TOKEN), Instant::now());
        let (guesser, other) = (from("192.0.2.7"), from("192.0.2.8"));
        for _ in 0..WRONG_MAX {
            assert_eq!(door.attempt("wrong", guesser, now), Attempt::Wrong);
        }
        let soon = now + Duration::from_secs(20);
        assert_eq!(door.attempt(TOKEN, guesser, soon), Attempt::TooMany(Duration::from_secs(40)));
        assert_eq!(
            (door.attempt(TOKEN, other, soon), door.attempt(TOKEN, None, soon)),
            (Attempt::Right, Attempt::Right)
        );
        let later = now + WINDOW + Duration::from_secs(1);
        assert_eq!(door.attempt(TOKEN, guesser, later), Attempt::Right);
    }

    #[test]
    fn whoever_makes_addresses_up_is_bounded_too() {
        let (door, now) = (login(TOKEN), Instant::now());
        let looked_at =
            (0..=255).filter(|last| door.attempt("wrong", from(&format!("192.0.2.{last}")), now) == Attempt::Wrong);
        assert_eq!(looked_at.count(), WRONG_MAX_OF_ALL);
        assert!(matches!(door.attempt(TOKEN, None, now), Attempt::TooMany(_)));
    }

    #[test]
    fn a_right_token_that_nobody_looked_at_is_not_called_wrong() {
        let door = login(TOKEN);
        let shown = |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {token}").parse().expect("a header"));
            door.may_look(Peer(None), &headers, 1)
        };
        assert_eq!(shown(TOKEN), Look::Yes);
        (0..WRONG_MAX).for_each(|_| assert_eq!(shown("wrong"), Look::No));
        assert!(matches!(shown(TOKEN), Look::TooMany(_)));
        let cookie = cookie(&door.session(1));
        assert_eq!(door.may_look(Peer(None), &cookie, 2), Look::Yes, "who has logged in stays in");
    }

    #[test]
    fn a_sender_is_the_peer_or_whom_a_proxy_on_this_host_names() {
        let mut headers = HeaderMap::new();
        let peer = |text: &str| Peer(Some(text.parse().expect("an address")));
        assert_eq!((sender(peer("127.0.0.1"), &headers), sender(Peer(None), &headers)), (None, None));
        headers.insert("x-forwarded-for", "203.0.113.1, 192.0.2.7".parse().expect("a header"));
        assert_eq!(
            (sender(peer("::1"), &headers), sender(Peer(None), &headers)),
            (from("192.0.2.7"), from("192.0.2.7"))
        );
        assert_eq!(sender(peer("198.51.100.4"), &headers), from("198.51.100.4"), "it may say what it likes");
        assert_eq!(sender(peer("2001:db8:0:1:2:3:4:5"), &headers), from("2001:db8:0:1::"));
        headers.insert("x-forwarded-for", "unknown".parse().expect("a header"));
        assert_eq!(sender(Peer(None), &headers), None);
    }
}
