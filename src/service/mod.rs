//! The service: start-up, its parts, signals, and an orderly end.

mod admin;
mod arguments;
mod caller;
mod chain;
mod channel;
mod checks;
mod connection;
mod end;
mod feed;
mod gate;
mod hands;
mod health;
pub mod journal;
mod listener;
mod missing;
mod notify;
mod page;
mod parts;
mod reload;
mod socket;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::page::PageServer;
use crate::config::Settings;
use crate::doctor::{Own, Paces, Practice, Rounds};
use crate::executor::{Executor, Observers};
use crate::history::{History, Writer};
use crate::loops::{Loops, PODMAN_STEP_MAX, STEP_MAX};
use crate::metrics::Metrics;
use admin::{Admin, Panel};
pub use arguments::Arguments;
use chain::Chain;
use health::Health;
use listener::Listener;
use missing::Missing;
use notify::{StatusLine, Watchdog, announce_slots, announce_space};
use parts::{Parts, WITHOUT_CHAIN};
use reload::Reload;

/// How long the daemon may take to end; running jobs don't need it, what podman is doing for one may.
const DRAIN: Duration = Duration::from_secs(15);
/// How long threads get after that which wait for the operating system: a user database or a disk that hangs never lets them go.
pub const THREADS_END: Duration = Duration::from_secs(1);
/// Longest step of what empties the trash: a tree gets a day, at idle priority.
const TRASH_STEP_MAX: Duration = Duration::from_secs(25 * 3600);

/// The service, ready to run.
pub struct Service {
    /// The main file of the configuration.
    file: PathBuf,
    parts: Arc<Parts>,
    chain: Option<Chain>,
    page: Option<PageServer>,
    listener: Listener,
    admin: Admin,
    metrics: Arc<Metrics>,
    writer: Writer,
    signals: Signals,
    reload: Arc<Reload>,
    /// What `systemctl status` shows; each part says its own.
    line: Arc<StatusLine>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    /// Two daemons on one runtime directory would end each other's jobs.
    _lock: Flock<File>,
}

impl Service {
    /// With the settings that were read from `file`. Checks the host, binds the socket and takes up what an earlier daemon left. Nothing is served yet.
    ///
    /// # Errors
    /// What is missing, in words for an administrator.
    pub async fn build(file: &Path, settings: Settings) -> Result<Self> {
        // From here on a request to read the file again waits instead of ending the process.
        let signals = Signals::new([SIGHUP]).context("handle SIGHUP")?;
        notify::starting();
        std::fs::create_dir_all(&settings.run_dir)
            .with_context(|| format!("make the directory {}", settings.run_dir.display()))?;
        let lock = lock(&settings.run_dir)?;
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let listener = Listener::bind(&settings.socket)?;
        let mut missing = Missing::default();
        let admin = Admin::bind(&settings, &mut missing).await;
        let page = missing.unless(PageServer::bind(&settings).await, "there is no page").flatten();
        let metrics = Arc::<Metrics>::default();
        let chain = Chain::build(&settings, &metrics, &mut missing).await;
        let chain = match settings.runs_jobs() {
            true => missing.unless(chain, WITHOUT_CHAIN).flatten(),
            // It is all that this daemon is for.
            false => chain?,
        };
        let (history, writer) = History::new(&settings.state_dir, settings.history, &metrics);
        let executor = if settings.runs_jobs() || Executor::has_left(&settings.run_dir) {
            let observers = Observers { history, metrics: Arc::clone(&metrics) };
            Some(executor(settings.clone(), observers, &tasks, &shutdown).await?)
        } else {
            tracing::info!("windlassd {} starts, for the image chain alone", env!("CARGO_PKG_VERSION"));
            None
        };
        let controller = chain.as_ref().map(|chain| Arc::clone(&chain.controller));
        let parts = Parts::new(executor, controller, missing.words());
        let parts = Arc::new(parts);
        let line = Arc::<StatusLine>::default();
        let (file, gate) = (file.to_owned(), listener.gate());
        let reload = Arc::new(Reload::new(file.clone(), settings, Arc::clone(&parts), gate, Arc::clone(&line)));
        Ok(Self {
            file,
            parts,
            chain,
            listener,
            page,
            admin,
            metrics,
            writer,
            signals,
            reload,
            line,
            tasks,
            shutdown,
            _lock: lock,
        })
    }

    /// Serves until told to end (SIGTERM or SIGINT); SIGHUP has it read its configuration again. Running jobs go on without it.
    ///
    /// # Errors
    /// That of the part that failed first.
    pub async fn run(mut self) -> Result<()> {
        let signals = self.signals.handle();
        [SIGTERM, SIGINT].into_iter().try_for_each(|signal| signals.add_signal(signal)).context("handle signals")?;
        let health = Arc::<Health>::default();
        let loops = Loops::new(self.tasks.clone(), self.shutdown.clone());
        // For a page that could not begin too: status and figures show it.
        let page = self.reload.settings().page;
        let doctor = page.listen.is_some().then(|| self.doctor(page::doctor_paces(&page), &loops));
        let panel = Arc::new(Panel {
            parts: Arc::clone(&self.parts),
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&health),
            loops: loops.clone(),
            doctor: doctor.clone(),
        });
        loops.spawn("history", Some(STEP_MAX), write(self.writer, self.shutdown.clone()));
        self.admin.spawn(&panel, &loops);
        let watchdog = Watchdog::wanted(&health, &loops);
        let mut accept = self.tasks.spawn(self.listener.serve(Arc::clone(&self.parts), loops.clone(), watchdog));
        if let Some(executor) = self.parts.has_executor() {
            jobs(executor, &loops, &self.line);
        }
        if let (Some(page), Some(doctor)) = (self.page, doctor) {
            if let Some(executor) = self.parts.has_executor() {
                loops.spawn("usage", Some(STEP_MAX), Arc::clone(executor).gauge_forever());
            }
            let controller = self.chain.as_ref().map(|chain| Arc::clone(&chain.controller));
            page.spawn(self.parts.has_executor().cloned(), controller, doctor, self.parts.missing(), &loops);
        }
        if let Some(chain) = self.chain {
            chain.spawn(&loops, Arc::clone(&self.line));
        }
        // A loop of its own: the end does not wait for a reload that hangs. One that is late is noticed by whoever
        // asked for it.
        let hangups = Arc::<Notify>::default();
        loops.spawn("reload", None, self.reload.run_forever(Arc::clone(&hangups), self.shutdown.clone()));
        health.set_serving(true);
        notify::ready();
        let result = end::wait(&mut self.signals, &hangups, &mut accept, &loops).await;
        health.set_serving(false);
        notify::stopping();
        tracing::info!("windlassd ends; running jobs go on");
        self.shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "gave up waiting for {} task(s) after {DRAIN:?}; the next windlassd goes on with their leases",
                self.tasks.len()
            );
        }
        result
    }

    /// Has doctor look at this host from time to time; where what it found last is to be seen.
    fn doctor(&self, paces: Paces, loops: &Loops) -> Rounds {
        let (reload, parts) = (Arc::clone(&self.reload), Arc::clone(&self.parts));
        let own = move || Own { settings: reload.settings(), status: parts.status() };
        let (practice, rounds) = Practice::new(self.file.clone(), paces, own);
        // The user database may take any time. When a round was is shown with it.
        loops.spawn("doctor", None, practice.run(self.shutdown.clone()));
        self.parts.set_doctor(rounds.clone());
        rounds
    }
}

/// Writes the history until the shutdown, also where no jobs run and nobody has anything to tell.
async fn write(writer: Writer, shutdown: CancellationToken) {
    writer.run(shutdown.clone()).await;
    crate::loops::rest(shutdown.cancelled()).await;
}

/// Starts the loops that jobs need.
fn jobs(executor: &Arc<Executor>, loops: &Loops, line: &Arc<StatusLine>) {
    let (executor, line, shutdown) = (|| Arc::clone(executor), || Arc::clone(line), || loops.shutdown().clone());
    loops.spawn("slots-status", Some(STEP_MAX), announce_slots(executor(), line(), shutdown()));
    loops.spawn("space-status", Some(STEP_MAX), announce_space(executor(), line(), shutdown()));
    loops.spawn("sweep", Some(PODMAN_STEP_MAX), executor().sweep_forever());
    loops.spawn("trash", Some(TRASH_STEP_MAX), executor().empty_trash_forever());
    loops.spawn("purge", Some(PODMAN_STEP_MAX), executor().purge_forever());
    loops.spawn("free-space", Some(STEP_MAX), executor().observe_forever());
}

/// The part that runs jobs, with what an earlier daemon left taken up.
async fn executor(
    settings: Settings,
    observers: Observers,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Arc<Executor>> {
    Executor::refuse_leases_of_later_release(&settings.run_dir)?;
    checks::init_program(&settings.podman.init)?;
    let executor = Executor::build(settings, observers, tasks.clone(), shutdown.clone()).await?;
    checks::files_program(&executor.podman().files_program())?;
    executor.adopt().await?;
    let kind = if executor.podman().rootful { "rootful" } else { "rootless" };
    let (version, podman) = (env!("CARGO_PKG_VERSION"), &executor.podman_version);
    tracing::info!("windlassd {version} starts, with {kind} podman {podman}");
    for warning in executor.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(executor)
}

fn lock(run_dir: &Path) -> Result<Flock<File>> {
    let path = run_dir.join("windlassd.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => bail!("another windlassd runs with run_dir {}", run_dir.display()),
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}
