//! What running jobs use now, for whoever looks: memory, CPU time and limits of each job's own container, by its cgroup.
//!
//! podman is asked once for each container which process is its first; after that a look is a few small files.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Executor;
use super::record::State;
use crate::init::usage::Gauge;

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
    /// CPUs at most, as far as somebody looked.
    pub cpus_peak: Option<f64>,
    /// CPUs that it may have.
    pub cpus_limit: Option<f64>,
}

/// A container that was looked at.
#[derive(Debug)]
struct Known {
    /// Its first process; none: podman has not said, or can't.
    pid: Option<i32>,
    /// The CPU time of the last look, in microseconds, and when that was.
    before: Option<(u64, Instant)>,
    /// What was found.
    load: Load,
}

/// Containers that were looked at, by name.
#[derive(Debug, Default)]
pub struct Looks(Mutex<BTreeMap<String, Known>>);

impl Executor {
    /// What each running job uses, by the lease's short id. Of a container that was not looked at before nothing is known yet: podman may
    /// take its time, and whoever looks does not wait for it.
    pub fn usage(self: &Arc<Self>) -> BTreeMap<String, Load> {
        let running: BTreeMap<String, String> = self
            .all_leases()
            .iter()
            .map(|lease| lease.record())
            .filter(|record| record.state == State::Ready)
            .filter_map(|record| Some((record.container?.name, record.id.short().to_owned())))
            .collect();
        let mut known = self.looks.lock();
        known.retain(|name, _| running.contains_key(name));
        for name in running.keys().filter(|name| !known.contains_key(*name)).cloned().collect::<Vec<_>>() {
            known.insert(name.clone(), Known { pid: None, before: None, load: Load::default() });
            let executor = Arc::clone(self);
            self.tasks.spawn(async move {
                // One that can't be found out is not asked for again.
                let pid = executor.podman.pid(&name).await.ok();
                if let Some(known) = executor.looks.lock().get_mut(&name) {
                    known.pid = pid;
                }
            });
        }
        let looked = known.iter_mut().filter_map(|(name, known)| Some((running.get(name)?.clone(), known.look())));
        looked.collect()
    }
}

impl Looks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn look(&mut self) -> Load {
        let Some(gauge) = self.pid.and_then(Gauge::read) else { return self.load };
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
        self.load
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
    fn cpus_are_time_used_by_time_passed() {
        assert_eq!(cpus(1_000_000, 4_000_000, 2.0), Some(1.5));
        assert_eq!((cpus(5, 4, 1.0), cpus(0, 1, 0.0)), (Some(0.0), None));
    }
}
