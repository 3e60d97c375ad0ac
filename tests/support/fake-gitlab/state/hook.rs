//! A project's webhook, and what becomes of it when its receiver fails.

use std::collections::BTreeMap;

use crate::clock::Time;

/// What a hook can be called for, as fields of the API.
pub const EVENTS: [&str; 18] = [
    "push_events",
    "issues_events",
    "confidential_issues_events",
    "merge_requests_events",
    "tag_push_events",
    "note_events",
    "confidential_note_events",
    "job_events",
    "pipeline_events",
    "wiki_page_events",
    "deployment_events",
    "releases_events",
    "milestone_events",
    "feature_flag_events",
    "emoji_events",
    "resource_access_token_events",
    "vulnerability_events",
    "repository_update_events",
];

/// More failures in a row than this disable a hook for a while.
const FAILURES_BEFORE_PAUSE: u32 = 3;
/// More failures in a row than this disable it for good.
const FAILURES_BEFORE_END: u32 = 39;
/// The first pause, and the longest.
const PAUSES_MS: (i64, i64) = (60_000, 86_400_000);

/// A project's webhook.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Its id.
    pub id: u64,
    /// Where it calls, with masks such as `{token}`.
    pub url: String,
    /// Its name.
    pub name: Option<String>,
    /// Its description.
    pub description: Option<String>,
    /// The secret that it sends along.
    pub token: Option<String>,
    /// The secret that it signs with.
    pub signing_token: Option<String>,
    /// What it is called for.
    pub events: BTreeMap<&'static str, bool>,
    /// Which branches it is called for.
    pub branch_filter: String,
    /// How that is meant.
    pub branch_filter_strategy: String,
    /// Whether certificates are checked.
    pub verifies_tls: bool,
    /// A body of the administrator's own.
    pub template: Option<String>,
    /// Headers of the administrator's own.
    pub custom_headers: BTreeMap<String, String>,
    /// What the masks of the URL stand for.
    pub url_variables: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Time,
    /// Failures in a row.
    pub failures: u32,
    /// Until when it is disabled.
    pub disabled_until: Option<Time>,
}

/// How a hook is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is called.
    Executable,
    /// It is not called for a while.
    Paused,
    /// It is not called any more.
    Disabled,
}

impl Link {
    /// As the API names it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Paused => "temporarily_disabled",
            Self::Disabled => "disabled",
        }
    }
}

impl Hook {
    /// How it is doing, where failing hooks are disabled at all.
    pub fn link(&self, now: Time) -> Link {
        if self.failures > FAILURES_BEFORE_END {
            Link::Disabled
        } else if self.failures > FAILURES_BEFORE_PAUSE && self.disabled_until.is_some_and(|until| until >= now) {
            Link::Paused
        } else {
            Link::Executable
        }
    }

    /// Its receiver was content.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
        self.disabled_until = None;
    }

    /// Its receiver failed, or was not there.
    pub fn failed(&mut self, now: Time) {
        // What was under way when it was disabled does not count.
        if self.link(now) != Link::Executable {
            return;
        }
        let doublings = self.failures.saturating_sub(FAILURES_BEFORE_PAUSE).min(30);
        self.failures += 1;
        if self.failures > FAILURES_BEFORE_END {
            self.disabled_until = None;
        } else if self.failures > FAILURES_BEFORE_PAUSE {
            let pause = (PAUSES_MS.0 << doublings).min(PAUSES_MS.1);
            self.disabled_until = Some(now + pause);
        }
    }

    /// Where it calls.
    pub fn target(&self) -> String {
        let fill = |url: String, (key, value): (&String, &String)| url.replace(&format!("{{{key}}}"), value);
        self.url_variables.iter().fold(self.url.clone(), fill)
    }
}
