//! How many requests somebody may make in a while, and the headers that say so.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Time, host_now, http_date};
use crate::http::Answer;

/// What somebody may spend.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// So many requests,
    pub limit: u64,
    /// in so many seconds.
    pub window_s: u64,
}

/// Counts requests; without an allowance none are refused, and no headers are sent.
#[derive(Debug, Default)]
pub struct Budget {
    allowance: Option<Allowance>,
    /// By token: when its window began, by the host's clock, and how many there were in it.
    spent: HashMap<String, (Time, u64)>,
}

/// What is left after one more request.
#[derive(Debug, Clone)]
pub struct Left {
    headers: Vec<(String, String)>,
    retry_after: Option<u64>,
}

impl Budget {
    /// Gives everybody a new allowance.
    pub fn set(&mut self, allowance: Option<Allowance>) {
        *self = Self { allowance, spent: HashMap::new() };
    }

    /// Counts one request.
    pub fn spend(&mut self, token: &str, clock: Clock) -> Option<Left> {
        let allowance = self.allowance?;
        let window = i64::try_from(allowance.window_s).unwrap_or_default().max(1) * 1000;
        let now = host_now();
        let (start, observed) = self.spent.entry(token.to_owned()).or_insert((now, 0));
        if now - *start >= window {
            (*start, *observed) = (now, 0);
        }
        *observed += 1;
        let end = *start + window;
        // Rounded up, or the client would come just too early.
        let retry_after =
            (*observed > allowance.limit).then(|| u64::try_from(end - now).unwrap_or_default().div_ceil(1000));
        let reset = end + clock.ahead;
        let mut headers = vec![
            ("RateLimit-Limit", allowance.limit.to_string()),
            ("RateLimit-Name", "throttle_authenticated_api".to_owned()),
            ("RateLimit-Observed", observed.to_string()),
            ("RateLimit-Remaining", allowance.limit.saturating_sub(*observed).to_string()),
            ("RateLimit-Reset", (reset / 1000).to_string()),
        ];
        if let Some(seconds) = retry_after {
            headers.push(("RateLimit-ResetTime", http_date(reset)));
            headers.push(("Retry-After", seconds.to_string()));
        }
        let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Some(Left { headers, retry_after })
    }
}

impl Left {
    /// The refusal, if too much was spent.
    pub fn refusal(&self) -> Option<Answer> {
        self.retry_after.map(|_| Answer::bytes(429, "text/plain", b"Retry later\n".to_vec()))
    }

    /// An answer with the headers that say what is left.
    pub fn tell(self, mut answer: Answer) -> Answer {
        answer.headers.extend(self.headers);
        answer
    }
}
