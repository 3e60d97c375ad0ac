//! Doctor's rounds: the daemon looks at its own host from time to time, as `windlass doctor --quick` would, and keeps what it found last.
//!
//! Nothing of it starts a container, or asks GitLab or a registry: whoever calls doctor waits for that, and a timer would do it all day.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

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

impl<O: Fn() -> Own + Send + 'static> Practice<O> {
    /// One for a daemon with this configuration, and where each round is to be seen.
    pub fn new(config: PathBuf, every: Duration, own: O) -> (Self, Rounds) {
        let (last, seen) = watch::channel(None);
        (Self { config, own, every, last }, seen)
    }

    /// Until the shutdown. On a thread of its own, since files and the user database may be slow.
    pub async fn run(self, shutdown: CancellationToken) {
        let runtime = tokio::runtime::Handle::current();
        let rounds = move || runtime.block_on(shutdown.run_until_cancelled(self.go_on()));
        if let Err(error) = tokio::task::spawn_blocking(rounds).await {
            tracing::error!("internal error, please report it: {error}");
        }
    }

    async fn go_on(&self) {
        tokio::time::sleep(self.every.min(FIRST_AFTER)).await;
        loop {
            let began = Instant::now();
            match self.look().await {
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

    #[test]
    fn no_round_starts_containers_or_asks_gitlab() {
        for subject in [Subject::Network, Subject::Build, Subject::Gitlab, Subject::Webhooks] {
            assert!(!OF_JOBS.contains(&subject) && !OF_CHAIN.contains(&subject), "{subject:?}");
        }
    }
}
