//! Who may look: a token that people log in with once, a cookie that proves it until it is over, and a limit for wrong ones.
//!
//! Each token is looked at, however many were wrong before: one of [`TOKEN_MIN`] characters by chance is not found by trying, and whoever
//! tries must not be able to keep others out. Who sends many wrong ones is told to wait, by sender.
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
/// Wrong tokens that are kept in mind, of all senders; the oldest are forgotten first.
const KEPT_MAX: usize = 1000;
/// Wrong tokens of all senders together that the journal is told of within it.
const TOLD_MAX: usize = 100;
/// The time that wrong tokens are counted in.
const WINDOW: Duration = Duration::from_secs(60);

/// What came of an attempt to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is the token.
    Right,
    /// It is not.
    Wrong,
    /// It is not, and too many of this sender were not. It should wait for so long.
    TooMany(Duration),
}

/// Whether somebody may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// They may.
    Yes,
    /// They have to log in.
    No,
    /// Neither this token nor too many before it were right. They should try again after so long.
    TooMany(Duration),
}

/// Who sends tokens, as far as they can be told apart; none: somebody on this host.
pub type Sender = Option<IpAddr>;

/// Who has sent a request. Behind a proxy on this host that is whom the proxy names: the last in `X-Forwarded-For`. Others on this host can
/// write that too; all they get by it is more answers to wrong tokens.
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
    /// Wrong tokens of the last while, at most [`KEPT_MAX`].
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
        // Of digests, so that the time tells nothing of the length either.
        if bool::from(Sha256::digest(given).ct_eq(&Sha256::digest(token.expose()))) {
            return Attempt::Right;
        }
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        while wrong.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            wrong.pop_front();
        }
        let mut own = wrong.iter().filter(|(_, other)| *other == from).map(|(at, _)| *at);
        if let Some(first) = own.next()
            && own.count() + 1 >= WRONG_MAX
        {
            return Attempt::TooMany((first + WINDOW).saturating_duration_since(now));
        }
        if wrong.len() < TOLD_MAX {
            tracing::warn!("a wrong token for the page");
        }
        if wrong.len() >= KEPT_MAX {
            wrong.pop_front();
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
        // Before a token, which may be that of a proxy in between.
        if self.has_session(headers, now) {
            return Look::Yes;
        }
        let bearer = headers.get("authorization").and_then(|value| value.to_str().ok());
        if let Some(given) = bearer.and_then(|value| value.strip_prefix("Bearer ")) {
            return match self.attempt(given.trim(), sender(peer, headers), Instant::now()) {
                Attempt::Right => Look::Yes,
                Attempt::Wrong => Look::No,
                Attempt::TooMany(wait) => Look::TooMany(wait),
            };
        }
        Look::No
    }

    /// Whether a request with these headers is somebody's who has logged in; where nobody has to, everybody has.
    #[must_use]
    pub fn has_session(&self, headers: &HeaderMap, now: u64) -> bool {
        let cookies = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        !self.is_wanted() || pairs.any(|(name, value)| name == COOKIE && self.is_session(value, now))
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
    fn after_some_wrong_tokens_their_sender_is_told_to_wait_and_others_are_not() {
        let (door, now) = (login(TOKEN), Instant::now());
        let (guesser, other) = (from("192.0.2.7"), from("192.0.2.8"));
        for _ in 0..WRONG_MAX {
            assert_eq!(door.attempt("wrong", guesser, now), Attempt::Wrong);
        }
        let soon = now + Duration::from_secs(20);
        assert_eq!(door.attempt("wrong", guesser, soon), Attempt::TooMany(Duration::from_secs(40)));
        assert_eq!(door.attempt("wrong", other, soon), Attempt::Wrong);
        let later = now + WINDOW + Duration::from_secs(1);
        assert_eq!(door.attempt("wrong", guesser, later), Attempt::Wrong);
    }

    #[test]
    fn nobody_is_kept_out_by_wrong_tokens_of_others_or_of_their_own_address() {
        let (door, now) = (login(TOKEN), Instant::now());
        for sender in (0..=255).flat_map(|net| (0..=9).map(move |host| from(&format!("192.0.{net}.{host}")))) {
            for _ in 0..WRONG_MAX {
                assert_eq!(door.attempt("wrong", sender, now), Attempt::Wrong);
            }
        }
        let guesser = from("192.0.255.9");
        assert!(matches!(door.attempt("wrong", guesser, now), Attempt::TooMany(_)));
        for sender in [None, from("198.51.100.1"), guesser] {
            assert_eq!(door.attempt(TOKEN, sender, now), Attempt::Right, "{sender:?}");
        }
        assert!(door.wrong.lock().expect("a list").len() <= KEPT_MAX, "what is kept in mind is bounded");
    }

    #[test]
    fn a_right_token_is_right_after_many_wrong_ones_and_a_session_stays_one() {
        let door = login(TOKEN);
        let shown = |token: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {token}").parse().expect("a header"));
            door.may_look(Peer(None), &headers, 1)
        };
        (0..WRONG_MAX).for_each(|_| assert_eq!(shown("wrong"), Look::No));
        assert!(matches!(shown("wrong"), Look::TooMany(_)));
        assert_eq!(shown(TOKEN), Look::Yes);
        let mut both = cookie(&door.session(1));
        both.insert("authorization", "Bearer of a proxy in between".parse().expect("a header"));
        assert_eq!(door.may_look(Peer(None), &both, 2), Look::Yes, "a session counts, whatever comes with it");
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
