//! Doctor's rounds: the daemon looks at its own host from time to time, as `windlass doctor` would, and keeps what it found last of each subject.
//!
//! What is read from files, systemd and podman is looked at often. What asks GitLab or starts a container has a slower pace, and an image is built
//! once a day: nobody has asked for any of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use nix::unistd::{User, geteuid};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Finding, Host, Level, Options, Own, RUNNER_CONFIG, Row, Subject, examine};

/// How long a round may take: a job that builds an image has its own end before that. A podman that hangs is said by the first that asks it;
/// the next round tries again.
const ROUND_MAX: Duration = Duration::from_secs(10 * 60);

/// What is looked at together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// Files, systemd and podman.
    Quick,
    /// What asks GitLab, or starts a container.
    Wide,
    /// An image built in a job.
    Build,
}

impl Pace {
    const ALL: [Self; 3] = [Self::Quick, Self::Wide, Self::Build];

    /// From the daemon's start to the first round: what is still coming up by then is none of the findings, and a daemon that is started again and
    /// again asks nobody.
    fn first_after(self) -> Duration {
        Duration::from_secs(match self {
            Self::Quick => 60,
            Self::Wide => 5 * 60,
            Self::Build => 30 * 60,
        })
    }

    /// What is looked at, by a daemon that runs jobs, or one that is for the image chain alone and has no podman.
    fn subjects(self, runs_jobs: bool) -> Vec<Subject> {
        let all: &[Subject] = match self {
            Self::Quick => &[
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
            ],
            Self::Wide => &[Subject::Network, Subject::Gitlab, Subject::Webhooks, Subject::Clock],
            Self::Build => &[Subject::Build],
        };
        all.iter().copied().filter(|subject| runs_jobs || !subject.is_of_jobs()).collect()
    }
}

/// From the beginning of one round to that of the next of its pace.
#[derive(Debug, Clone, Copy)]
pub struct Paces {
    /// Of what is read from files, systemd and podman.
    pub quick: Duration,
    /// Of what asks GitLab, or starts a container.
    pub wide: Duration,
    /// Of the image that is built.
    pub build: Duration,
}

impl Paces {
    fn of(self, pace: Pace) -> Duration {
        match pace {
            Pace::Quick => self.quick,
            Pace::Wide => self.wide,
            Pace::Build => self.build,
        }
    }
}

/// When which round is next.
#[derive(Debug)]
struct Timetable {
    paces: Paces,
    next: BTreeMap<Pace, Instant>,
}

impl Timetable {
    fn new(paces: Paces, start: Instant) -> Self {
        let first = |pace: Pace| (pace, start + paces.of(pace).min(pace.first_after()));
        Self { paces, next: Pace::ALL.map(first).into() }
    }

    /// The next round, and when.
    fn next(&self) -> (Pace, Instant) {
        let first = self.next.iter().min_by_key(|(_, at)| **at);
        first.map_or_else(|| (Pace::Quick, Instant::now()), |(pace, at)| (*pace, *at))
    }

    /// A round has begun then. One that could not be made, as there was no slot for it, is tried again at the pace of the wide one.
    fn went(&mut self, pace: Pace, began: Instant, made: bool) {
        let every = if made { self.paces.of(pace) } else { self.paces.of(pace).min(self.paces.wide) };
        self.next.insert(pace, began + every);
    }
}

/// What one round found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// When it ended.
    pub at: SystemTime,
    /// What was looked at.
    pub subjects: Vec<Subject>,
    /// What it found.
    pub rows: Vec<Row>,
}

impl Round {
    /// What was found of a level.
    pub fn of(&self, level: Level) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.finding.level == level)
    }

    /// Whether anything could be looked at.
    fn is_made(&self) -> bool {
        self.rows.iter().any(|row| row.finding.level != Level::Skipped)
    }
}

/// What the rounds found: the last of each pace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found(BTreeMap<Pace, Round>);

impl Found {
    /// The last rounds, the quick one first.
    pub fn rounds(&self) -> impl Iterator<Item = (Pace, &Round)> {
        self.0.iter().map(|(pace, round)| (*pace, round))
    }

    /// How much was found of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.0.values().map(|round| round.of(level).count()).sum()
    }

    /// With another round of a pace. One in which nothing could be looked at takes away what the one before has found only when that is older than
    /// `stale`.
    #[must_use]
    pub fn with(&self, pace: Pace, round: Round, stale: Duration) -> Self {
        let mut rounds = self.0.clone();
        let fresh = |before: &&Round| round.at.duration_since(before.at).is_ok_and(|age| age < stale);
        if round.is_made() || rounds.get(&pace).filter(fresh).is_none() {
            rounds.insert(pace, round);
        }
        Self(rounds)
    }
}

/// Where the last rounds are to be seen; none: there was none yet.
pub type Rounds = watch::Receiver<Option<Arc<Found>>>;

/// Goes on rounds.
pub struct Practice<O> {
    /// The daemon's configuration.
    config: PathBuf,
    /// Says what the daemon knows of itself.
    own: O,
    paces: Paces,
    last: watch::Sender<Option<Arc<Found>>>,
}

impl<O: Fn() -> Own + Send + Sync + 'static> Practice<O> {
    /// One for a daemon with this configuration, and where each round is to be seen.
    pub fn new(config: PathBuf, paces: Paces, own: O) -> (Self, Rounds) {
        let (last, seen) = watch::channel(None);
        (Self { config, own, paces, last }, seen)
    }

    /// Until the shutdown.
    pub async fn run(self, shutdown: CancellationToken) {
        let practice = Arc::new(self);
        let _ = shutdown.run_until_cancelled(practice.go_on(&shutdown)).await;
    }

    async fn go_on(self: &Arc<Self>, shutdown: &CancellationToken) {
        let mut timetable = Timetable::new(self.paces, Instant::now());
        loop {
            let (pace, at) = timetable.next();
            tokio::time::sleep_until(at).await;
            let began = Instant::now();
            let made = match self.look_aside(pace, shutdown).await {
                Ok(round) => {
                    let (made, errors) = (round.is_made(), round.of(Level::Error).count());
                    tracing::debug!(?pace, took_ms = began.elapsed().as_millis(), errors, "doctor's round");
                    self.take(pace, round);
                    made
                }
                Err(error) => {
                    tracing::warn!("doctor could not look at this host: {error:#}");
                    false
                }
            };
            timetable.went(pace, began, made);
        }
    }

    /// Looks on a thread of its own, since files and the user database may be slow. A round that breaks costs itself, and none after it.
    async fn look_aside(self: &Arc<Self>, pace: Pace, shutdown: &CancellationToken) -> anyhow::Result<Round> {
        let (runtime, practice, shutdown) = (tokio::runtime::Handle::current(), Arc::clone(self), shutdown.clone());
        let look = move || runtime.block_on(shutdown.run_until_cancelled(practice.look(pace)));
        tokio::task::spawn_blocking(look)
            .await
            .context("internal error, please report it")?
            .context("the daemon ends")?
    }

    async fn look(&self, pace: Pace) -> anyhow::Result<Round> {
        let own = (self.own)();
        let subjects = pace.subjects(own.settings.runs_jobs());
        let options = Options {
            config: self.config.clone(),
            user: User::from_uid(geteuid()).ok().flatten().map(|user| user.name),
            socket: None,
            runner_config: RUNNER_CONFIG.into(),
            build_image: None,
            quick: false,
            root: "/".into(),
            own: Some(own),
        };
        let host = Host::look(options).await?;
        if let Ok(podman) = host.podman.as_ref()
            && subjects.contains(&Subject::Network)
        {
            podman.forget_probes().await;
        }
        let end = Instant::now() + ROUND_MAX;
        let mut rows = Vec::new();
        for subject in &subjects {
            match tokio::time::timeout_at(end, examine(&host, *subject)).await {
                Ok(found) => rows.extend(found),
                Err(_) => {
                    tracing::warn!(subject = subject.heading(), "doctor's round took too long and ends here");
                    let minutes = ROUND_MAX.as_secs() / 60;
                    let what = format!("not looked at: the daemon's round was not over after {minutes} minutes");
                    let finding = Finding::skipped("round", what, Some("sudo windlass doctor"));
                    rows.push(Row { subject: *subject, finding });
                }
            }
        }
        Ok(Round { at: SystemTime::now(), subjects, rows })
    }

    /// Keeps what a round has found, and says in the log what has become an error since the one before.
    fn take(&self, pace: Pace, round: Round) {
        if round.subjects.is_empty() {
            return;
        }
        let before = self.last.borrow().clone().unwrap_or_default();
        for row in new_errors(&round, before.0.get(&pace)) {
            let mend = row.finding.remedy.as_deref().unwrap_or_default();
            tracing::warn!(check = row.finding.check, mend, "{}", row.finding.what);
        }
        let found = before.with(pace, round, 2 * self.paces.of(pace));
        self.last.send_replace(Some(Arc::new(found)));
    }
}

fn new_errors<'a>(round: &'a Round, before: Option<&Round>) -> Vec<&'a Row> {
    let is_new = |row: &&Row| before.is_none_or(|before| !before.rows.contains(row));
    round.of(Level::Error).filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::Finding;
    use super::*;

    const PACES: Paces = Paces {
        quick: Duration::from_secs(15 * 60),
        wide: Duration::from_secs(3600),
        build: Duration::from_secs(24 * 3600),
    };

    fn round(errors: &[&str]) -> Round {
        let row = |what: &&str| Row { subject: Subject::Ids, finding: Finding::error("subuids", *what, "m", "r") };
        let rows = errors.iter().map(row).collect();
        Round { at: SystemTime::UNIX_EPOCH, subjects: vec![Subject::Ids], rows }
    }

    /// A round in which nothing could be looked at, so many seconds later.
    fn skipped(after: u64) -> Round {
        let row = Row { subject: Subject::Build, finding: Finding::skipped("build", "all slots are busy", None) };
        Round { at: SystemTime::UNIX_EPOCH + Duration::from_secs(after), rows: vec![row], ..round(&[]) }
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
        let paces = Paces { quick: Duration::from_millis(1), ..PACES };
        let (practice, _seen) = Practice::new("none.toml".into(), paces, own);
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
    fn the_rounds_look_at_all_that_doctor_looks_at() {
        let of = |runs_jobs| Pace::ALL.map(|pace| pace.subjects(runs_jobs)).concat();
        for subject in Subject::value_variants() {
            let times = of(true).iter().filter(|other| *other == subject).count();
            assert_eq!(times, 1, "{subject:?}");
        }
        for needs_podman in [Subject::Podman, Subject::Network, Subject::Build] {
            assert!(!of(false).contains(&needs_podman), "{needs_podman:?}");
        }
        assert!(of(false).contains(&Subject::Gitlab) && of(false).contains(&Subject::Webhooks));
    }

    #[test]
    fn what_is_often_looked_at_asks_nobody_and_starts_nothing() {
        for subject in [Subject::Network, Subject::Build, Subject::Gitlab, Subject::Webhooks, Subject::Clock] {
            assert!(!Pace::Quick.subjects(true).contains(&subject), "{subject:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_pace_has_its_time() {
        let start = Instant::now();
        let minutes = |count: u64| start + Duration::from_secs(60 * count);
        let mut timetable = Timetable::new(PACES, start);
        let mut rounds = Vec::new();
        while timetable.next().1 < minutes(80) {
            let (pace, at) = timetable.next();
            rounds.push((pace, (at - start).as_secs() / 60));
            timetable.went(pace, at, pace != Pace::Build);
        }
        let of = |wanted| rounds.iter().filter(|(pace, _)| *pace == wanted).map(|(_, at)| *at).collect::<Vec<_>>();
        assert_eq!(of(Pace::Quick), [1, 16, 31, 46, 61, 76]);
        assert_eq!(of(Pace::Wide), [5, 65]);
        assert_eq!(of(Pace::Build), [30], "there was no slot for it; the next try is an hour later");
        timetable.went(Pace::Build, minutes(30), true);
        assert_eq!(timetable.next[&Pace::Build], minutes(30 + 24 * 60));
        let soon = Paces { quick: Duration::from_secs(1), ..PACES };
        assert_eq!(Timetable::new(soon, start).next(), (Pace::Quick, start + Duration::from_secs(1)));
    }

    #[test]
    fn what_a_slower_round_found_is_kept_until_it_is_repeated() {
        let stale = Duration::from_secs(100);
        let found =
            Found::default().with(Pace::Quick, round(&["a"]), stale).with(Pace::Wide, round(&["b", "c"]), stale);
        let later = found.with(Pace::Quick, round(&["d"]), stale).with(Pace::Quick, round(&["e"]), stale);
        assert_eq!((found.count(Level::Error), later.count(Level::Error)), (3, 3));
        let row = Row { subject: Subject::Clock, finding: Finding::ok("clock", "as GitLab's") };
        let good = Round { rows: vec![row], ..round(&[]) };
        assert_eq!(later.with(Pace::Wide, good, stale).count(Level::Error), 1);
    }

    #[test]
    fn a_round_without_a_look_takes_away_only_what_is_old() {
        let stale = Duration::from_secs(100);
        let found = Found::default().with(Pace::Build, round(&["a"]), stale);
        assert_eq!(found.with(Pace::Build, skipped(99), stale).count(Level::Error), 1);
        assert_eq!(found.with(Pace::Build, skipped(100), stale).count(Level::Error), 0);
    }
}
