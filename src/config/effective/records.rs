//! `[history]` and `[metrics]` as keys.

use crate::config::keys::{HistoryKeys, MetricsKeys};
use crate::config::settings::{HistorySettings, MetricsSettings};
use crate::config::texts::{Bounded, Text};
use crate::config::values::TimeSpan;

pub(super) fn history(settings: &HistorySettings) -> HistoryKeys {
    HistoryKeys { keep: Some(TimeSpan(settings.keep)), max_jobs: Some(Bounded(settings.max_jobs)) }
}

pub(super) fn metrics(settings: &MetricsSettings) -> MetricsKeys {
    MetricsKeys {
        listen: Some(Text::of(settings.listen.map_or("off".to_owned(), |address| address.to_string()))),
        allow_remote: Some(settings.allow_remote),
        group: settings.group.as_ref().map(Text::of),
    }
}
