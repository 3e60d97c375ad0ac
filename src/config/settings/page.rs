//! The page to look at: where it is served, and to whom.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// The page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PageSettings {
    /// Where the daemon listens; none: there is no page.
    pub listen: Option<PageListen>,
    /// The file with the token that people log in with; none: who reaches the listener needs none.
    pub token_file: Option<PathBuf>,
    /// What a reverse proxy puts before its paths: empty, or with a slash at its beginning and none at its end.
    pub base_path: String,
    /// Names that browsers on this host may call it by, beside localhost.
    pub hosts: Vec<String>,
    /// How often the daemon looks at its host as `windlass doctor --quick` does, for what the page shows of that.
    pub doctor_interval: Duration,
    /// How often it looks at GitLab, the webhooks, the clock, and the network from inside a container.
    pub doctor_wide_interval: Duration,
    /// How often it has an image built in a job.
    pub doctor_build_interval: Duration,
}

/// Where the page is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageListen {
    /// At an address.
    Address(SocketAddr),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl PageListen {
    /// What `listen` means; "off" is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Self::Unix(path.into())),
            None => text.parse().ok().map(Self::Address),
        }
    }

    /// Whether only this host reaches it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Address(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for PageListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
