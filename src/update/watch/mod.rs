//! `windlass update watch`: listens to the chain's feed, and has units looked at whose image was built.
//!
//! The feed makes looks come sooner and does nothing else: what is pulled, judged and undone is what a run of the timer would do
//! (`pass`), and without a feed the timer does it. So whoever can write to the feed can cause looks, at most one every [`news::GAP`].

pub mod connect;
pub mod events;
pub mod news;
pub mod pause;
pub mod place;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use sd_notify::NotifyState;
use tokio::sync::mpsc;

use self::connect::{Address, Told};
use self::news::{News, Pending};
use super::pass::{self, Which};
use super::report::{Outcome, Report};
use super::state::AtWork;
use super::travel::Restarts;
use super::{Context, after};
use crate::config::update::UpdateSettings;

/// How soon a look is tried again while another run is at work.
const BUSY: Duration = Duration::from_secs(5);
/// How soon, when podman or systemd do not answer.
const TROUBLE: Duration = Duration::from_secs(5 * 60);
/// Messages of the connection that wait.
const WAITING: usize = 16;

/// A look, and what it is at.
struct Look {
    which: Which,
    began: Instant,
    up_to: Option<String>,
    work: BoxFuture<'static, Result<Report>>,
}

/// What there is to say of it to systemd.
#[derive(Debug, Default)]
struct Words {
    feed: String,
    look: String,
}

impl Words {
    fn tell(&self) {
        let line = if self.look.is_empty() { self.feed.clone() } else { format!("{}; {}", self.feed, self.look) };
        tell(&[NotifyState::Status(&line)]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("tell systemd: {error}");
    }
}

/// Listens until it is ended.
///
/// # Errors
/// When there is nothing to listen to, or the token or the certificates can't be read.
pub async fn watch(settings: &UpdateSettings) -> Result<()> {
    let url = settings.feed.clone().context("[update] has no feed")?;
    let address = Address::new(&url, settings.feed_token_file.as_deref(), settings.feed_ca_file.as_deref())?;
    let state = Context::new(settings.clone())?.state;
    let (sender, mut told) = mpsc::channel(WAITING);
    tokio::spawn(address.listen(place::read(&state, &url), sender));

    let mut words = Words { feed: format!("connecting to {url}"), look: String::new() };
    words.tell();
    tell(&[NotifyState::Ready]);
    let mut signs =
        tokio::time::interval(sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |limit| limit / 3));
    let mut pending = Pending::default();
    pending.interrupted(Instant::now());
    let mut look: Option<Look> = None;
    loop {
        let due = pending.due().filter(|_| look.is_none());
        tokio::select! {
            // From this loop, which does all the work: one that stands still gives none.
            _ = signs.tick() => tell(&[NotifyState::Watchdog]),
            message = told.recv() => {
                let message = message.context("the connection's task has ended")?;
                take(message, &url, settings, &mut pending, &mut words);
                words.tell();
            }
            () = until(due) => {
                let began = Instant::now();
                let (which, up_to) = pending.begin(began);
                "looking".clone_into(&mut words.look);
                words.tell();
                look = Some(Look { work: begin(settings.clone(), which.clone()), which, began, up_to });
            }
            result = result(&mut look) => {
                if let Some(Look { which, began, up_to, .. }) = look.take() {
                    if result.as_ref().is_ok_and(|report| report.units.is_empty()) {
                        pending.found_nothing(began);
                    }
                    words.look = over(&state, &url, result, which, up_to, &mut pending);
                    words.tell();
                }
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn result(look: &mut Option<Look>) -> Result<Report> {
    match look {
        Some(look) => look.work.as_mut().await,
        None => std::future::pending().await,
    }
}

fn begin(settings: UpdateSettings, which: Which) -> BoxFuture<'static, Result<Report>> {
    Box::pin(async move {
        // A new one for each look: what registries have said is kept for as long.
        let context = Context::new(settings)?;
        let report = pass::run(&context, &which, Restarts::InWindows).await?;
        if !report.units.is_empty() {
            after::run_is_over(&context, &report).await;
        }
        Ok(report)
    })
}

/// What the connection tells.
fn take(told: Told, url: &str, settings: &UpdateSettings, pending: &mut Pending, words: &mut Words) {
    match told {
        Told::Connected => {
            tracing::info!("listening to {url}");
            words.feed = format!("listening to {url}");
        }
        Told::Lost { reason, pause, was_good } => {
            let again = humantime::format_duration(Duration::from_secs(pause.as_secs().max(1)));
            if was_good {
                tracing::info!("the feed {url}: {reason}; again in {again}");
            } else {
                tracing::warn!("the feed {url}: {reason}; again in {again}; the timer's runs do without it");
            }
            words.feed = format!("not listening to {url}: {reason}");
        }
        Told::Event(event) => {
            let news = News::of(&event);
            match &news {
                News::Built { images, project } => tracing::info!(project, "{project} was built: {images}"),
                News::Anything => tracing::info!("what was built before is not known: everything is looked at"),
                News::Nothing => tracing::debug!(kind = event.kind, "an event that means nothing here"),
            }
            pending.add(news, event.id, Instant::now(), by_chance(settings.feed_delay), by_chance(settings.delay));
        }
    }
}

fn by_chance(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}

/// What comes of a look; in words.
fn over(
    state: &super::state::State,
    url: &str,
    result: Result<Report>,
    which: Which,
    up_to: Option<String>,
    pending: &mut Pending,
) -> String {
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            let pause = if error.is::<AtWork>() { BUSY } else { TROUBLE };
            tracing::warn!("{error:#}; again in {}", humantime::format_duration(pause));
            pending.again(which, up_to, Instant::now() + pause);
            return format!("waiting: {error:#}");
        }
    };
    // Only now: what a crash interrupts is heard again.
    if let Some(id) = up_to
        && let Err(error) = place::write(state, url, &id)
    {
        tracing::error!("{error:#}");
    }
    let count = |outcome: Outcome| report.units.iter().filter(|unit| unit.outcome == outcome).count();
    let at = report.ended.to_zoned(jiff::tz::TimeZone::system()).strftime("%a %H:%M").to_string();
    let looked = report.units.len();
    format!(
        "last looked {at}: {looked} units, {} updated, {} undone",
        count(Outcome::Updated),
        count(Outcome::RolledBack)
    )
}
