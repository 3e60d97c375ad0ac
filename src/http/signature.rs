//! Whether a call is GitLab's: by its token, or by its signature (Standard Webhooks, from GitLab 19.0 on).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// By how many seconds a signature's time may be off: an old call is not played again for ever.
const OFF_MAX: i64 = 300;

/// The head of a call, as far as it says whose it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Head {
    pub token: Option<String>,
    pub id: Option<String>,
    pub timestamp: Option<String>,
    pub signature: Option<String>,
}

/// Whether a token is the expected one, in a time that tells nothing of it.
pub(super) fn has_token(head: &Head, expected: &str) -> bool {
    let given = head.token.as_deref().unwrap_or_default();
    !expected.is_empty() && bool::from(given.as_bytes().ct_eq(expected.as_bytes()))
}

/// Whether a body is signed with this key. `now` is in seconds since 1970.
pub(super) fn is_signed(head: &Head, body: &[u8], key: &[u8], now: i64) -> bool {
    let (Some(id), Some(timestamp), Some(signatures)) = (&head.id, &head.timestamp, &head.signature) else {
        return false;
    };
    let Ok(at) = timestamp.parse::<i64>() else { return false };
    if at.abs_diff(now) > OFF_MAX.unsigned_abs() {
        return false;
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    let expected = mac.finalize().into_bytes();
    // While keys change there are several.
    signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,")).any(|signature| {
        STANDARD.decode(signature).is_ok_and(|given| bool::from(given.as_slice().ct_eq(expected.as_slice())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn head(signature: &str) -> Head {
        Head { id: Some("d1".into()), timestamp: Some("1000".into()), signature: Some(signature.into()), token: None }
    }

    #[test]
    fn a_signature_is_of_key_id_time_and_body() {
        let (key, body) = ([7; 32], b"{}".as_slice());
        let good = sign(&key, "d1", "1000", body);
        assert!(is_signed(&head(&good), body, &key, 1000));
        assert!(is_signed(&head(&format!("v1,AAAA {good} v2,x")), body, &key, 1299), "one of several");
        assert!(!is_signed(&head(&good), b"{ }", &key, 1000), "another body");
        assert!(!is_signed(&head(&good), body, &[8; 32], 1000), "another key");
        assert!(!is_signed(&head(&sign(&key, "d2", "1000", body)), body, &key, 1000), "another call's");
        assert!(!is_signed(&head(&good), body, &key, 1301), "too old");
        assert!(!is_signed(&head(&good), body, &key, 0), "of the future");
        for broken in ["", "v1,", "v1,%%%", good.trim_start_matches("v1,")] {
            assert!(!is_signed(&head(broken), body, &key, 1000), "{broken}");
        }
        assert!(!is_signed(&Head::default(), body, &key, 1000));
    }

    #[test]
    fn a_token_has_to_be_the_same() {
        let with = |token: &str| Head { token: Some(token.into()), ..Head::default() };
        assert!(has_token(&with("secret"), "secret"));
        assert!(
            !has_token(&with("secre"), "secret")
                && !has_token(&with("secret2"), "secret")
                && !has_token(&with(""), "secret")
        );
        assert!(!has_token(&Head::default(), "secret") && !has_token(&with(""), ""));
    }
}
