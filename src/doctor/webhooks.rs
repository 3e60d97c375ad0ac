//! The webhooks of the image chain: is each there and switched on, were their last calls taken, and is the address reached?

use std::time::Duration;

use futures_util::{StreamExt, stream};
use reqwest::{Certificate, StatusCode};

use super::api;
use super::gitlab::names;
use super::{Finding, Host};
use crate::config::Settings;
use crate::gitlab::{Client, GitlabError, HookEvent, HookRow};

/// Most projects whose webhooks are looked at: each costs two requests.
const PROJECTS_MAX: usize = 100;
/// Requests at once.
const AT_ONCE: usize = 4;
/// How long the address may take to answer: GitLab waits as long.
const WITHIN: Duration = Duration::from_secs(10);

/// How one project's webhook is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Good,
    Missing,
    /// GitLab has switched it off, with its word for that.
    Off(String),
    /// It is called, and the last call failed with this status.
    Failing(String),
}

/// Looks at them.
pub async fn check(host: &Host) -> Vec<Finding> {
    let settings = &host.settings;
    if !settings.chain.is_on() {
        return vec![Finding::skipped("webhooks", "there is no image chain ([chain] in windlass.toml)", None)];
    }
    let Some(url) = &settings.webhook.url else {
        return vec![Finding::warning(
            "webhooks",
            "[webhook] url is not set",
            format!(
                "what pipelines do is seen by the timer alone, every {}",
                humantime::format_duration(settings.chain.interval)
            ),
            "[webhook] url in windlass.toml: how GitLab reaches the proxy in front of [webhook] listen; then systemctl restart windlass",
        )];
    };
    if host.options.quick {
        return vec![Finding::skipped("webhooks", "left out by --quick", None)];
    }
    let mut findings = vec![endpoint(url, ask(settings, url).await)];
    if settings.chain.dry_run {
        let remedy = "take dry_run in [chain] of windlass.toml away; then systemctl restart windlass";
        findings.push(Finding::skipped("webhooks", "none is set up or mended while dry_run is set", Some(remedy)));
        return findings;
    }
    let client = match api::client(host) {
        Ok(Some(client)) if client.has_token() => client,
        _ => {
            findings.push(Finding::skipped("webhooks", "GitLab can't be asked: see there", None));
            return findings;
        }
    };
    match states(host, &client, url).await {
        Ok((states, left_out)) => findings.extend(judge(&states, left_out)),
        Err(error) => findings.push(Finding::skipped("webhooks", format!("they can't be listed: {error}"), None)),
    }
    findings
}

/// What the address answers to a GET, which carries no event.
async fn ask(settings: &Settings, url: &str) -> Result<StatusCode, String> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(WITHIN)
        .tls_danger_accept_invalid_certs(!settings.webhook.verify_tls);
    if let Some(pem) = settings.gitlab.ca_file.as_ref().and_then(|file| std::fs::read(file).ok()) {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(&pem).unwrap_or_default());
    }
    let client = builder.build().map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| super::answers::causes(&error))?;
    Ok(answer.status())
}

fn endpoint(url: &str, answer: Result<StatusCode, String>) -> Finding {
    let lost =
        "GitLab's calls are lost, and after some of them it switches the webhooks off; the chain goes by its timer";
    let proxy = "pass this one path on to [webhook] listen (docs/first-chain.md has an example for nginx); then windlass doctor --only webhooks";
    match answer {
        // The daemon takes POST alone.
        Ok(StatusCode::METHOD_NOT_ALLOWED) => Finding::ok("webhook-url", format!("{url} is reached from here")),
        Ok(StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) => Finding::error(
            "webhook-url",
            format!("behind {url} is a proxy that does not reach the daemon"),
            lost,
            format!("systemctl status windlass; {proxy}"),
        ),
        Ok(status) => {
            Finding::error("webhook-url", format!("{url} answers {status}: that is not the daemon"), lost, proxy)
        }
        Err(error) => Finding::error(
            "webhook-url",
            format!("{url} is not reached from here: {error}"),
            lost,
            format!("look at its name, firewall, certificate and proxy, and whether windlassd runs; {proxy}"),
        ),
    }
}

async fn states(host: &Host, client: &Client, url: &str) -> Result<(Vec<(String, State)>, usize), GitlabError> {
    let projects = api::projects(host, client, None).await?;
    let left_out = projects.len().saturating_sub(PROJECTS_MAX);
    let looks = projects.iter().take(PROJECTS_MAX).map(|project| async move {
        let hooks = client.hooks(project.id).await?;
        let events = match ours(&hooks, url) {
            // Older ones tell nothing of them.
            Some(hook) => client.hook_events(project.id, hook.id).await.unwrap_or_default(),
            None => Vec::new(),
        };
        Ok((project.path_with_namespace.clone(), state(&hooks, &events, url)))
    });
    let found: Vec<Result<_, GitlabError>> = stream::iter(looks).buffered(AT_ONCE).collect().await;
    Ok((found.into_iter().collect::<Result<_, _>>()?, left_out))
}

fn ours<'a>(hooks: &'a [HookRow], url: &str) -> Option<&'a HookRow> {
    hooks.iter().find(|hook| hook.url.trim_end_matches('/').eq_ignore_ascii_case(url.trim_end_matches('/')))
}

fn state(hooks: &[HookRow], events: &[HookEvent], url: &str) -> State {
    let Some(hook) = ours(hooks, url) else { return State::Missing };
    if let Some(word) = hook.alert_status.as_ref().filter(|word| *word != "executable") {
        return State::Off(word.clone());
    }
    match events.first().filter(|event| !event.response_status.starts_with(['2', '3'])) {
        Some(event) => State::Failing(event.response_status.clone()),
        None => State::Good,
    }
}

fn judge(states: &[(String, State)], left_out: usize) -> Vec<Finding> {
    let of = |wanted: fn(&State) -> bool| -> Vec<String> {
        states.iter().filter(|(_, state)| wanted(state)).map(|(path, _)| path.clone()).collect()
    };
    let missing = of(|state| *state == State::Missing);
    let off = of(|state| matches!(state, State::Off(_)));
    let failing = of(|state| matches!(state, State::Failing(_)));
    let good = states.len() - missing.len() - off.len() - failing.len();
    let mut findings = Vec::new();
    if !off.is_empty() {
        let words = states.iter().find_map(|(_, state)| if let State::Off(word) = state { Some(word) } else { None });
        findings.push(Finding::error(
            "webhooks",
            format!("GitLab has switched off the webhook of {} ({})", names(&off), words.map_or("", String::as_str)),
            "what their pipelines do is seen by the timer alone",
            "mend what their calls fail for (above, and in GitLab: project, Settings, Webhooks, Edit, Recent events); then windlass chain sync \
             has GitLab try them again",
        ));
    }
    if !failing.is_empty() {
        let status =
            states.iter().find_map(|(_, state)| if let State::Failing(status) = state { Some(status) } else { None });
        findings.push(Finding::warning(
            "webhooks",
            format!("the last call of the webhook of {} failed ({})", names(&failing), status.map_or("", String::as_str)),
            "events are lost, and GitLab switches webhooks off that fail again and again",
            "GitLab says why: project, Settings, Webhooks, Edit, Recent events; journalctl -u windlass says what came here",
        ));
    }
    if !missing.is_empty() {
        findings.push(Finding::warning(
            "webhooks",
            format!("{} of {} project(s) have no webhook to here: {}", missing.len(), states.len(), names(&missing)),
            "what their pipelines do is seen by the timer alone",
            "windlass chain sync sets them up; windlass chain audit says why that fails. For addresses of the local network: \
             GitLab, Admin, Settings, Network, Outbound requests",
        ));
    }
    if good > 0 || findings.is_empty() {
        let but = if left_out > 0 { format!("; {left_out} more were not looked at") } else { String::new() };
        findings.push(Finding::ok("webhooks", format!("{good} webhook(s) are as they should be{but}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::expect_remedies;
    use super::*;

    const URL: &str = "https://chain.example.com/hooks/gitlab";

    #[test]
    fn a_webhook_is_there_switched_on_and_taken() {
        let hook = |status: &str| HookRow { url: URL.into(), alert_status: Some(status.into()), ..HookRow::default() };
        let event = |status: &str| HookEvent { response_status: status.into() };
        assert_eq!(state(&[hook("executable")], &[event("200"), event("500")], URL), State::Good);
        assert_eq!(state(&[hook("executable")], &[event("500"), event("200")], URL), State::Failing("500".into()));
        assert_eq!(state(&[hook("disabled")], &[], URL), State::Off("disabled".into()));
        assert_eq!(state(&[HookRow { url: "https://x/".into(), ..hook("executable") }], &[], URL), State::Missing);
    }

    #[test]
    fn what_is_wrong_with_webhooks_is_said_with_the_projects() {
        let of = |state: State| judge(&[("g/p".into(), state), ("g/q".into(), State::Good)], 0);
        let off = of(State::Off("disabled".into()));
        assert!(off[0].level == Level::Error && off[0].what.contains("g/p (disabled)"), "{off:?}");
        let lesser = [of(State::Failing("500".into())), of(State::Missing)].concat();
        assert_eq!(lesser.iter().filter(|finding| finding.level == Level::Warning).count(), 2);
        assert!(judge(&[("g/q".into(), State::Good)], 3)[0].what.contains("3 more"));
        expect_remedies(&[off, lesser].concat());
    }

    #[test]
    fn the_address_leads_to_the_daemon_or_it_is_an_error() {
        assert_eq!(endpoint(URL, Ok(StatusCode::METHOD_NOT_ALLOWED)).level, Level::Ok);
        let wrong = [Ok(StatusCode::BAD_GATEWAY), Ok(StatusCode::OK), Err("refused".to_owned())]
            .map(|answer| endpoint(URL, answer));
        assert!(wrong.iter().all(|finding| finding.level == Level::Error));
        expect_remedies(&wrong);
    }
}
