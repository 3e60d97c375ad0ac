//! Slots: places for concurrent jobs, first come, first served.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LeaseId;

/// The slots of all profiles.
#[derive(Debug)]
pub struct Slots {
    pools: BTreeMap<String, Arc<Pool>>,
    /// The places of projects that may not have all slots, by profile and project.
    projects: Mutex<BTreeMap<(String, String), Weak<Semaphore>>>,
}

#[derive(Debug)]
struct Pool {
    free: Arc<Semaphore>,
    held: Mutex<Vec<Option<LeaseId>>>,
}

impl Pool {
    fn held(&self) -> MutexGuard<'_, Vec<Option<LeaseId>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is held; free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    /// Its number within the profile.
    pub index: u32,
    pool: Option<Arc<Pool>>,
    /// Its project's own place, where a project may not have all slots.
    _project: Option<OwnedSemaphorePermit>,
    /// None for a lease from before a change of the configuration that took its slot away.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Gives it the place of its project too.
    #[must_use]
    pub fn with_project(mut self, place: Option<OwnedSemaphorePermit>) -> Self {
        self._project = place;
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool
            && let Some(place) = pool.held().get_mut(self.index as usize)
        {
            *place = None;
        }
    }
}

impl Slots {
    /// Slots for these profiles, so many each.
    pub fn new(profiles: impl Iterator<Item = (String, u32)>) -> Self {
        let pool = |count: u32| Pool {
            free: Arc::new(Semaphore::new(count as usize)),
            held: Mutex::new(vec![None; count as usize]),
        };
        Self {
            pools: profiles.map(|(name, count)| (name, Arc::new(pool(count)))).collect(),
            projects: Mutex::default(),
        }
    }

    /// The places of a project that may have `most` slots of a profile at once. They are forgotten when no job holds or awaits one.
    pub fn of_project(&self, profile: &str, project: &str, most: u32) -> Arc<Semaphore> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.retain(|_, places| places.strong_count() > 0);
        let key = (profile.to_owned(), project.to_owned());
        if let Some(places) = projects.get(&key).and_then(Weak::upgrade) {
            return places;
        }
        let places = Arc::new(Semaphore::new(most as usize));
        projects.insert(key, Arc::downgrade(&places));
        places
    }

    /// Takes a slot if one is free and nobody has waited longer.
    pub fn try_take(&self, profile: &str, lease: &LeaseId) -> Option<Slot> {
        let pool = self.pools.get(profile)?;
        let permit = Arc::clone(&pool.free).try_acquire_owned().ok()?;
        Some(Self::place(pool, permit, lease))
    }

    /// Waits for a slot.
    pub async fn take(&self, profile: &str, lease: &LeaseId) -> Option<Slot> {
        let pool = self.pools.get(profile)?;
        let permit = Arc::clone(&pool.free).acquire_owned().await.ok()?;
        Some(Self::place(pool, permit, lease))
    }

    fn place(pool: &Arc<Pool>, permit: OwnedSemaphorePermit, lease: &LeaseId) -> Slot {
        let mut held = pool.held();
        // There are as many permits as places; only adopted leases without a permit may sit in one too many.
        let index = held.iter().position(Option::is_none).unwrap_or_else(|| {
            held.push(None);
            held.len() - 1
        });
        held[index] = Some(lease.clone());
        Slot {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            pool: Some(Arc::clone(pool)),
            _project: None,
            _permit: Some(permit),
        }
    }

    /// Gives an adopted lease the slot that it had, even if the configuration no longer has that slot.
    pub fn adopt(&self, profile: &str, index: u32, lease: &LeaseId) -> Slot {
        let Some(pool) = self.pools.get(profile) else {
            return Slot { index, pool: None, _project: None, _permit: None };
        };
        let permit = Arc::clone(&pool.free).try_acquire_owned().ok();
        let mut held = pool.held();
        if let Some(place) = held.get_mut(index as usize) {
            *place = Some(lease.clone());
        }
        Slot { index, pool: Some(Arc::clone(pool)), _project: None, _permit: permit }
    }

    /// Who holds what: profile, index, lease.
    pub fn list(&self) -> Vec<(String, u32, Option<LeaseId>)> {
        let mut list = Vec::new();
        for (profile, pool) in &self.pools {
            for (index, lease) in (0..).zip(pool.held().iter()) {
                list.push((profile.clone(), index, lease.clone()));
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> LeaseId {
        LeaseId::parse(&digit.to_string().repeat(32)).expect("id")
    }

    fn slots() -> Slots {
        Slots::new([("default".to_owned(), 2)].into_iter())
    }

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let slots = slots();
        let first = slots.try_take("default", &id('a')).expect("free");
        let second = slots.try_take("default", &id('b')).expect("free");
        assert_eq!((first.index, second.index), (0, 1));
        assert!(slots.try_take("default", &id('c')).is_none());
        drop(first);
        assert_eq!(slots.try_take("default", &id('c')).expect("free").index, 0);
        assert!(slots.try_take("other", &id('c')).is_none(), "no such profile");
    }

    #[tokio::test]
    async fn who_waits_longest_comes_first() {
        let slots = Arc::new(slots());
        let held = [slots.try_take("default", &id('a')), slots.try_take("default", &id('b'))];
        let mut waiting = Box::pin(async { slots.take("default", &id('c')).await.expect("slot").index });
        assert!(futures_pending(&mut waiting).await, "none is free");
        drop(held);
        assert_eq!(waiting.await, 0);
    }

    async fn futures_pending(future: &mut (impl Future<Output = u32> + Unpin)) -> bool {
        tokio::select! { biased; _ = future => false, () = std::future::ready(()) => true }
    }

    #[test]
    fn an_adopted_lease_keeps_a_slot_that_is_no_more() {
        let slots = slots();
        let gone = slots.adopt("default", 5, &id('a'));
        assert_eq!(gone.index, 5);
        let taken = slots.try_take("default", &id('b'));
        assert!(taken.is_some() && slots.try_take("default", &id('c')).is_none(), "it counts as one of the two");
        drop(gone);
        let _ = slots.adopt("removed", 0, &id('d'));
    }
}
