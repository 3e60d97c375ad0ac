//! Whether what was restarted is good: the unit, the images, the healthchecks, and that it stays up. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::health::bound;
use super::units::{Container, HealthSpec, UnitName};

/// What has to run, by container name: the id of its image; none: whichever.
pub type Expected = BTreeMap<String, Option<String>>;

/// What systemd says of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UnitState {
    /// ActiveState.
    pub active: String,
    /// SubState.
    pub sub: String,
    /// Result: why it failed.
    pub result: String,
    /// How often systemd has restarted it by itself.
    pub restarts: u64,
}

impl UnitState {
    /// Whether systemd is about to start or stop it, or to try once more.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        matches!(self.active.as_str(), "activating" | "deactivating" | "reloading")
    }
}

/// What there is to see at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    /// The units that are watched.
    pub units: BTreeMap<UnitName, UnitState>,
    /// The containers that are expected, by name; those that are there.
    pub containers: BTreeMap<String, Container>,
}

/// How far a restarted unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// All of it runs.
    Up,
    /// Not yet.
    Coming,
    /// It will not.
    Failed(String),
}

/// Whether all containers are there, after `main` was restarted; `first` is what was seen first after that. How often systemd has tried
/// by itself counts from there: a unit that was about to be tried once more when it was restarted keeps its number.
#[must_use]
pub fn started(main: &UnitName, expected: &Expected, first: &Sight, sight: &Sight) -> Start {
    for (unit, state) in &sight.units {
        if first.units.get(unit).is_some_and(|first| state.restarts > first.restarts) {
            return Start::Failed(format!("{unit} has ended, and systemd has restarted it"));
        }
        match state.active.as_str() {
            "failed" => return Start::Failed(format!("{unit} failed ({})", state.result)),
            "inactive" if unit == main => return Start::Failed(format!("{unit} has ended ({})", state.result)),
            "active" => {}
            // A container of a pod has a unit that may not have begun yet, and what crashed is tried again.
            _ => return Start::Coming,
        }
    }
    let up = |name: &String| sight.containers.get(name).is_some_and(|container| container.running);
    if expected.keys().all(up) { Start::Up } else { Start::Coming }
}

/// The containers that still run another image than expected: their unit starts what is there instead of making it anew.
#[must_use]
pub fn unchanged(expected: &Expected, sight: &Sight) -> Vec<String> {
    let other = |(name, image): &(&String, &Option<String>)| {
        let runs = sight.containers.get(*name).map(|container| &container.image_id);
        image.as_ref().zip(runs).is_some_and(|(image, runs)| image != runs)
    };
    expected.iter().filter(other).map(|(name, _)| name.clone()).collect()
}

/// What has gone wrong since `before`: a unit or a container that does not run on as it did.
#[must_use]
pub fn fallen(before: &Sight, now: &Sight) -> Option<String> {
    for (unit, then) in &before.units {
        let Some(state) = now.units.get(unit) else { return Some(format!("{unit} is gone")) };
        if state.restarts > then.restarts {
            return Some(format!("{unit} has ended, and systemd has restarted it"));
        }
        if !matches!(state.active.as_str(), "active" | "reloading") {
            return Some(format!("{unit} is {} ({}): {}", state.active, state.sub, state.result));
        }
    }
    for (name, then) in &before.containers {
        match now.containers.get(name) {
            Some(container) if !container.running => return Some(format!("container {name} has ended")),
            Some(container) if container.id != then.id || container.started_at != then.started_at => {
                return Some(format!("container {name} was started again"));
            }
            Some(_) => {}
            None => return Some(format!("container {name} is gone")),
        }
    }
    None
}

/// What the healthchecks say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// All that there are say yes.
    Good,
    /// Some have not said.
    Unknown,
    /// One says no.
    Bad(String),
}

/// Judges the healthchecks, `waited` after the start.
#[must_use]
pub fn health(sight: &Sight, waited: Duration, most: Duration) -> Health {
    let mut answer = Health::Good;
    for (name, spec, status) in checked(sight) {
        match status {
            "healthy" => {}
            "unhealthy" => return Health::Bad(format!("container {name} is unhealthy")),
            _ => {
                let limit = bound(spec, most);
                if waited >= limit {
                    let limit = humantime::format_duration(limit);
                    return Health::Bad(format!("container {name} did not become healthy within {limit}"));
                }
                answer = Health::Unknown;
            }
        }
    }
    answer
}

fn checked(sight: &Sight) -> impl Iterator<Item = (&String, HealthSpec, &str)> {
    sight.containers.iter().filter_map(|(name, container)| {
        let status = container.health_state.as_ref().map_or("starting", |(status, _)| status.as_str());
        Some((name, container.health?, status))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> UnitName {
        UnitName::try_from("web.service".to_owned()).expect("a name")
    }

    fn container(image: &str, health: Option<&str>) -> Container {
        let second = Duration::from_secs(1);
        Container {
            id: "1".to_owned(),
            name: "web".to_owned(),
            image: "r.example.com/web:1".to_owned(),
            image_id: image.to_owned(),
            labels: BTreeMap::new(),
            pod: None,
            infra: false,
            running: true,
            started_at: "now".to_owned(),
            health: health.map(|_| HealthSpec { interval: second, timeout: second, start_period: second, retries: 2 }),
            health_state: health.map(|status| (status.to_owned(), String::new())),
            unit_of_image: None,
        }
    }

    fn sight(active: &str, container: Option<Container>) -> Sight {
        let state = UnitState { active: active.to_owned(), result: "exit-code".to_owned(), ..UnitState::default() };
        Sight {
            units: BTreeMap::from([(unit(), state)]),
            containers: container.into_iter().map(|container| (container.name.clone(), container)).collect(),
        }
    }

    fn expected() -> Expected {
        BTreeMap::from([("web".to_owned(), Some("new".to_owned()))])
    }

    #[test]
    fn a_unit_is_up_when_it_is_active_and_its_containers_run() {
        let judged = |sight: &Sight| started(&unit(), &expected(), sight, sight);
        let new = container("new", None);
        assert_eq!(judged(&sight("active", Some(new.clone()))), Start::Up);
        assert_eq!(judged(&sight("active", None)), Start::Coming);
        assert_eq!(judged(&sight("activating", Some(new.clone()))), Start::Coming);
        let ended = Container { running: false, ..new };
        assert_eq!(judged(&sight("active", Some(ended))), Start::Coming);
        let failed = judged(&sight("failed", None));
        assert_eq!(failed, Start::Failed("web.service failed (exit-code)".to_owned()));
        // That of a container in a pod may not have begun; that of the pod was begun, and is over.
        let over = sight("inactive", None);
        assert!(matches!(judged(&over), Start::Failed(_)));
        let pod = UnitName::try_from("pod.service".to_owned()).expect("a name");
        assert_eq!(started(&pod, &expected(), &over, &over), Start::Coming);
    }

    #[test]
    fn a_unit_that_systemd_has_to_try_again_has_failed_and_tries_from_before_do_not_count() {
        let tries = |restarts: u64| {
            let mut sight = sight("active", Some(container("new", None)));
            sight.units.values_mut().for_each(|state| state.restarts = restarts);
            sight
        };
        assert_eq!(started(&unit(), &expected(), &tries(1), &tries(1)), Start::Up);
        assert!(matches!(started(&unit(), &expected(), &tries(1), &tries(2)), Start::Failed(_)));
    }

    #[test]
    fn a_container_that_was_not_made_anew_is_noticed() {
        assert_eq!(unchanged(&expected(), &sight("active", Some(container("new", None)))), Vec::<String>::new());
        assert_eq!(unchanged(&expected(), &sight("active", Some(container("old", None)))), ["web"]);
        let whichever = BTreeMap::from([("web".to_owned(), None)]);
        assert_eq!(unchanged(&whichever, &sight("active", Some(container("old", None)))), Vec::<String>::new());
    }

    #[test]
    fn whatever_does_not_run_on_as_it_did_has_fallen() {
        let up = sight("active", Some(container("new", None)));
        assert_eq!(fallen(&up, &up), None);
        let says = |now: Sight| fallen(&up, &now).expect("fallen");
        assert!(says(sight("active", None)).contains("is gone"));
        let ended = Container { running: false, ..container("new", None) };
        assert!(says(sight("active", Some(ended))).contains("has ended"));
        let again = Container { id: "2".to_owned(), ..container("new", None) };
        assert!(says(sight("active", Some(again))).contains("started again"));
        let later = Container { started_at: "later".to_owned(), ..container("new", None) };
        assert!(says(sight("active", Some(later))).contains("started again"));
        assert!(says(sight("failed", Some(container("new", None)))).contains("is failed"));
        let mut restarted = up.clone();
        restarted.units.values_mut().for_each(|state| state.restarts = 1);
        assert!(says(restarted).contains("restarted it"));
    }

    #[test]
    fn a_healthcheck_has_to_say_yes_in_time() {
        let at = |status: &str, waited: u64| {
            let sight = sight("active", Some(container("new", Some(status))));
            health(&sight, Duration::from_secs(waited), Duration::from_secs(600))
        };
        assert_eq!(at("healthy", 0), Health::Good);
        assert_eq!(at("starting", 16), Health::Unknown);
        assert!(matches!(at("starting", 17), Health::Bad(_)));
        assert!(matches!(at("unhealthy", 0), Health::Bad(_)));
        let without = sight("active", Some(container("new", None)));
        assert_eq!(health(&without, Duration::ZERO, Duration::ZERO), Health::Good);
    }
}
