//! A job's services: their network, their containers, their names.

use std::net::IpAddr;

use futures_util::future::join_all;

use super::plan::{Plan, PlannedService};
use super::record::{Record, Role, ServiceContainer};
use super::{Executor, Failure, Inputs, JobLog};
use crate::config::Network;
use crate::job::secrets::Secret;
use crate::job::services::{ServiceVariables, variables};
use crate::podman::{Image, JobNetwork, Place, ServiceSpec, UserMap};

/// The name of the job's own container in its network, as with the Docker executor.
const JOB_NAME: &str = "build";

/// A service that is about to be made.
#[derive(Debug)]
pub struct Intended<'a> {
    /// What was decided about it.
    pub planned: &'a PlannedService,
    /// Its image.
    pub image: &'a Image,
    container: String,
    plain: Vec<(String, String)>,
    /// Variables that podman is not to know.
    pub secrets: Vec<(String, Secret)>,
}

impl Intended<'_> {
    /// What people call it.
    pub fn name(&self) -> &str {
        self.planned.names.first().map_or(self.container.as_str(), String::as_str)
    }

    /// Program and arguments: the image's, or what the job has instead. As with Docker, an entrypoint of the job's own takes the
    /// image's CMD away too.
    fn line(&self) -> Vec<String> {
        let asked = &self.planned.asked;
        let own = !asked.entrypoint.is_empty();
        // `[""]` is the way to say "none".
        let entrypoint = if own { &asked.entrypoint } else { &self.image.entrypoint };
        let entrypoint = entrypoint.iter().filter(|word| !own || !word.is_empty());
        let command = if own || !asked.command.is_empty() { &asked.command } else { &self.image.command };
        entrypoint.chain(command).cloned().collect()
    }

    /// Its container's name.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// What the lease's record keeps of it.
    pub fn on_record(&self) -> ServiceContainer {
        ServiceContainer { name: self.container.clone(), alias: self.name().to_owned() }
    }
}

/// The services of a plan, with the names of all that podman will have of them.
pub fn intended<'a>(record: &Record, plan: &'a Plan, images: &'a [Image], inputs: &Inputs) -> Vec<Intended<'a>> {
    let all = plan.services.iter().zip(images).enumerate();
    all.map(|(index, (planned, image))| {
        let job = inputs.variables.iter().map(|(name, value)| (name.as_str(), value.expose()));
        let ServiceVariables { mut plain, secret } =
            variables(job, &inputs.secrets.variables, &planned.asked.variables);
        for (name, value) in &record.settings.environment {
            plain.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let secrets = secret.into_iter().map(|(name, value)| (name, Secret::new(value))).collect();
        Intended {
            planned,
            image,
            container: record.name_of(&format!("service{index}")),
            plain: plain.into_iter().collect(),
            secrets,
        }
    })
    .collect()
}

/// Where in the job's network each container is.
#[derive(Debug)]
pub struct Places<'a> {
    network: Option<&'a JobNetwork>,
    hosts: Vec<(String, IpAddr)>,
}

impl<'a> Places<'a> {
    /// Addresses and names for the services of a job. Without a network of its own they listen on the host's loopback.
    pub fn new(network: Option<&'a JobNetwork>, services: &[Intended<'_>]) -> Self {
        let mut hosts = Vec::new();
        for (number, service) in (0..).zip(services) {
            let addresses = match network {
                Some(network) => network.addresses(number_of_service(number)),
                None => vec![IpAddr::from([127, 0, 0, 1])],
            };
            for name in &service.planned.names {
                hosts.extend(addresses.iter().map(|address| (name.clone(), *address)));
            }
        }
        if let Some(network) = network {
            hosts.extend(
                network.addresses(number_of(Role::Job)).into_iter().map(|address| (JOB_NAME.to_owned(), address)),
            );
        }
        Self { network, hosts }
    }

    /// The place of a container that stages run in; none in a job without services.
    pub fn of_stages(&self, role: Role) -> Option<Place> {
        self.place(number_of(role))
    }

    fn of_service(&self, index: u8) -> Option<Place> {
        self.place(number_of_service(index))
    }

    fn place(&self, number: u8) -> Option<Place> {
        if self.hosts.is_empty() {
            return None;
        }
        let hosts = self.hosts.clone();
        Some(match self.network {
            Some(network) => Place { network: network.name.clone(), addresses: network.addresses(number), hosts },
            None => Place { network: "host".to_owned(), addresses: Vec::new(), hosts },
        })
    }

    /// Where the job reaches a service.
    pub fn address(&self, index: u8) -> IpAddr {
        let first = self.network.and_then(|network| network.addresses(number_of_service(index)).first().copied());
        first.unwrap_or(IpAddr::from([127, 0, 0, 1]))
    }
}

fn number_of(role: Role) -> u8 {
    match role {
        Role::Job => 0,
        Role::Helper => 1,
    }
}

/// A job has at most 64 of them, wherever they come from.
fn number_of_service(index: u8) -> u8 {
    index.saturating_add(2)
}

impl Executor {
    /// The network of a job that has services.
    pub(super) async fn make_network(&self, record: &Record) -> Result<Option<JobNetwork>, Failure> {
        let Some(name) = &record.network else { return Ok(None) };
        let settings = &record.settings.network;
        let labels = self.labels(record, "network");
        let made =
            self.podman.create_network(name, &labels, settings.mtu, settings.ipv6, settings.mode == Network::None);
        let made = made.await;
        made.map(Some)
            .map_err(|error| Failure::system(format!("the job's network could not be made: {}", error.message)))
    }

    /// Starts all services; an error is that of the first that could not be started.
    pub(super) async fn start_services(
        &self,
        record: &Record,
        services: &[Intended<'_>],
        places: &Places<'_>,
        user_map: UserMap,
        log: &JobLog,
    ) -> Result<(), Failure> {
        if services.is_empty() {
            return Ok(());
        }
        let resources = self.enforceable(&record.settings.services.resources, log);
        let started = join_all((0..).zip(services).map(|(index, service)| {
            let spec = ServiceSpec {
                name: service.container.clone(),
                labels: self.labels(record, "service"),
                image_id: service.image.id.clone(),
                hostname: service.name().chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
                line: service.line(),
                user: service.planned.asked.options.user.clone(),
                variables: service.plain.clone(),
                user_map,
                network: record.settings.network.clone(),
                place: places.of_service(index),
                resources: resources.clone(),
                isolation: record.settings.isolation.for_service(service.planned.privileged),
                log: self.service_log(record, &service.container),
            };
            let step = log.step(format!("making the container of service {}", service.name()));
            async move {
                let _step = step;
                self.start_service(service, spec).await
            }
        }))
        .await;
        started.into_iter().collect()
    }

    async fn start_service(&self, service: &Intended<'_>, spec: ServiceSpec) -> Result<(), Failure> {
        self.podman.run_service(&spec, &service.secrets).await.map_err(|error| {
            let image = &service.planned.image.reference;
            Failure::system(format!("service {} ({image}) could not be started: {}", service.name(), error.message))
        })
    }
}
