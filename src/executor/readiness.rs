//! Waiting until a job's services can be used: by the image's HEALTHCHECK, else by a connection from inside the job's network to
//! one of its ports, as the Docker executor does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::containers::printable;
use super::record::{Record, Role};
use super::services::{Intended, Places};
use super::{Executor, Failure, Inputs, JobLog, Lease};

/// Ports that are tried, the lowest first (`maxHealthCheckPorts` of GitLab Runner).
const PORTS_MAX: usize = 20;
/// The variable that names the port instead.
const PORT_VARIABLE: &str = "HEALTHCHECK_TCP_PORT";
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// How often services are looked at that may have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one round of connections may take.
const ROUND_WITHIN: Duration = Duration::from_secs(10);
/// Lines of a service's log that are shown when it is not ready.
const LINES: u32 = 20;

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
        let mut waiting: BTreeMap<u8, Check> =
            (0..).zip(services).filter_map(|(index, service)| Some((index, check_of(service, inputs)?))).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        let since = Instant::now();
        let mut looked = since;
        let mut ended: BTreeMap<u8, String> = BTreeMap::new();
        let names: Vec<&str> = waiting.keys().map(|index| services[usize::from(*index)].name()).collect();
        log.line(format!("Waiting for services to be ready: {}", names.join(", ")));
        while !waiting.is_empty() && since.elapsed() < limit {
            for index in self.ready_now(lease, record, services, places, &waiting).await? {
                waiting.remove(&index);
                let name = services[usize::from(index)].name();
                log.line(format!("Service {name} is ready after {:.1?}", since.elapsed()));
            }
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                for (index, words) in self.ended(services, &waiting).await {
                    waiting.remove(&index);
                    ended.insert(index, words);
                }
            }
            if !waiting.is_empty() {
                tokio::select! {
                    () = lease.ended.cancelled() => return Err(Failure::system(lease.reason())),
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        ended.extend(waiting.keys().map(|index| (*index, "running".to_owned())));
        let mut missing = Vec::new();
        for (index, words) in ended {
            let service = &services[usize::from(index)];
            missing.push(service.name().to_owned());
            self.show_failed(service, &words, since.elapsed(), log).await;
        }
        if !missing.is_empty() && record.settings.services.required {
            return Err(Failure::job(format!(
                "services that the job needs are not ready: {} (services_required in windlass.toml)",
                missing.join(", ")
            )));
        }
        Ok(())
    }

    /// Which of these are ready now.
    async fn ready_now(
        &self,
        lease: &Lease,
        record: &Record,
        services: &[Intended<'_>],
        places: &Places<'_>,
        waiting: &BTreeMap<u8, Check>,
    ) -> Result<Vec<u8>, Failure> {
        let mut ready = Vec::new();
        let mut targets = Vec::new();
        for (index, check) in waiting {
            match check {
                Check::Health => {
                    let service = &services[usize::from(*index)];
                    let check = &service.image.healthcheck;
                    if self.podman.is_healthy(service.container(), check, &service.secrets).await {
                        ready.push(*index);
                    }
                }
                Check::Ports(ports) => {
                    let address = places.address(*index);
                    let list: Vec<String> =
                        ports.iter().map(|port| std::net::SocketAddr::new(address, *port).to_string()).collect();
                    targets.push((*index, list.join(",")));
                }
            }
        }
        if !targets.is_empty() {
            let mut command = vec![crate::init::PATH.to_owned(), "connect".to_owned()];
            command.extend(targets.iter().map(|(_, target)| target.clone()));
            let role = if record.helper.is_some() { Role::Helper } else { Role::Job };
            let (_, said) = self.run_inside(lease, record, role, command, ROUND_WITHIN).await?;
            // The words of a container: nothing but numbers of what was asked for.
            let numbers = said.lines().filter_map(|line| line.parse::<usize>().ok());
            ready.extend(numbers.filter_map(|number| targets.get(number).map(|(index, _)| *index)));
        }
        Ok(ready)
    }

    /// Those that have ended, with podman's words.
    async fn ended(&self, services: &[Intended<'_>], waiting: &BTreeMap<u8, Check>) -> Vec<(u8, String)> {
        let names: Vec<String> =
            waiting.keys().map(|index| services[usize::from(*index)].container().to_owned()).collect();
        // What can't be looked at now is looked at again.
        let states = self.podman.states(&names).await.unwrap_or_default();
        let ended = states.into_iter().filter(|state| !state.running).filter_map(|state| {
            let index = waiting.keys().find(|index| services[usize::from(**index)].container() == state.name)?;
            Some((*index, state.words))
        });
        ended.collect()
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
