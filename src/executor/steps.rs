//! What a job that is being prepared waits for now, for whoever looks; the job log says the same in lines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::protocol::daemon::StepStatus;

/// The steps that go on, each from its beginning to its end: images are pulled at once, services awaited at once.
#[derive(Debug, Clone, Default)]
pub struct Steps(Arc<Mutex<Going>>);

#[derive(Debug, Default)]
struct Going {
    begun: u64,
    going: BTreeMap<u64, (String, SystemTime)>,
}

/// A step; it ends when this is dropped, however that comes.
#[derive(Debug)]
pub struct Step {
    steps: Steps,
    number: u64,
}

impl Steps {
    fn lock(&self) -> MutexGuard<'_, Going> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one.
    pub fn begin(&self, what: impl Into<String>) -> Step {
        let mut going = self.lock();
        going.begun += 1;
        let number = going.begun;
        going.going.insert(number, (what.into(), SystemTime::now()));
        Step { steps: self.clone(), number }
    }

    /// Those that go on, the first begun first.
    pub fn list(&self) -> Vec<StepStatus> {
        let status = |(what, since): &(String, SystemTime)| StepStatus {
            what: what.clone(),
            since: humantime::format_rfc3339_seconds(*since).to_string(),
        };
        self.lock().going.values().map(status).collect()
    }
}

impl Step {
    /// It is another thing by now that is waited for, since the same time.
    pub fn say(&self, what: impl Into<String>) {
        if let Some((words, _)) = self.steps.lock().going.get_mut(&self.number) {
            *words = what.into();
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.steps.lock().going.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_goes_on_until_it_is_dropped() {
        let steps = Steps::default();
        let list = || steps.list().into_iter().map(|step| step.what).collect::<Vec<_>>();
        let one = steps.begin("one");
        let two = steps.begin("two");
        one.say("one again");
        assert_eq!(list(), ["one again", "two"]);
        drop(one);
        assert_eq!(list(), ["two"]);
        drop(two);
        assert!(list().is_empty());
    }
}
