//! Waiting until a job's services can be used: by the image's HEALTHCHECK, else by a connection from inside the job's network to
//! one of its ports, as the Docker executor does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Sender, channel};

use super::containers::printable;
use super::record::{Record, Role};
use super::services::{Intended, Places};
use super::steps::Step;
use super::{Executor, Failure, Inputs, JobLog, Lease};

/// Ports that are tried, the lowest first (`maxHealthCheckPorts` of GitLab Runner).
const PORTS_MAX: usize = 20;
/// The variable that names the port instead.
const PORT_VARIABLE: &str = "HEALTHCHECK_TCP_PORT";
/// Checks of health at once of one job.
const CHECKS_MAX: usize = 4;
/// Between two rounds, or two checks of health.
const PAUSE: Duration = Duration::from_millis(200);
/// How often services are looked at that may have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two rounds when they can't be made.
const PAUSE_IN_TROUBLE: Duration = Duration::from_secs(1);
/// Events that wait to be heard; whoever has more waits too.
const EVENTS_MAX: usize = 16;
/// How long one round of connections may take.
const ROUND_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a service's log that are shown when it is not ready.
const LINES: u32 = 20;

/// The state of a service that has not ended.
const RUNNING: &str = "running";

/// How a service's readiness is known.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    /// Its image says.
    Health,
    /// By a connection to one of these ports.
    Ports(Vec<u16>),
}

fn check_of(service: &Intended<'_>, inputs: &Inputs) -> Option<Check> {
    let own = service.planned.asked.variables.iter().rev().find(|(name, _)| name == PORT_VARIABLE);
    let port = own.map(|(_, value)| value.as_str()).or_else(|| inputs.variable(PORT_VARIABLE));
    if let Some(port) = port.and_then(|port| port.trim().parse().ok()) {
        return Some(Check::Ports(vec![port]));
    }
    if !service.image.healthcheck.is_empty() {
        return Some(Check::Health);
    }
    let ports: Vec<u16> = service.image.ports.iter().copied().take(PORTS_MAX).collect();
    (!ports.is_empty()).then_some(Check::Ports(ports))
}

/// What was seen of a service.
#[derive(Debug)]
enum Event {
    /// It is ready.
    Ready(u8),
    /// It has ended, in podman's words.
    Ended(u8, String),
    /// No connections can be tried, for this reason.
    Trouble(String),
    /// They can.
    NoTrouble,
}

/// What is to be awaited.
#[derive(Clone, Copy)]
struct Waiting<'a> {
    lease: &'a Lease,
    record: &'a Record,
    services: &'a [Intended<'a>],
    places: &'a Places<'a>,
    /// When the wait began, and how long it lasts.
    since: Instant,
    limit: Duration,
}

impl Waiting<'_> {
    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.since.elapsed())
    }
}

impl Executor {
    /// Waits until all services are ready, as long as the configuration says.
    ///
    /// # Errors
    /// When one is not and the configuration requires all.
    pub(super) async fn await_services(
        &self,
        lease: &Lease,
        record: &Record,
        services: &[Intended<'_>],
        places: &Places<'_>,
        inputs: &Inputs,
        log: &JobLog,
    ) -> Result<(), Failure> {
        let limit = record.settings.services.wait;
        if limit.is_zero() {
            return Ok(());
        }
        let checks: BTreeMap<u8, Check> =
            (0..).zip(services).filter_map(|(index, service)| Some((index, check_of(service, inputs)?))).collect();
        let name = |index: u8| services[usize::from(index)].name();
        let names: Vec<&str> = checks.keys().map(|index| name(*index)).collect();
        if !names.is_empty() {
            log.line(format!("Waiting for services to be ready: {}", names.join(", ")));
        }
        let waiting = Waiting { lease, record, services, places, since: Instant::now(), limit };
        let mut missing: BTreeMap<u8, String> = checks.keys().map(|index| (*index, RUNNING.to_owned())).collect();
        let step = |index: &u8| (*index, log.step(format!("waiting for service {} to be ready", name(*index))));
        let mut steps: BTreeMap<u8, Step> = checks.keys().map(step).collect();
        let (mut left, mut trouble, mut said) = (checks.len(), None, false);
        let (events, mut heard) = channel(EVENTS_MAX);
        let listen = async {
            while left > 0 {
                match heard.recv().await {
                    // What has ended is not ready, and what is ready does not count when it ends.
                    Some(Event::Ready(index) | Event::Ended(index, _))
                        if missing.get(&index).is_none_or(|words| words != RUNNING) => {}
                    Some(Event::Ready(index)) => {
                        steps.remove(&index);
                        missing.remove(&index);
                        left -= 1;
                        log.line(format!("Service {} is ready after {:.1?}", name(index), waiting.since.elapsed()));
                    }
                    Some(Event::Ended(index, words)) => {
                        steps.remove(&index);
                        missing.insert(index, words);
                        left -= 1;
                    }
                    Some(Event::Trouble(reason)) => {
                        if !std::mem::replace(&mut said, true) {
                            log.line(format!("Warning: whether services are ready can't be looked at: {reason}"));
                        }
                        trouble = Some(reason);
                    }
                    Some(Event::NoTrouble) => trouble = None,
                    None => break,
                }
            }
        };
        let watch = async {
            tokio::join!(
                self.watch_health(waiting, &checks, &events),
                self.watch_ports(waiting, &checks, &events),
                self.watch_ends(waiting, &checks, &events),
            )
        };
        tokio::select! {
            () = listen => {}
            _ = watch => {}
            () = tokio::time::sleep(limit) => {}
        }
        missing.extend(self.failed_unasked(services, &checks).await);
        for (index, words) in &missing {
            self.show_failed(&services[usize::from(*index)], words, waiting.since.elapsed(), log).await;
        }
        if missing.is_empty() || !record.settings.services.required {
            return Ok(());
        }
        let names: Vec<&str> = missing.keys().map(|index| name(*index)).collect();
        let names = names.join(", ");
        Err(match trouble {
            Some(reason) => {
                Failure::system(format!("services that the job needs can't be looked at: {names}: {reason}"))
            }
            None => Failure::job(format!(
                "services that the job needs are not ready: {names} (services_required in windlass.toml)"
            )),
        })
    }

    /// Those that there is nothing to ask of, neither a port nor a check of health, and that have failed already.
    async fn failed_unasked(&self, services: &[Intended<'_>], checks: &BTreeMap<u8, Check>) -> Vec<(u8, String)> {
        let unasked = |index: &u8| !checks.contains_key(index);
        let others: Vec<(u8, &str)> = (0..)
            .zip(services)
            .filter(|(index, _)| unasked(index))
            .map(|(index, other)| (index, other.container()))
            .collect();
        if others.is_empty() {
            return Vec::new();
        }
        let names: Vec<String> = others.iter().map(|(_, container)| (*container).to_owned()).collect();
        // A look that fails says nothing of them.
        let states = self.podman.states(&names).await.unwrap_or_default();
        let found = |name: &str| others.iter().find(|(_, container)| *container == name).map(|(index, _)| *index);
        states
            .into_iter()
            .filter(|state| state.failed)
            .filter_map(|state| Some((found(&state.name)?, state.words)))
            .collect()
    }

    /// Asks each service's own check of health until it says yes, however long another's hangs.
    async fn watch_health(&self, waiting: Waiting<'_>, checks: &BTreeMap<u8, Check>, events: &Sender<Event>) {
        let turns = &Semaphore::new(CHECKS_MAX);
        let indexes = checks.iter().filter(|(_, check)| **check == Check::Health).map(|(index, _)| *index);
        join_all(indexes.map(|index| async move {
            let Intended { image, secrets, .. } = &waiting.services[usize::from(index)];
            let container = waiting.services[usize::from(index)].container();
            loop {
                {
                    let _turn = turns.acquire().await;
                    let within = image.healthcheck_within.min(waiting.left());
                    if self.podman.is_healthy(container, &image.healthcheck, secrets, within).await {
                        let _ = events.send(Event::Ready(index)).await;
                        return;
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        }))
        .await;
    }

    /// Tries connections from inside the job's network until each service that has ports has taken one.
    async fn watch_ports(&self, waiting: Waiting<'_>, checks: &BTreeMap<u8, Check>, events: &Sender<Event>) {
        let mut targets: Vec<(u8, String)> = Vec::new();
        for (index, check) in checks {
            if let Check::Ports(ports) = check {
                let address = waiting.places.address(*index);
                let list: Vec<String> =
                    ports.iter().map(|port| std::net::SocketAddr::new(address, *port).to_string()).collect();
                targets.push((*index, list.join(",")));
            }
        }
        let role = if waiting.record.helper.is_some() { Role::Helper } else { Role::Job };
        let mut in_trouble = false;
        while !targets.is_empty() {
            let mut command = vec![crate::init::PATH.to_owned(), "connect".to_owned()];
            command.extend(targets.iter().map(|(_, target)| target.clone()));
            match self.run_inside(waiting.lease, waiting.record, role, command, ROUND_WITHIN).await {
                Ok((_, said)) => {
                    if std::mem::take(&mut in_trouble) {
                        let _ = events.send(Event::NoTrouble).await;
                    }
                    // The words of a container: nothing but numbers of what was asked for.
                    let numbers = said.lines().filter_map(|line| line.parse::<usize>().ok());
                    let ready: Vec<u8> = numbers.filter_map(|number| Some(targets.get(number)?.0)).collect();
                    for (index, _) in targets.extract_if(.., |(index, _)| ready.contains(index)) {
                        let _ = events.send(Event::Ready(index)).await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => {
                    in_trouble = true;
                    let _ = events.send(Event::Trouble(format!("{error:#}"))).await;
                    tokio::time::sleep(PAUSE_IN_TROUBLE).await;
                }
            }
        }
    }

    /// Looks for services that have ended.
    async fn watch_ends(&self, waiting: Waiting<'_>, checks: &BTreeMap<u8, Check>, events: &Sender<Event>) {
        let container = |index: &u8| waiting.services[usize::from(*index)].container();
        let names: Vec<String> = checks.keys().map(|index| container(index).to_owned()).collect();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // What can't be looked at now is looked at again.
            let states = self.podman.states(&names).await.unwrap_or_default();
            for state in states.into_iter().filter(|state| !state.running) {
                if let Some(index) = checks.keys().find(|index| container(index) == state.name) {
                    let _ = events.send(Event::Ended(*index, state.words)).await;
                }
            }
        }
    }

    async fn show_failed(&self, service: &Intended<'_>, words: &str, after: Duration, log: &JobLog) {
        let (name, image) = (service.name(), &service.planned.image.reference);
        log.line(format!(
            "Warning: service {name} ({image}) is not ready after {after:.1?}; it is {words}. Its last words:"
        ));
        let said = match self.podman.last_lines(service.container(), LINES).await {
            Ok(said) if said.trim().is_empty() => "(nothing)".to_owned(),
            Ok(said) => said,
            Err(error) => error.to_string(),
        };
        for line in said.lines() {
            log.line(format!("[service {name}] {}", printable(line)));
        }
    }
}
