//! What running jobs use now and have used at most: memory, CPU time and limits of each job's own container, by its cgroup.
//!
//! podman is asked once for each container which process is its first; after that a look is a few small files. Looks come at one pace whether somebody
//! has a page open or not, so that what was used at most does not depend on who looked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Executor;
use crate::init::usage::Gauge;
use crate::loops;

/// How often.
const LOOK: Duration = Duration::from_secs(2);
/// After so long podman is asked again which process is a container's first, where it has not said.
const AGAIN: Duration = Duration::from_secs(30);

/// What a job's container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// Bytes of memory now.
    pub memory: Option<u64>,
    /// Bytes of memory at most, so far.
    pub memory_peak: Option<u64>,
    /// Bytes of memory that it may have.
    pub memory_limit: Option<u64>,
    /// CPUs that it has used since the look before.
    pub cpus: Option<f64>,
    /// CPUs at most between two looks, since the container or this daemon was started.
    pub cpus_peak: Option<f64>,
    /// CPUs that it may have.
    pub cpus_limit: Option<f64>,
}

/// A container that was looked at.
#[derive(Debug)]
struct Known {
    /// Its first process; none: podman has not said, or can't.
    pid: Option<i32>,
    /// When podman was asked for it.
    asked: Instant,
    /// The CPU time of the last look, in microseconds, and when that was.
    before: Option<(u64, Instant)>,
    /// What was found.
    load: Load,
}

/// Containers that were looked at, by name.
#[derive(Debug, Default)]
pub struct Looks(Mutex<BTreeMap<String, Known>>);

impl Executor {
    /// Looks at all running jobs, until the daemon ends.
    pub async fn gauge_forever(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        // A look that comes late is no reason for one that comes early: it would be over too short a time.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = loops::rest(ticks.tick()) => {}
            }
            self.gauge();
        }
    }

    /// What each running job used at the last look, by the lease's short id. Of a container that was not looked at yet nothing is known.
    pub fn usage(&self) -> BTreeMap<String, Load> {
        let known = self.looks.lock();
        self.running().into_iter().filter_map(|(name, id)| Some((id, known.get(&name)?.load))).collect()
    }

    /// The names of containers in which stages can run, with their leases' short ids.
    fn running(&self) -> BTreeMap<String, String> {
        let ready = |lease: &Arc<super::Lease>| Some((lease.ready_container()?, lease.id.short().to_owned()));
        self.all_leases().iter().filter_map(ready).collect()
    }

    /// podman may take its time to say which process is a container's first; nobody waits for it.
    fn gauge(self: &Arc<Self>) {
        let running = self.running();
        let mut known = self.looks.lock();
        known.retain(|name, _| running.contains_key(name));
        let now = Instant::now();
        for name in
            running.into_keys().filter(|name| known.get(name).is_none_or(|known| known.is_due(now))).collect::<Vec<_>>()
        {
            known.insert(name.clone(), Known { pid: None, asked: now, before: None, load: Load::default() });
            let executor = Arc::clone(self);
            self.tasks.spawn(async move {
                let pid = executor.podman.pid(&name).await.ok();
                if let Some(known) = executor.looks.lock().get_mut(&name) {
                    known.pid = pid;
                }
            });
        }
        known.values_mut().for_each(Known::look);
    }
}

impl Looks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether podman is to be asked once more.
    fn is_due(&self, now: Instant) -> bool {
        self.pid.is_none() && now.duration_since(self.asked) >= AGAIN
    }

    fn look(&mut self) {
        let Some(gauge) = self.pid.and_then(Gauge::read) else { return };
        let now = Instant::now();
        let cpus = self.before.zip(gauge.cpu_us).and_then(|((then, at), us)| cpus(then, us, (now - at).as_secs_f64()));
        if let Some(us) = gauge.cpu_us {
            self.before = Some((us, now));
        }
        let peak = cpus.map(|cpus| self.load.cpus_peak.map_or(cpus, |peak| peak.max(cpus)));
        self.load = Load {
            memory: gauge.memory,
            memory_peak: gauge.memory_peak.or(self.load.memory_peak).max(gauge.memory),
            memory_limit: gauge.memory_limit,
            cpus,
            cpus_peak: peak.or(self.load.cpus_peak),
            cpus_limit: gauge.cpus_limit,
        };
    }
}

/// CPUs that were used between two looks.
#[allow(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
fn cpus(before_us: u64, now_us: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| now_us.saturating_sub(before_us) as f64 / 1e6 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podman_is_asked_again_where_it_has_not_said() {
        let now = Instant::now();
        let of = |pid| Known { pid, asked: now, before: None, load: Load::default() };
        assert!(!of(None).is_due(now) && of(None).is_due(now + AGAIN));
        assert!(!of(Some(7)).is_due(now + AGAIN));
    }

    #[test]
    fn cpus_are_time_used_by_time_passed() {
        assert_eq!(cpus(1_000_000, 4_000_000, 2.0), Some(1.5));
        assert_eq!((cpus(5, 4, 1.0), cpus(0, 1, 0.0)), (Some(0.0), None));
    }
}
