//! What a test sets for the whole instance.

use serde::{Deserialize, Serialize};

/// A version of GitLab, by which it is decided what there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    text: String,
    numbers: (u32, u32),
}

impl Version {
    /// Reads `19.4.0`, `17.1.2-ee`, ...
    pub fn read(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-']).map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
        Some(Self { text: text.to_owned(), numbers: (major, minor) })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether what came with that version is there.
    pub fn has(&self, major: u32, minor: u32) -> bool {
        self.numbers >= (major, minor)
    }
}

/// What a test sets for the whole instance.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its version.
    pub version: Version,
    /// Where it says it is.
    pub url: String,
    /// The host of its registry.
    pub registry: String,
    /// How long a pipeline takes where its project says nothing of it; none: until a test ends it.
    pub auto_ms: Option<u64>,
    /// Whether hooks may call addresses of this machine.
    pub local_hooks: bool,
    /// Whether hooks that fail again and again are disabled.
    pub auto_disabling: bool,
    /// Whether no webhook is sent at all.
    pub silent: bool,
    /// How long a receiver may take.
    pub webhook_timeout_ms: u64,
    /// How many pipelines one user may start for one commit in a minute.
    pub pipelines_per_minute: Option<usize>,
    /// The GraphQL API.
    pub graphql: GraphqlSettings,
}

/// How the GraphQL API is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraphqlSettings {
    /// Whether it is there at all; without it: 404.
    pub enabled: bool,
    /// What it answers instead of data.
    pub refusal: Option<String>,
    /// The most that a query may cost.
    pub max_complexity: usize,
    /// How deep it may go.
    pub max_depth: usize,
}

impl Default for GraphqlSettings {
    fn default() -> Self {
        Self { enabled: true, refusal: None, max_complexity: 250, max_depth: 20 }
    }
}

impl Settings {
    /// Those of a GitLab out of the box, except that webhooks may go to this machine and that failing ones are disabled.
    pub fn new(url: &str, version: Version) -> Self {
        Self {
            version,
            url: url.to_owned(),
            registry: "registry.example.org".into(),
            auto_ms: None,
            local_hooks: true,
            auto_disabling: true,
            silent: false,
            webhook_timeout_ms: 10_000,
            pipelines_per_minute: None,
            graphql: GraphqlSettings::default(),
        }
    }

    /// Where it is without the path below which it is served: what it says in its webhooks.
    pub fn base_url(&self) -> &str {
        let host = self.url.find("://").map_or(0, |at| at + 3);
        self.url[host..].find('/').map_or(self.url.as_str(), |end| &self.url[..host + end])
    }
}
