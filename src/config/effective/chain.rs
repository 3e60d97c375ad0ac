//! `[gitlab]`, `[chain]`, `[webhook]` and `[feed]` as keys.

use crate::config::hours::{Hours, Moment};
use crate::config::keys::{
    AuditKeys, ChainKeys, ChainProjectKeys, FeedKeys, GitlabKeys, NotifyKeys, WatchKeys, WebhookKeys,
};
use crate::config::settings::{ChainSettings, FeedSettings, GitlabSettings, WebhookSettings};
use crate::config::texts::{Bounded, Text};
use crate::config::values::TimeSpan;

pub(super) fn gitlab(settings: &GitlabSettings) -> GitlabKeys {
    GitlabKeys {
        url: settings.url.as_ref().map(Text::of),
        ca_file: settings.ca_file.as_ref().map(|path| Text::of(path.display().to_string())),
        proxy: settings.proxy.as_ref().map(Text::of),
        token_file: settings.token_file.as_ref().map(|path| Text::of(path.display().to_string())),
        verify_jobs: Some(settings.verify_jobs),
    }
}

pub(super) fn chain(settings: &ChainSettings) -> ChainKeys {
    ChainKeys {
        groups: texts(&settings.groups),
        projects: texts(&settings.projects),
        include: texts(&settings.include),
        exclude: texts(&settings.exclude),
        files: texts(&settings.files),
        interval: Some(TimeSpan(settings.interval)),
        settle: Some(TimeSpan(settings.settle)),
        max_running: Some(Bounded(settings.max_running)),
        quiet_hours: settings.quiet_hours.map(Hours),
        kickoff: Some(settings.kickoff.iter().copied().map(Moment).collect()),
        done_when: settings.done_when.as_ref().map(Text::of),
        dry_run: Some(settings.dry_run),
        history: Some(TimeSpan(settings.history)),
        args: settings.args.iter().map(|(name, value)| (Text::of(name), Text::of(value))).collect(),
        notify: NotifyKeys { command: texts(&settings.notify.command), after: Some(TimeSpan(settings.notify.after)) },
        watch: WatchKeys {
            enabled: Some(settings.watch.enabled),
            every: Some(TimeSpan(settings.watch.every)),
            rebuild: Some(settings.watch.rebuild),
            include: texts(&settings.watch.include),
            exclude: texts(&settings.watch.exclude),
            auth_file: settings.watch.auth_file.as_ref().map(|path| Text::of(path.display().to_string())),
            platform: Some(Text::of(settings.watch.platform.to_string())),
            concurrency: Some(Bounded(settings.watch.concurrency)),
        },
        audit: AuditKeys { max_age: Some(TimeSpan(settings.audit.max_age)) },
        project: settings
            .overrides
            .values()
            .map(|project| ChainProjectKeys {
                path: Text::of(&project.path),
                reference: project.reference.as_ref().map(Text::of),
                done_when: project.done_when.as_ref().map(Text::of),
            })
            .collect(),
    }
}

pub(super) fn webhook(settings: &WebhookSettings) -> WebhookKeys {
    let path = |path: &std::path::PathBuf| Text::of(path.display().to_string());
    WebhookKeys {
        listen: Some(Text::of(settings.listen.map_or("off".to_owned(), |address| address.to_string()))),
        url: settings.url.as_ref().map(Text::of),
        verify_tls: Some(settings.verify_tls),
        secret_file: settings.secret_file.as_ref().map(path),
        signing_secret_file: settings.signing_secret_file.as_ref().map(path),
    }
}

pub(super) fn feed(settings: &FeedSettings) -> FeedKeys {
    FeedKeys {
        listen: Some(Text::of(settings.listen.map_or("off".to_owned(), |address| address.to_string()))),
        token_file: settings.token_file.as_ref().map(|path| Text::of(path.display().to_string())),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "what a key takes")]
fn texts<F>(list: &[String]) -> Option<Vec<Text<F>>> {
    Some(list.iter().map(Text::of).collect())
}
