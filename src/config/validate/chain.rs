//! `[gitlab]`, `[chain]`, `[webhook]` and `[feed]`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{DAY, HOUR};
use crate::config::checks::Checker;
use crate::config::input::Origin;
use crate::config::keys::{ChainKeys, FeedKeys, GitlabKeys, WebhookKeys};
use crate::config::settings::{
    AuditSettings, ChainProject, ChainSettings, FeedSettings, GitlabSettings, NotifySettings, WatchSettings,
    WebhookSettings,
};
use crate::config::values::TimeSpan;
use crate::registry::Platform;

/// Where webhooks come in unless something else is said: this host alone, since TLS is a reverse proxy's.
const LISTEN: &str = "127.0.0.1:9252";

pub(super) fn gitlab(check: &mut Checker, given: &GitlabKeys) -> GitlabSettings {
    let settings = GitlabSettings {
        url: given.url.as_ref().map(|url| url.0.clone()),
        ca_file: given.ca_file.as_ref().map(|path| path.0.clone().into()),
        proxy: given.proxy.as_ref().map(|url| url.0.clone()),
        token_file: given.token_file.as_ref().map(|path| path.0.clone().into()),
        verify_jobs: given.verify_jobs.unwrap_or(false),
    };
    if settings.verify_jobs && settings.url.is_none() {
        check.wrong(&origin("gitlab.verify_jobs"), "needs url in [gitlab]: where GitLab is asked");
    }
    settings
}

pub(super) fn chain(check: &mut Checker, given: &ChainKeys, gitlab: &GitlabSettings) -> ChainSettings {
    let settings = ChainSettings {
        groups: texts(given.groups.as_ref()),
        projects: texts(given.projects.as_ref()),
        include: texts(given.include.as_ref()),
        exclude: texts(given.exclude.as_ref()),
        files: texts(given.files.as_ref()),
        args: super::more::map(Some(&given.args)),
        interval: span(check, "chain.interval", given.interval, HOUR / 4, Duration::from_secs(1)..=DAY),
        settle: span(check, "chain.settle", given.settle, Duration::from_secs(30), Duration::ZERO..=HOUR),
        max_running: given.max_running.map_or(4, |count| count.0),
        quiet_hours: given.quiet_hours.map(|hours| hours.0),
        kickoff: given.kickoff.iter().flatten().map(|moment| moment.0).collect(),
        done_when: given.done_when.as_ref().map(|job| job.0.clone()),
        dry_run: given.dry_run.unwrap_or(false),
        history: span(check, "chain.history", given.history, DAY * 90, DAY..=DAY * 3660),
        notify: NotifySettings {
            command: texts(given.notify.command.as_ref()),
            after: span(check, "chain.notify.after", given.notify.after, HOUR, Duration::from_secs(1)..=DAY * 365),
        },
        watch: watch(check, given),
        audit: AuditSettings {
            max_age: span(
                check,
                "chain.audit.max_age",
                given.audit.max_age,
                DAY * 90,
                Duration::from_secs(1)..=DAY * 3660,
            ),
        },
        overrides: overrides(check, given),
    };
    if settings.is_on() && gitlab.url.is_none() {
        let key = if settings.groups.is_empty() { "chain.projects" } else { "chain.groups" };
        check.wrong(&origin(key), "needs url in [gitlab]: whose projects these are");
    }
    settings
}

fn watch(check: &mut Checker, given: &ChainKeys) -> WatchSettings {
    let given = &given.watch;
    // It has been read as one.
    let platform = given.platform.as_ref().and_then(|text| Platform::try_from(text.0.clone()).ok());
    WatchSettings {
        enabled: given.enabled.unwrap_or(true),
        every: span(check, "chain.watch.every", given.every, HOUR * 6, Duration::from_secs(1)..=DAY * 30),
        rebuild: given.rebuild.unwrap_or(true),
        include: texts(given.include.as_ref()),
        exclude: texts(given.exclude.as_ref()),
        auth_file: given.auth_file.as_ref().map(|path| path.0.clone().into()),
        platform: platform.unwrap_or_else(Platform::of_host),
        concurrency: given.concurrency.map_or(2, |count| count.0),
    }
}

fn overrides(check: &mut Checker, given: &ChainKeys) -> BTreeMap<String, ChainProject> {
    let mut overrides = BTreeMap::new();
    for (index, keys) in given.project.iter().enumerate() {
        let project = ChainProject {
            path: keys.path.0.clone(),
            reference: keys.reference.as_ref().map(|name| name.0.clone()),
            done_when: keys.done_when.as_ref().map(|job| job.0.clone()),
        };
        if overrides.insert(project.path.to_ascii_lowercase(), project).is_some() {
            let message = format!("{:?} has more than one [[chain.project]]; put its keys into one", keys.path.0);
            check.wrong(&origin(&format!("chain.project[{index}].path")), message);
        }
    }
    overrides
}

pub(super) fn webhook(given: &WebhookKeys) -> WebhookSettings {
    let listen = given.listen.as_ref().map_or(LISTEN, |address| address.0.as_str());
    WebhookSettings {
        // "off" is no address.
        listen: listen.parse().ok(),
        url: given.url.as_ref().map(|url| url.0.clone()),
        verify_tls: given.verify_tls.unwrap_or(true),
        secret_file: given.secret_file.as_ref().map(|path| path.0.clone().into()),
        signing_secret_file: given.signing_secret_file.as_ref().map(|path| path.0.clone().into()),
    }
}

/// `[feed]`: nobody is told of a chain that there is none of.
pub(super) fn feed(check: &mut Checker, given: &FeedKeys, chain: &ChainSettings) -> FeedSettings {
    let settings = FeedSettings {
        // "off" is no address.
        listen: given.listen.as_ref().and_then(|address| address.0.parse().ok()),
        token_file: given.token_file.as_ref().map(|path| path.0.clone().into()),
    };
    if settings.listen.is_some() && !chain.is_on() {
        let message = "tells of what the image chain has built, and there is no chain: name groups or projects in [chain], \
                       or take this out";
        check.wrong(&origin("feed.listen"), message);
    }
    settings
}

pub(super) fn span(
    check: &mut Checker,
    key: &str,
    given: Option<TimeSpan>,
    default: Duration,
    valid: std::ops::RangeInclusive<Duration>,
) -> Duration {
    let value = given.map_or(default, |given| given.0);
    if !valid.contains(&value) {
        let (low, high) = (TimeSpan(*valid.start()), TimeSpan(*valid.end()));
        check.wrong(&origin(key), format!(r#"must be between "{low}" and "{high}", not "{}""#, TimeSpan(value)));
    }
    value
}

fn texts<F>(given: Option<&Vec<crate::config::texts::Text<F>>>) -> Vec<String> {
    super::more::list(given)
}

fn origin(key: &str) -> Origin {
    Origin { key: key.to_owned(), span: None }
}
