//! Loops that the daemon lives by: each goes on until the shutdown, and one that does not is noticed.
//!
//! One that ends or panics ends the service, which systemd starts again; jobs outlast that. One that hangs shows by its last step: a loop takes
//! one whenever something that it has waited for has come, and has none to take while it rests. Whoever is late gets no sign of life
//! for the whole daemon (`service::notify`, `/healthz`).

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Error, anyhow};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest step of a loop that asks GitLab or registries, writes to a database, or starts a program: each request has its own end within a
/// minute, and what GitLab's limits make it wait for within some more.
pub const STEP_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest step of a loop that calls podman: `[podman] timeout` is minutes, and other calls may be before it.
pub const PODMAN_STEP_MAX: Duration = Duration::from_secs(60 * 60);

tokio::task_local! {
    /// The loop that this task is.
    static OWN: Arc<Pulse>;
}

/// When a loop took its last step.
#[derive(Debug)]
struct Pulse {
    /// Longest time between two steps; none: nobody can tell.
    bound: Option<Duration>,
    /// None: it rests.
    step: Mutex<Option<Instant>>,
}

impl Pulse {
    fn set(&self, step: Option<Instant>) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// How long ago the last step was; nothing while it rests.
    fn age(&self) -> Duration {
        self.step.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |step| step.elapsed())
    }

    fn is_late(&self) -> bool {
        self.bound.is_some_and(|bound| self.age() > bound)
    }
}

/// The loop whose task this is goes on: something has come that it waited for. Means nothing in any other task.
pub fn step() {
    let _ = OWN.try_with(|own| own.set(Some(Instant::now())));
}

/// Waits for something that may take any time: the next turn, or something to do. Until then nobody expects a step.
pub async fn rest<T>(until: impl Future<Output = T>) -> T {
    /// However the rest ends.
    struct Awake;
    impl Drop for Awake {
        fn drop(&mut self) {
            step();
        }
    }
    let _ = OWN.try_with(|own| own.set(None));
    let _awake = Awake;
    until.await
}

/// The loops of a daemon.
#[derive(Debug, Clone)]
pub struct Loops {
    tasks: TaskTracker,
    shutdown: CancellationToken,
    pulses: Arc<Mutex<BTreeMap<&'static str, Arc<Pulse>>>>,
    /// How the first has ended that should not have.
    ended: Arc<watch::Sender<Option<String>>>,
}

impl Loops {
    /// None yet. They run among these tasks, until this shutdown.
    #[must_use]
    pub fn new(tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { tasks, shutdown, pulses: Arc::default(), ended: Arc::new(watch::Sender::new(None)) }
    }

    /// What else runs with them.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// What ends them.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Starts a loop, under a name of its own. `bound`: longest time between two of its steps; none where that is not to be told.
    pub fn spawn(&self, name: &'static str, bound: Option<Duration>, work: impl Future<Output = ()> + Send + 'static) {
        let pulse = Arc::new(Pulse { bound, step: Mutex::new(Some(Instant::now())) });
        self.pulses.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&pulse));
        let (shutdown, ended) = (self.shutdown.clone(), Arc::clone(&self.ended));
        let running = self.tasks.spawn(OWN.scope(pulse, work));
        self.tasks.spawn(async move {
            let how = match running.await.map_err(JoinError::try_into_panic) {
                Ok(()) if shutdown.is_cancelled() => return,
                Ok(()) => "has ended".to_owned(),
                Err(Ok(payload)) => format!("panicked: {}", words(payload.as_ref())),
                // The runtime is going away, and all tasks with it.
                Err(Err(_)) => return,
            };
            let words = format!("the loop {name} {how}; please report that");
            tracing::error!("{words}");
            ended.send_if_modified(|first| first.is_none() && first.replace(words).is_none());
        });
    }

    /// Waits until one has ended that should not have.
    pub async fn failed(&self) -> Error {
        let mut ended = self.ended.subscribe();
        let first = ended.wait_for(Option::is_some).await.ok().and_then(|words| words.clone());
        anyhow!("{}; systemd starts windlassd again, and jobs run on", first.unwrap_or_default())
    }

    /// Those that have not taken a step for longer than any may last, in words; none: all go on.
    #[must_use]
    pub fn late(&self) -> Option<String> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let late = pulses.iter().filter(|(_, pulse)| pulse.is_late());
        let words = late.map(|(name, pulse)| {
            let age = Duration::from_secs(pulse.age().as_secs());
            format!("the loop {name} has hung for {}", humantime::format_duration(age))
        });
        Some(words.collect::<Vec<_>>().join("; ")).filter(|words| !words.is_empty())
    }

    /// How long ago each took its last step, in seconds; 0 for one that rests.
    #[must_use]
    pub fn ages(&self) -> BTreeMap<&'static str, i64> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.iter().map(|(name, pulse)| (*name, i64::try_from(pulse.age().as_secs()).unwrap_or(i64::MAX))).collect()
    }
}

/// What a panic said.
fn words(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(|words| (*words).to_owned());
    literal.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const BOUND: Duration = Duration::from_secs(100);
    const NEARLY: Duration = Duration::from_secs(90);

    fn loops() -> Loops {
        Loops::new(TaskTracker::new(), CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ends_or_panics_before_the_shutdown_is_a_failure() {
        for (panics, expected) in [(true, "the loop one panicked: it broke"), (false, "the loop one has ended")] {
            let loops = loops();
            loops.spawn("one", None, async move { assert!(!panics, "it broke") });
            let error = loops.failed().await.to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_ends_with_the_shutdown_is_none() {
        let loops = loops();
        let shutdown = loops.shutdown().clone();
        loops.spawn("one", None, async move { shutdown.cancelled().await });
        loops.shutdown().cancel();
        loops.tasks().close();
        loops.tasks().wait().await;
        assert!(loops.failed().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_hangs_is_late_and_one_that_goes_on_or_rests_is_not() {
        let loops = loops();
        loops.spawn("hangs", Some(BOUND), std::future::pending());
        loops.spawn("may-hang", None, std::future::pending());
        loops.spawn("rests", Some(BOUND), rest(std::future::pending()));
        loops.spawn("goes-on", Some(BOUND), async {
            loop {
                tokio::time::sleep(NEARLY).await;
                step();
            }
        });
        loops.spawn("hangs-after-a-rest", Some(BOUND), async {
            rest(tokio::time::sleep(NEARLY * 10)).await;
            std::future::pending::<()>().await;
        });
        tokio::time::sleep(NEARLY).await;
        assert_eq!(loops.late(), None);
        tokio::time::sleep(NEARLY).await;
        assert_eq!(loops.late().as_deref(), Some("the loop hangs has hung for 3m"));
        assert_eq!((loops.ages()["hangs"], loops.ages()["rests"]), (180, 0));
        tokio::time::sleep(NEARLY * 10).await;
        let late = loops.late().unwrap_or_default();
        assert!(late.contains("hangs-after-a-rest") && !late.contains("goes-on") && !late.contains("rests "), "{late}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_outside_of_a_loop_means_nothing() {
        step();
        assert_eq!(rest(async { 7 }).await, 7);
    }
}
