//! The signature of a webhook, as Standard Webhooks has it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What a signing token begins with.
const PREFIX: &str = "whsec_";

/// Whether this is a signing token: `whsec_` and 32 bytes in base64.
pub fn is_token(token: &str) -> bool {
    key(token).is_some_and(|key| key.len() == 32)
}

/// The signature of a body; none where the token is none.
pub fn sign(token: &str, id: &str, timestamp: i64, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(token)?).ok()?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

fn key(token: &str) -> Option<Vec<u8>> {
    STANDARD.decode(token.strip_prefix(PREFIX)?).ok()
}
