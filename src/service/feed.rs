//! Where the feed is served: what the image chain has built, for hosts that run it.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::TcpListener;

use crate::config::Settings;
use crate::controller::Feed;
use crate::http;
use crate::http::feed::{BOUNDS, FeedServer, LISTENERS_MAX};
use crate::loops::Loops;
use crate::metrics::Metrics;
use crate::sys::secrets::{self, Secret};

/// The fewest characters of a token that nobody guesses.
const TOKEN_MIN: usize = 16;
/// Descriptors that all else of the daemon needs.
const OTHERS: u64 = 512;

/// The feed, ready to be served.
#[derive(Debug)]
pub struct FeedListener {
    listener: TcpListener,
    token: Secret,
}

impl FeedListener {
    /// Listens; nobody is answered yet. None where the settings want no feed.
    ///
    /// # Errors
    /// When there is no token, it is too short, or the address is not to be had.
    pub async fn bind(settings: &Settings) -> Result<Option<Self>> {
        let Some(address) = settings.feed.listen else { return Ok(None) };
        let token = secrets::read_if_given(settings.feed.token_file.as_deref(), "feed-token", "[feed] token_file")?;
        let token = token.context(
            "[feed] needs a token that hosts show: put one into a file (head -c 24 /dev/urandom | base64), mode 0600, and name it as \
             token_file in [feed], or hand it over as the systemd credential feed-token",
        )?;
        if token.expose().chars().count() < TOKEN_MIN {
            bail!(
                "the token of the feed ([feed] token_file) has fewer than {TOKEN_MIN} characters and could be guessed"
            );
        }
        let listener = http::listen(address, "[feed] listen").await?;
        Ok(Some(Self { listener, token }))
    }

    /// Starts its tasks.
    pub fn spawn(self, feed: Arc<Feed>, metrics: &Arc<Metrics>, loops: &Loops) {
        let (tasks, shutdown) = (loops.tasks(), loops.shutdown());
        let metrics = Arc::clone(metrics);
        let server = FeedServer::new(feed, self.token, listeners(), metrics, shutdown.clone());
        let endpoint = http::feed::endpoint(Arc::new(server));
        let serving = http::serve_within(self.listener, endpoint, BOUNDS, tasks.clone(), shutdown.clone());
        loops.spawn("feed", None, serving);
    }
}

/// How many may listen: no more than leave descriptors for jobs.
fn listeners() -> usize {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    usize::try_from(descriptors.saturating_sub(OTHERS)).map_or(LISTENERS_MAX, |most| most.clamp(16, LISTENERS_MAX))
}
