//! Doctor's rounds: the daemon looks at its own host from time to time, as `windlass doctor --quick` would, and keeps what it found last.
//!
//! Nothing of it starts a container, or asks GitLab or a registry: whoever calls doctor waits for that, and a timer would do it all day.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use nix::unistd::{User, geteuid};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Host, Level, Options, Own, RUNNER_CONFIG, Row, Subject, examine};

/// From the daemon's start to the first round: what is still coming up by then is none of the findings.
const FIRST_AFTER: Duration = Duration::from_secs(60);
/// How long a round may take. A podman that hangs is said by the first that asks it; the next round tries again.
const ROUND_MAX: Duration = Duration::from_secs(5 * 60);

/// What a round of a daemon that runs jobs looks at: files, systemd and podman.
const OF_JOBS: [Subject; 10] = [
    Subject::Config,
    Subject::Service,
    Subject::Podman,
    Subject::Ids,
    Subject::Cgroups,
    Subject::Selinux,
    Subject::Disk,
    Subject::Socket,
    Subject::Runner,
    Subject::Helper,
];
/// What one looks at that is for the image chain alone, and needs no podman.
const OF_CHAIN: [Subject; 2] = [Subject::Config, Subject::Disk];

/// What one round found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// When it ended.
    pub at: SystemTime,
    /// What it found.
    pub rows: Vec<Row>,
}

impl Round {
    /// What was found of a level.
    pub fn of(&self, level: Level) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.finding.level == level)
    }
}

/// Where the last round is to be seen; none: there was none yet.
pub type Rounds = watch::Receiver<Option<Arc<Round>>>;

/// Goes on rounds.
pub struct Practice<O> {
    /// The daemon's configuration.
    config: PathBuf,
    /// Says what the daemon knows of itself.
    own: O,
    /// From the beginning of one round to that of the next.
    every: Duration,
    last: watch::Sender<Option<Arc<Round>>>,
}

impl<O: Fn() -> Own + Send + Sync + 'static> Practice<O> {
    /// One for a daemon with this configuration, and where each round is to be seen.
    pub fn new(config: PathBuf, every: Duration, own: O) -> (Self, Rounds) {
        let (last, seen) = watch::channel(None);
        (Self { config, own, every, last }, seen)
    }

    /// Until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let practice = Arc::new(self);
        let _ = shutdown.run_until_cancelled(practice.go_on(&shutdown)).await;
    }

    async fn go_on(self: &Arc<Self>, shutdown: &CancellationToken) {
        tokio::time::sleep(self.every.min(FIRST_AFTER)).await;
        loop {
            let began = Instant::now();
            match self.look_aside(shutdown).await {
                Ok(round) => {
                    let errors = round.of(Level::Error).count();
                    tracing::debug!(took_ms = began.elapsed().as_millis(), errors, "doctor's round");
                    let before = self.last.send_replace(Some(Arc::new(round)));
                    self.tell(before.as_deref());
                }
                Err(error) => tracing::warn!("doctor could not look at this host: {error:#}"),
            }
            tokio::time::sleep(self.every.saturating_sub(began.elapsed())).await;
        }
    }

    /// Looks on a thread of its own, since files and the user database may be slow. A round that breaks costs itself, and none after it.
    async fn look_aside(self: &Arc<Self>, shutdown: &CancellationToken) -> anyhow::Result<Round> {
        let (runtime, practice, shutdown) = (tokio::runtime::Handle::current(), Arc::clone(self), shutdown.clone());
        let look = move || runtime.block_on(shutdown.run_until_cancelled(practice.look()));
        tokio::task::spawn_blocking(look)
            .await
            .context("internal error, please report it")?
            .context("the daemon ends")?
    }

    async fn look(&self) -> anyhow::Result<Round> {
        let own = (self.own)();
        let subjects: &[Subject] = if own.settings.runs_jobs() { &OF_JOBS } else { &OF_CHAIN };
        let options = Options {
            config: self.config.clone(),
            user: User::from_uid(geteuid()).ok().flatten().map(|user| user.name),
            socket: None,
            runner_config: RUNNER_CONFIG.into(),
            build_image: None,
            quick: true,
            root: "/".into(),
            own: Some(own),
        };
        let host = Host::look(options).await?;
        let end = tokio::time::Instant::now() + ROUND_MAX;
        let mut rows = Vec::new();
        for subject in subjects {
            match tokio::time::timeout_at(end, examine(&host, *subject)).await {
                Ok(found) => rows.extend(found),
                Err(_) => {
                    tracing::warn!(subject = subject.heading(), "doctor's round took too long and ends here");
                    break;
                }
            }
        }
        Ok(Round { at: SystemTime::now(), rows })
    }

    /// Says in the log what has become an error since the round before.
    fn tell(&self, before: Option<&Round>) {
        let round = self.last.borrow();
        for row in round.iter().flat_map(|round| new_errors(round, before)) {
            let mend = row.finding.remedy.as_deref().unwrap_or_default();
            tracing::warn!(check = row.finding.check, mend, "{}", row.finding.what);
        }
    }
}

fn new_errors<'a>(round: &'a Round, before: Option<&Round>) -> Vec<&'a Row> {
    let is_new = |row: &&Row| before.is_none_or(|before| !before.rows.contains(row));
    round.of(Level::Error).filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Finding;
    use super::*;

    fn round(errors: &[&str]) -> Round {
        let row = |what: &&str| Row { subject: Subject::Ids, finding: Finding::error("subuids", *what, "m", "r") };
        Round { at: SystemTime::UNIX_EPOCH, rows: errors.iter().map(row).collect() }
    }

    #[test]
    fn an_error_is_new_once() {
        let (one, two) = (round(&["a"]), round(&["a", "b"]));
        let whats = |rows: Vec<&Row>| rows.iter().map(|row| row.finding.what.clone()).collect::<Vec<_>>();
        assert_eq!(whats(new_errors(&one, None)), ["a"]);
        assert_eq!(whats(new_errors(&two, Some(&one))), ["b"]);
        assert_eq!(whats(new_errors(&one, Some(&round(&[])))), ["a"], "it has come back");
    }

    #[tokio::test]
    async fn a_round_that_breaks_costs_none_after_it() {
        let rounds = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&rounds);
        let own = move || -> Own {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            panic!("the host is odd")
        };
        let (practice, _seen) = Practice::new("none.toml".into(), Duration::from_millis(1), own);
        let (shutdown, looks) = (CancellationToken::new(), Arc::clone(&rounds));
        let running = tokio::spawn(practice.run(shutdown.clone()));
        let again = async {
            while looks.load(std::sync::atomic::Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), again).await.expect("another round");
        assert!(!running.is_finished());
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(20), running).await.expect("it ends").expect("no panic");
    }

    #[test]
    fn no_round_starts_containers_or_asks_gitlab() {
        for subject in [Subject::Network, Subject::Build, Subject::Gitlab, Subject::Webhooks] {
            assert!(!OF_JOBS.contains(&subject) && !OF_CHAIN.contains(&subject), "{subject:?}");
        }
    }
}
