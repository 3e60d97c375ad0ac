//! What there is to show at a moment: asked of the daemon's parts at most once a second, by whoever looks first.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Mutex;

use super::view::doctor::Doctor;
use super::view::followed::followed;
use super::view::now::{Now, now, steady};
use super::view::past::{DAY, DAYS, DiskPast, Jobs, disk_past};
use super::view::timeline::rebuild;
use super::view::{Chain, Findings, ProjectPast, built_because, disk};
use crate::controller::Controller;
use crate::doctor::Rounds;
use crate::executor::Executor;
use crate::history::History;
use crate::protocol::chain::{ChainReply, ChainRequest, ChainStatus};
use crate::protocol::daemon::{DaemonStatus, Status};
use crate::protocol::history::StageDay;

/// How old it may be.
const FRESH: Duration = Duration::from_secs(1);
/// How often lanes and images are listed, which podman is asked for, and what is on record is read.
const DISK: Duration = Duration::from_secs(15);
/// Points of a plot over time.
const POINTS: usize = 240;
/// How often days that are over are read again: what began then and ends now is on record with its end.
const DAYS_OVER: Duration = Duration::from_secs(600);
/// Starts among which the last rebuild is looked for: a thousand projects are built for one base, and some of them for others meanwhile.
const STARTS: u32 = 5_000;
/// Events and starts of a project that are shown.
const PAST: u32 = 12;

/// A moment. What has not changed since the one before has the same version.
#[derive(Debug, Clone)]
pub struct Moment {
    /// What goes on.
    pub now: Arc<Now>,
    /// The version of that.
    pub now_version: u64,
    /// The chain; none where there is none.
    pub chain: Option<Arc<Chain>>,
    /// The version of that.
    pub chain_version: u64,
    /// The version of the events and starts on record.
    pub noted: u64,
}

/// A value, and when it was asked for.
type Kept<T> = Mutex<Option<(Instant, T)>>;

/// Where it comes from.
#[derive(Debug)]
pub struct Sources {
    /// None: this daemon looks after the chain alone.
    executor: Option<Arc<Executor>>,
    controller: Option<Arc<Controller>>,
    doctor: Rounds,
    /// What of the daemon could not begin.
    missing: Vec<String>,
    started_at: SystemTime,
    moment: Kept<Moment>,
    disk: Kept<(Arc<disk::Disk>, Arc<DiskPast>)>,
    jobs: Kept<Arc<Jobs>>,
    /// How long stages took before this day, in milliseconds since 1970.
    stages: Kept<(i64, Vec<StageDay>)>,
    findings: Kept<Arc<Findings>>,
}

impl Sources {
    /// These parts of the daemon.
    #[must_use]
    pub fn new(
        executor: Option<Arc<Executor>>,
        controller: Option<Arc<Controller>>,
        doctor: Rounds,
        missing: Vec<String>,
    ) -> Self {
        Self {
            executor,
            controller,
            doctor,
            missing,
            started_at: SystemTime::now(),
            moment: Mutex::default(),
            disk: Mutex::default(),
            jobs: Mutex::default(),
            stages: Mutex::default(),
            findings: Mutex::default(),
        }
    }

    /// Whether jobs run here.
    #[must_use]
    pub fn has_jobs(&self) -> bool {
        self.executor.is_some()
    }

    /// Whether there is a chain.
    #[must_use]
    pub fn has_chain(&self) -> bool {
        self.controller.is_some()
    }

    /// What there is now.
    pub async fn moment(&self) -> Moment {
        let mut kept = self.moment.lock().await;
        if let Some((at, moment)) = kept.as_ref()
            && at.elapsed() < FRESH
        {
            return moment.clone();
        }
        let before = kept.as_ref().map(|(_, moment)| moment);
        let mut now = self.now();
        steady(&mut now.held, before.map_or(&[], |before| before.now.held.as_slice()));
        // Before what it is the version of: what comes in between makes another.
        let noted = self.noted(None);
        let chain = self.chain(before, noted).await;
        let moment = match before {
            None => Moment { now: Arc::new(now), now_version: 1, chain, chain_version: 1, noted },
            Some(before) => {
                let (other_now, other_chain) = (*before.now != now, before.chain != chain);
                Moment {
                    now: if other_now { Arc::new(now) } else { Arc::clone(&before.now) },
                    now_version: before.now_version + u64::from(other_now),
                    chain: if other_chain { chain } else { before.chain.clone() },
                    chain_version: before.chain_version + u64::from(other_chain),
                    noted,
                }
            }
        };
        *kept = Some((Instant::now(), moment.clone()));
        moment
    }

    fn now(&self) -> Now {
        let mut now = match &self.executor {
            Some(executor) => {
                let usage = executor.usage();
                now(&executor.status(), &executor.hold_list(), &usage, executor.settings().gitlab.url.as_deref())
            }
            None => now(&self.status_alone(), &[], &BTreeMap::new(), None),
        };
        let of_chain = self.controller.as_ref().map(|controller| controller.troubles()).unwrap_or_default();
        now.warnings.extend(of_chain.into_iter().map(|problem| format!("the chain: {problem}")));
        now.doctor = self.doctor.borrow().as_deref().map(Doctor::of);
        now
    }

    /// What there is to say of a daemon that runs no jobs.
    fn status_alone(&self) -> Status {
        let daemon = DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: humantime::format_rfc3339_seconds(self.started_at).to_string(),
            warnings: self.missing.clone(),
            drained_since: None,
        };
        Status { daemon, slots: Vec::new(), leases: Vec::new() }
    }

    /// The version of what is on record of a project, or of any.
    pub fn noted(&self, project: Option<i64>) -> u64 {
        self.controller.as_ref().map_or(0, |controller| controller.noted(project))
    }

    /// The chain; the record is read when there is more of it than before, or the chain's state is another.
    async fn chain(&self, before: Option<&Moment>, noted: u64) -> Option<Arc<Chain>> {
        let controller = self.controller.as_ref()?;
        let status = controller.status();
        if let Some((before, chain)) = before.and_then(|before| Some((before, before.chain.as_ref()?)))
            && before.noted == noted
            && chain.status == status
            && chain.unread.is_none()
        {
            return Some(Arc::clone(chain));
        }
        let mut unread = None;
        let links = followed(&known(controller.started(STARTS).await, &mut unread));
        let pipelines: Vec<(i64, i64)> = links.keys().copied().collect();
        let events = known(controller.events_of(&pipelines).await, &mut unread);
        let rebuild = rebuild(&status, &links, &events, controller.clock_ahead());
        let built = known(controller.built_for().await, &mut unread);
        let built_because = built.into_iter().filter_map(|(id, built)| Some((id, built_because(&built)?))).collect();
        Some(Arc::new(Chain { status, rebuild, built_because, unread }))
    }

    /// The last events and starts of a project.
    pub async fn project(&self, id: i64) -> ProjectPast {
        match &self.controller {
            Some(controller) => past(controller, id).await,
            None => ProjectPast::default(),
        }
    }

    /// What the chain's audit finds without asking anybody; none where there is no chain.
    pub async fn findings(&self) -> Option<Arc<Findings>> {
        let controller = self.controller.as_ref()?;
        let mut kept = self.findings.lock().await;
        if let Some((at, findings)) = kept.as_ref()
            && at.elapsed() < DISK
        {
            return Some(Arc::clone(findings));
        }
        let findings = Arc::new(Findings { findings: controller.known_findings() });
        *kept = Some((Instant::now(), Arc::clone(&findings)));
        Some(findings)
    }

    /// What the disks are used for, and what was.
    pub async fn disk(&self) -> (Arc<disk::Disk>, Arc<DiskPast>) {
        let mut kept = self.disk.lock().await;
        if let Some((at, disk)) = kept.as_ref()
            && at.elapsed() < DISK
        {
            return disk.clone();
        }
        let Some(executor) = &self.executor else { return Default::default() };
        let (lanes, images) = (executor.cache_list().await, executor.images_list().await);
        let images = images.map_err(|error| error.to_string());
        let disk = Arc::new(disk::disk(executor.file_systems(), lanes, images));
        let both = (Arc::clone(&disk), Arc::new(disk_of(executor.history(), &disk).await));
        *kept = Some((Instant::now(), both.clone()));
        both
    }

    /// The jobs of the past days.
    pub async fn jobs(&self) -> Arc<Jobs> {
        let mut kept = self.jobs.lock().await;
        if let Some((at, jobs)) = kept.as_ref()
            && at.elapsed() < DISK
        {
            return Arc::clone(jobs);
        }
        let Some(executor) = &self.executor else { return Arc::default() };
        let (history, since) = (executor.history(), since());
        let mut unread = None;
        let jobs = Arc::new(Jobs {
            outcomes: known(history.outcomes_by_day(since).await, &mut unread),
            stages: known(self.stages(history, since).await, &mut unread),
            pulls: known(history.pulls_by_day(since).await, &mut unread),
            unread,
        });
        *kept = Some((Instant::now(), Arc::clone(&jobs)));
        jobs
    }

    /// How long stages took. Of a large history it takes half a second to read two weeks, and a tenth of that to read two days.
    async fn stages(&self, history: &History, since: i64) -> anyhow::Result<Vec<StageDay>> {
        let yesterday = since + (DAYS - 2) * DAY;
        let mut kept = self.stages.lock().await;
        let before = match kept.as_ref() {
            Some((at, (until, before))) if *until == yesterday && at.elapsed() < DAYS_OVER => before.clone(),
            _ => {
                let before = history.stages_by_day(since, yesterday).await?;
                *kept = Some((Instant::now(), (yesterday, before.clone())));
                before
            }
        };
        Ok([before, history.stages_by_day(yesterday, i64::MAX).await?].concat())
    }
}

/// From when on the past is shown, in milliseconds since 1970.
fn since() -> i64 {
    let now = super::render::unix_time() * 1000;
    now / DAY * DAY - (DAYS - 1) * DAY
}

async fn disk_of(history: &History, disk: &disk::Disk) -> DiskPast {
    let mut unread = None;
    let rows = known(history.disks(since()).await, &mut unread);
    let purges = known(history.purges(since(), u32::MAX).await, &mut unread);
    DiskPast { unread, ..disk_past(&rows, purges, &disk.file_systems, POINTS) }
}

/// What is on record; a damaged record costs only itself, and why it can't be read is told.
fn known<T: Default>(read: anyhow::Result<T>, unread: &mut Option<String>) -> T {
    read.unwrap_or_else(|error| {
        tracing::debug!("what was: {error:#}");
        unread.get_or_insert_with(|| format!("{error:#}"));
        T::default()
    })
}

async fn past(controller: &Controller, project: i64) -> ProjectPast {
    match controller.answer(ChainRequest::Events { project: Some(project.to_string()), count: PAST }).await {
        Ok(ChainReply::Events { events, starts }) => ProjectPast { events, starts, unread: None },
        Ok(_) => ProjectPast::default(),
        Err(error) => {
            tracing::debug!("what was of the chain: {error:#}");
            ProjectPast { unread: Some(format!("{error:#}")), ..ProjectPast::default() }
        }
    }
}

/// A project of a chain.
#[must_use]
pub fn project_of(status: &ChainStatus, id: i64) -> Option<&crate::protocol::chain::ProjectLine> {
    status.projects.iter().find(|project| project.id == id)
}
