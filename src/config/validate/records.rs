//! `[history]` and `[metrics]`.

use std::time::Duration;

use crate::config::checks::Checker;
use crate::config::input::Origin;
use crate::config::keys::{HistoryKeys, MetricsKeys};
use crate::config::settings::{HistorySettings, MetricsSettings};
use crate::config::values::TimeSpan;

/// Less is no history.
const KEEP_MIN: Duration = Duration::from_secs(60);
/// Ten years.
const KEEP_MAX: Duration = Duration::from_secs(3660 * 24 * 3600);

pub(super) fn history(check: &mut Checker, given: &HistoryKeys) -> HistorySettings {
    let keep = given.keep.map_or(super::DAY * 30, |span| span.0);
    if keep < KEEP_MIN || keep > KEEP_MAX {
        let (low, high) = (TimeSpan(KEEP_MIN), TimeSpan(KEEP_MAX));
        let message = format!(r#"must be between "{low}" and "{high}", not "{}""#, TimeSpan(keep));
        check.wrong(&origin("history.keep"), message);
    }
    HistorySettings { keep, max_jobs: given.max_jobs.map_or(100_000, |count| count.0) }
}

pub(super) fn metrics(check: &mut Checker, given: &MetricsKeys) -> MetricsSettings {
    let settings = MetricsSettings {
        // "off" is no address.
        listen: given.listen.as_ref().and_then(|address| address.0.parse().ok()),
        allow_remote: given.allow_remote.unwrap_or(false),
        group: given.group.as_ref().map(|group| group.0.clone()),
    };
    if let Some(address) = settings.listen.filter(|address| !address.ip().is_loopback() && !settings.allow_remote) {
        let message = format!(
            "{address} can be reached from other hosts, and whoever reaches it is told the figures, without TLS and a password; \
             choose an address of this host alone, such as \"127.0.0.1:9464\", or set allow_remote = true"
        );
        check.wrong(&origin("metrics.listen"), message);
    }
    settings
}

fn origin(key: &str) -> Origin {
    Origin { key: key.to_owned(), span: None }
}
