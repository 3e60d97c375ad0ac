//! Where jobs have to get to: GitLab, its registry, and the proxy on the way, if there is one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::runner_config::{self, RunnerConfig};
use super::{Host, api};
use crate::job::ImageRef;
use crate::registry::conf::{self, CERTIFICATES};

/// What the registry is called.
pub const REGISTRY: &str = "the registry";

/// One place that jobs need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What it is, for people.
    pub name: &'static str,
    /// Its host and port.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its address, where it is asked over HTTP.
    pub url: Option<String>,
    /// The proxy that jobs take to it; none: they go there themselves.
    pub proxy: Option<String>,
    /// Where podman has certificates for it that jobs have not (containers-certs.d(5)).
    pub podman_trusts: Option<PathBuf>,
}

impl Target {
    /// `HOST:PORT` of what a job connects to.
    pub fn connects_to(&self) -> String {
        match self.proxy.as_deref().and_then(host_and_port) {
            Some((host, port)) => format!("{host}:{port}"),
            None => format!("{}:{}", self.host, self.port),
        }
    }

    /// Whether it can be asked over a connection from a container: its proxy, if there is one, is asked with CONNECT, which is for TLS
    /// and said without it here.
    pub fn can_be_led_to(&self) -> bool {
        let is_tls = self.url.as_deref().is_some_and(|url| url.starts_with("https:"));
        self.proxy.as_deref().is_none_or(|proxy| is_tls && (!proxy.contains("://") || proxy.starts_with("http:")))
    }

    fn of_url(name: &'static str, url: &str, environment: &BTreeMap<String, String>) -> Option<Self> {
        let (host, port) = host_and_port(url)?;
        let proxy = proxy_of(environment, url.starts_with("https"), &host);
        Some(Self { name, host, port, url: Some(url.to_owned()), proxy, podman_trusts: None })
    }
}

/// An address, of HTTP where it does not say.
pub fn parse(url: &str) -> Option<Url> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    Url::parse(&url).ok()
}

fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url = parse(url)?;
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

/// The proxy that curl, git and Go would take with these variables.
fn proxy_of(environment: &BTreeMap<String, String>, tls: bool, host: &str) -> Option<String> {
    let get = |name: &str| {
        let value = environment.get(name).or_else(|| environment.get(&name.to_uppercase()))?;
        Some(value.trim()).filter(|value| !value.is_empty())
    };
    let except = get("no_proxy").unwrap_or_default();
    let spared = except.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*" || host == entry || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))
    });
    if spared {
        return None;
    }
    get(if tls { "https_proxy" } else { "http_proxy" }).or_else(|| get("all_proxy")).map(str::to_owned)
}

/// What jobs need, with the variables that they get.
pub async fn look(host: &Host, environment: &BTreeMap<String, String>) -> Vec<Target> {
    let config = runner_config::load(&host.options.runner_config).unwrap_or_default();
    let gitlab = host.settings.gitlab.url.as_deref();
    let mut found = of_gitlab(gitlab, &config, environment);
    let registry = match of_the_chain(host).await {
        Some(prefix) => Some(prefix),
        None => of_images(host),
    };
    let of_podman = &host.settings.podman.environment;
    found.extend(registry.and_then(|registry| of_registry(&registry, &insecure(of_podman), environment)));
    found.dedup_by(|one, other| (&one.host, one.port) == (&other.host, other.port));
    found
}

fn of_gitlab(gitlab: Option<&str>, config: &RunnerConfig, environment: &BTreeMap<String, String>) -> Vec<Target> {
    let ours = config.runners.iter().filter(|entry| entry.is_ours());
    let of_runners = ours.flat_map(|entry| [entry.url.as_str(), entry.clone_url.as_str()]);
    let mut found: Vec<Target> = Vec::new();
    for url in gitlab.into_iter().chain(of_runners).filter(|url| !url.is_empty()) {
        let Some(target) = Target::of_url("GitLab", url, environment) else { continue };
        if !found.iter().any(|other| (&other.host, other.port) == (&target.host, target.port)) {
            found.push(target);
        }
    }
    found
}

/// A registry, whose API has to answer with a certificate that is trusted: `/v2/` says 200, or 401 where it wants a login (distribution-spec,
/// "Determining Support"). One that registries.conf calls insecure may have any, or none.
fn of_registry(registry: &str, insecure: &BTreeSet<String>, environment: &BTreeMap<String, String>) -> Option<Target> {
    let (host, port) = host_and_port(&format!("https://{registry}"))?;
    let proxy = proxy_of(environment, true, &host);
    let is_insecure = insecure.contains(&registry.to_ascii_lowercase());
    let url = (!is_insecure).then(|| format!("https://{registry}/v2/"));
    let directories = CERTIFICATES.iter().map(|directory| Path::new(directory).join(registry));
    let podman_trusts = directories.into_iter().find(|directory| directory.is_dir());
    Some(Target { name: REGISTRY, host, port, url, proxy, podman_trusts })
}

/// The registries that podman speaks to without trust. A file that can't be read is another check's.
fn insecure(of_podman: &BTreeMap<String, String>) -> BTreeSet<String> {
    let file = of_podman.get("CONTAINERS_REGISTRIES_CONF").map(PathBuf::from);
    conf::insecure(file.as_deref()).unwrap_or_default()
}

/// The registry of a project of the chain, as GitLab names it.
async fn of_the_chain(host: &Host) -> Option<String> {
    let client = api::client(host).ok()??;
    let chain = &host.settings.chain;
    if !client.has_token() || !chain.is_on() {
        return None;
    }
    let project = match (chain.projects.first(), chain.groups.first()) {
        (Some(project), _) => client.project(project).await.ok(),
        (None, Some(group)) => client.some_project(group).await.ok().flatten(),
        (None, None) => None,
    };
    let prefix = project?.container_registry_image_prefix?;
    prefix.split('/').next().map(str::to_owned)
}

/// The registry of the images that the configuration names, unless everybody reaches it.
fn of_images(host: &Host) -> Option<String> {
    let profiles = host.settings.profiles.values();
    let images = profiles.flat_map(|profile| [&profile.job.images.default_image, &profile.job.helper.image]);
    let registries = images.flatten().filter_map(|image| {
        let reference = ImageRef::try_from(image.replace(['{', '}'], "")).ok()?;
        reference.as_str().split('/').next().map(str::to_owned)
    });
    let is_own = |registry: &String| !matches!(registry.as_str(), "docker.io" | "localhost" | "quay.io");
    let mut registries = registries.filter(is_own);
    registries.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_proxy_is_taken_but_for_those_that_it_is_not_for() {
        let set = environment(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "localhost, .example.com,exact")]);
        assert_eq!(proxy_of(&set, true, "gitlab.other.org").as_deref(), Some("http://proxy:3128"));
        for spared in ["gitlab.example.com", "exact", "localhost"] {
            assert_eq!(proxy_of(&set, true, spared), None, "{spared}");
        }
        assert_eq!(proxy_of(&set, false, "gitlab.other.org"), None, "that one is for https");
        assert!(proxy_of(&set, true, "notexample.com").is_some());
    }

    #[test]
    fn a_registry_is_asked_over_tls_unless_it_is_called_insecure() {
        let insecure = BTreeSet::from(["inner:5000".to_owned()]);
        let of = |registry| of_registry(registry, &insecure, &environment(&[])).expect("a target");
        let found = of("registry.example.com");
        assert_eq!(found.url.as_deref(), Some("https://registry.example.com/v2/"));
        assert_eq!((found.connects_to().as_str(), of("r:5050").port), ("registry.example.com:443", 5050));
        assert_eq!(of("inner:5000").url, None);
    }

    #[test]
    fn gitlab_is_what_configuration_and_runners_name() {
        let config = "[[runners]]\nurl = 'https://gl.example.com/'\nclone_url = 'http://inner:8080'\nexecutor = 'custom'\n\
                      [runners.custom]\nrun_exec = '/l/windlass-run'\n[[runners]]\nurl = 'https://x.example.com'\nexecutor = 'shell'\n";
        let config: RunnerConfig = toml::from_str(config).expect("valid");
        let found = of_gitlab(Some("https://gl.example.com"), &config, &environment(&[("http_proxy", "proxy:3128")]));
        let shown: Vec<String> = found.iter().map(Target::connects_to).collect();
        assert_eq!(shown, ["gl.example.com:443", "proxy:3128"]);
    }
}
