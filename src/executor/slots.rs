//! Slots: numbered places for concurrent jobs, first come, first served. How many there are can change while jobs have some.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::LeaseId;
use super::places::{Place, Places};

/// The slots of all profiles.
#[derive(Debug, Default)]
pub struct Slots {
    pools: Mutex<BTreeMap<String, Arc<Pool>>>,
    /// The places of projects that may not have all slots, by profile and project.
    projects: Mutex<BTreeMap<(String, String), Weak<Places>>>,
    /// Told of every change.
    changed: Arc<Notify>,
}

#[derive(Debug)]
struct Pool {
    places: Arc<Places>,
    changed: Arc<Notify>,
    /// Who holds which. Longer than there are slots while leases have some that are no more.
    held: Mutex<Vec<Option<LeaseId>>>,
}

impl Pool {
    /// One without slots.
    fn new(changed: &Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { places: Places::new(0), changed: Arc::clone(changed), held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Vec<Option<LeaseId>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the list as long as it has to be.
    fn fit(&self, held: &mut Vec<Option<LeaseId>>) {
        let last = held.iter().rposition(Option::is_some).map_or(0, |index| index + 1);
        held.resize(last.max(self.places.count()), None);
    }
}

/// A slot that is held; free again when this is dropped.
#[derive(Debug)]
pub struct Slot {
    /// Its number within the profile.
    pub index: u32,
    pool: Arc<Pool>,
    _place: Place,
    /// Its project's own place, where a project may not have all slots.
    _project: Option<Place>,
}

impl Slot {
    /// Gives it the place of its project too.
    #[must_use]
    pub fn with_project(mut self, place: Option<Place>) -> Self {
        self._project = place;
        self
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before its place is free: who takes that finds the number free too.
        let mut held = self.pool.held();
        if let Some(place) = held.get_mut(self.index as usize) {
            *place = None;
        }
        self.pool.fit(&mut held);
        self.pool.changed.notify_one();
    }
}

/// Who holds a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The profile.
    pub profile: String,
    /// Its number within the profile.
    pub index: u32,
    /// The lease that holds it; none: it is free.
    pub lease: Option<LeaseId>,
    /// Whether it goes with its lease: there are fewer slots now.
    pub goes: bool,
}

impl Slots {
    /// None yet; every change is told to `changed`.
    #[must_use]
    pub fn new(changed: &Arc<Notify>) -> Self {
        Self { changed: Arc::clone(changed), ..Self::default() }
    }

    /// From now on these profiles have so many slots each. Leases keep what they have.
    pub fn resize(&self, profiles: impl Iterator<Item = (String, u32)>) {
        let wanted: BTreeMap<String, u32> = profiles.collect();
        let mut pools = self.pools();
        for (profile, pool) in pools.iter().filter(|(profile, _)| !wanted.contains_key(*profile)) {
            tracing::debug!(profile, "a profile is gone");
            pool.places.resize(0);
            pool.fit(&mut pool.held());
        }
        for (profile, count) in wanted {
            let pool = pools.entry(profile).or_insert_with(|| Pool::new(&self.changed));
            pool.places.resize(count as usize);
            pool.fit(&mut pool.held());
        }
        self.changed.notify_one();
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self, profile: &str) -> Option<Arc<Pool>> {
        self.pools().get(profile).map(Arc::clone)
    }

    /// The places of a project that may have `most` slots of a profile at once. They are forgotten when no job holds or awaits one.
    pub fn of_project(&self, profile: &str, project: &str, most: u32) -> Arc<Places> {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        projects.retain(|_, places| places.strong_count() > 0);
        let key = (profile.to_owned(), project.to_owned());
        if let Some(places) = projects.get(&key).and_then(Weak::upgrade) {
            places.resize(most as usize);
            return places;
        }
        let places = Places::new(most as usize);
        projects.insert(key, Arc::downgrade(&places));
        places
    }

    /// Takes a slot if one is free and nobody has waited longer.
    pub fn try_take(&self, profile: &str, lease: &LeaseId) -> Option<Slot> {
        let pool = self.pool(profile)?;
        let place = pool.places.try_take()?;
        Some(number(pool, place, lease))
    }

    /// Waits for a slot.
    pub async fn take(&self, profile: &str, lease: &LeaseId) -> Option<Slot> {
        let pool = self.pool(profile)?;
        let place = pool.places.take().await?;
        Some(number(pool, place, lease))
    }

    /// Gives an adopted lease the slot that it had, even if the configuration no longer has that slot.
    pub fn adopt(&self, profile: &str, index: u32, lease: &LeaseId) -> Slot {
        let pool = Arc::clone(self.pools().entry(profile.to_owned()).or_insert_with(|| Pool::new(&self.changed)));
        let place = pool.places.take_anyway();
        let mut held = pool.held();
        if held.len() <= index as usize {
            held.resize(index as usize + 1, None);
        }
        held[index as usize] = Some(lease.clone());
        drop(held);
        pool.changed.notify_one();
        Slot { index, pool, _place: place, _project: None }
    }

    /// All slots, and those that are no more and still held.
    pub fn list(&self) -> Vec<Held> {
        let mut list = Vec::new();
        for (profile, pool) in self.pools().iter() {
            let count = pool.places.count();
            for (index, lease) in pool.held().iter().enumerate() {
                let goes = index >= count;
                if lease.is_some() || !goes {
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    list.push(Held { profile: profile.clone(), index, lease: lease.clone(), goes });
                }
            }
        }
        list
    }
}

/// Gives the lowest free number to a lease that has a place.
fn number(pool: Arc<Pool>, place: Place, lease: &LeaseId) -> Slot {
    let mut held = pool.held();
    // There are as many places as numbers, unless adopted leases sit in some beyond.
    let index = held.iter().position(Option::is_none).unwrap_or(held.len());
    if index == held.len() {
        held.push(None);
    }
    held[index] = Some(lease.clone());
    drop(held);
    pool.changed.notify_one();
    Slot { index: u32::try_from(index).unwrap_or(u32::MAX), pool, _place: place, _project: None }
}

#[cfg(test)]
mod tests {
    use super::super::places::is_waiting;
    use super::*;

    fn id(digit: char) -> LeaseId {
        LeaseId::parse(&digit.to_string().repeat(32)).expect("id")
    }

    /// `default` with so many slots.
    fn slots(count: u32) -> Slots {
        let slots = Slots::default();
        slots.resize([("default".to_owned(), count)].into_iter());
        slots
    }

    /// `INDEX` of each free slot, `INDEX:HOLDER` of each other, with `!` if it goes.
    fn shown(slots: &Slots) -> String {
        let one = |held: Held| match held.lease {
            None => held.index.to_string(),
            Some(lease) => format!("{}:{}{}", held.index, &lease.secret()[..1], if held.goes { "!" } else { "" }),
        };
        slots.list().into_iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let slots = slots(2);
        let first = slots.try_take("default", &id('a')).expect("free");
        let second = slots.try_take("default", &id('b')).expect("free");
        assert_eq!((first.index, second.index), (0, 1));
        assert!(slots.try_take("default", &id('c')).is_none());
        drop(first);
        assert_eq!(slots.try_take("default", &id('c')).expect("free").index, 0);
        assert!(slots.try_take("other", &id('c')).is_none(), "no such profile");
    }

    #[tokio::test]
    async fn who_waits_gets_the_next_slot() {
        let slots = Arc::new(slots(2));
        let held = [slots.try_take("default", &id('a')), slots.try_take("default", &id('b'))];
        let lease = id('c');
        let mut waiting = Box::pin(slots.take("default", &lease));
        assert!(is_waiting(&mut waiting), "none is free");
        drop(held);
        assert_eq!(waiting.await.expect("slot").index, 0);
    }

    #[test]
    fn an_adopted_lease_keeps_a_slot_that_is_no_more() {
        let slots = slots(2);
        let gone = slots.adopt("default", 5, &id('a'));
        let taken = slots.try_take("default", &id('b'));
        assert!(taken.is_some() && slots.try_take("default", &id('c')).is_none(), "it counts as one of the two");
        assert_eq!(shown(&slots), "0:b 1 5:a!");
        drop(gone);
        assert_eq!(shown(&slots), "0:b 1");
        let removed = slots.adopt("removed", 0, &id('d'));
        assert_eq!(shown(&slots), "0:b 1 0:d!");
        assert!(slots.try_take("removed", &id('e')).is_none());
        drop(removed);
        assert_eq!(shown(&slots), "0:b 1");
    }

    #[test]
    fn adopted_leases_beyond_the_count_are_waited_for() {
        let slots = slots(1);
        let (first, second) = (slots.adopt("default", 0, &id('a')), slots.adopt("default", 1, &id('b')));
        drop(first);
        assert!(slots.try_take("default", &id('c')).is_none(), "there is one slot, and somebody has it");
        drop(second);
        assert_eq!(slots.try_take("default", &id('c')).expect("free").index, 0);
    }

    #[test]
    fn slots_come_and_go_while_leases_have_some() {
        let slots = slots(3);
        let mut held: Vec<Slot> =
            ['a', 'b', 'c'].map(|digit| slots.try_take("default", &id(digit)).expect("free")).into();
        slots.resize([("default".to_owned(), 1), ("more".to_owned(), 1)].into_iter());
        assert_eq!(shown(&slots), "0:a 1:b! 2:c! 0");
        drop(held.remove(1));
        assert!(slots.try_take("default", &id('d')).is_none());
        assert_eq!(shown(&slots), "0:a 2:c! 0");
        slots.resize([("default".to_owned(), 3)].into_iter());
        assert_eq!(shown(&slots), "0:a 1 2:c", "more is gone");
        assert_eq!(slots.try_take("default", &id('d')).expect("free").index, 1);
        held.clear();
        assert_eq!(shown(&slots), "0 1 2");
    }
}
