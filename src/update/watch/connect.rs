//! The connection to the feed: asks, reads events, comes again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, stream};
use reqwest::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, StatusCode, redirect};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LinesCodec};
use tokio_util::io::StreamReader;

use super::events::{Assembly, Event};
use super::pause::{GOOD, pause};
use crate::sys::secrets::{self, Secret};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// How long the feed may be silent: it says every 15 seconds that it is there.
const SILENCE: Duration = Duration::from_secs(50);
/// The longest line, in bytes.
const LINE_MAX: usize = 64 << 10;

/// What the connection tells.
#[derive(Debug)]
pub enum Told {
    /// It is there.
    Connected,
    /// Something was said.
    Event(Event),
    /// It is not there; when it is tried again.
    Lost {
        /// Why.
        reason: String,
        /// After how long it is tried again.
        pause: Duration,
        /// Whether it had been good: the feed ends each connection after an hour.
        was_good: bool,
    },
}

/// Where the feed is, and how to be let in.
#[derive(Debug)]
pub struct Address {
    url: String,
    token_file: Option<PathBuf>,
    client: reqwest::Client,
}

/// An attempt that came to nothing.
struct Failure {
    reason: anyhow::Error,
    wanted: Option<Duration>,
}

impl From<anyhow::Error> for Failure {
    fn from(reason: anyhow::Error) -> Self {
        Self { reason, wanted: None }
    }
}

impl Address {
    /// With the file of the token (none: the credential), and certificates beside the host's own.
    ///
    /// # Errors
    /// When one of them can't be read.
    pub fn new(url: &str, token_file: Option<&Path>, ca_file: Option<&Path>) -> Result<Self> {
        token(token_file)?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(SILENCE)
            // The token is for nobody else.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("windlass-update/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = ca_file {
            let pem = std::fs::read(file).with_context(|| format!("read [update] feed_ca_file {}", file.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("[update] feed_ca_file {} has no certificates (PEM)", file.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().context("prepare the connection to the feed")?;
        Ok(Self { url: url.to_owned(), token_file: token_file.map(Path::to_owned), client })
    }

    /// Listens for ever, from `last` on; ends when nobody wants to hear of it any more.
    pub async fn listen(self, mut last: Option<String>, told: mpsc::Sender<Told>) {
        let mut attempts = 0;
        loop {
            let began = Instant::now();
            let mut heard = false;
            let failure = match self.hear(&mut last, &told, &mut heard).await {
                Ok(()) => return,
                Err(failure) => failure,
            };
            let was_good = heard || began.elapsed() >= GOOD;
            attempts = if was_good { 1 } else { attempts + 1 };
            let pause = pause(attempts, failure.wanted);
            let reason = format!("{:#}", failure.reason);
            if told.send(Told::Lost { reason, pause, was_good }).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection, to its end. It ends well only where nobody listens to what is heard.
    async fn hear(
        &self,
        last: &mut Option<String>,
        told: &mpsc::Sender<Told>,
        heard: &mut bool,
    ) -> Result<(), Failure> {
        // Each time, so that another token counts without a restart.
        let token = token(self.token_file.as_deref())?;
        let mut request = self.client.get(&self.url).header(ACCEPT, "text/event-stream").bearer_auth(token.expose());
        if let Some(last) = last.as_deref() {
            request = request.header("Last-Event-ID", last);
        }
        let answer = tokio::time::timeout(SILENCE, request.send()).await;
        let answer = answer.context("no answer").map_err(Failure::from)?;
        let answer = answer.map_err(|error| Failure::from(anyhow::Error::new(error.without_url())))?;
        let answer = accepted(answer)?;
        if told.send(Told::Connected).await.is_err() {
            return Ok(());
        }
        let chunks = stream::try_unfold(answer, |mut answer| async {
            let chunk = answer.chunk().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(chunk.map(|chunk| (chunk, answer)))
        });
        let mut lines = FramedRead::new(StreamReader::new(Box::pin(chunks)), LinesCodec::new_with_max_length(LINE_MAX));
        let mut assembly = Assembly::default();
        while let Some(line) = lines.next().await {
            let line = line.context("the connection broke").map_err(Failure::from)?;
            let Some(event) = assembly.line(&line).map_err(|why| Failure::from(anyhow::anyhow!(why)))? else {
                continue;
            };
            *heard = true;
            if let Some(id) = event.id.clone() {
                *last = Some(id);
            }
            if told.send(Told::Event(event)).await.is_err() {
                return Ok(());
            }
        }
        Err(anyhow::anyhow!("it has ended the connection").into())
    }
}

fn token(file: Option<&Path>) -> Result<Secret> {
    let token = secrets::read(file, "feed-token", "[update] feed_token_file")?;
    token.context("[update] feed needs feed_token_file: a file with the token that the feed wants")
}

fn accepted(answer: reqwest::Response) -> Result<reqwest::Response, Failure> {
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    match answer.status() {
        StatusCode::OK if header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream")) => Ok(answer),
        StatusCode::OK => Err(Failure::from(refused("what answers there is no feed: look at [update] feed"))),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(refused("it refuses the token: look at [update] feed_token_file here, and at [feed] token_file there")
                .into())
        }
        status if status.is_redirection() => {
            let to = header(reqwest::header::LOCATION).unwrap_or("another place");
            Err(refused(&format!("it sends to {to}, which the token is not shown to: write that into [update] feed"))
                .into())
        }
        status => {
            let wanted = header(RETRY_AFTER).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            Err(Failure { reason: refused(&format!("it answers {status}")), wanted })
        }
    }
}

fn refused(words: &str) -> anyhow::Error {
    anyhow::anyhow!("{words}")
}
