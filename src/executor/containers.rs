//! The containers that a job's stages run in: what podman is told of them, and a first word with their inits.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::pin::pin;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;

use super::record::{Container, Record, Role};
use super::{Executor, Failure, JobLog, Lease, init_client};
use crate::config::{ExecMode, Isolation, Resources, UserNamespace};
use crate::podman::{ContainerSpec, Labels, Limit, Mount, Place, UserMap};
use crate::protocol::init::{Reply, Request};

/// When the job log says what takes so long.
const SLOW: Duration = Duration::from_secs(3);

/// What is decided about a container beside its record.
#[derive(Debug)]
pub struct Making {
    /// Which it is.
    pub role: Role,
    /// Its image's id.
    pub image_id: String,
    /// Its limits.
    pub resources: Resources,
    /// What separates it from the host.
    pub isolation: Isolation,
    /// Its ids on the host.
    pub user_map: UserMap,
    /// Its place in a network of the job's own.
    pub place: Option<Place>,
    /// Directories and files of the host.
    pub mounts: Vec<Mount>,
}

/// User and group id of stages in a container, where they are known.
pub type Ids = Option<(u32, u32)>;

impl Executor {
    /// Makes and starts a container and hears from its init that stages can run.
    pub(super) async fn start_container(
        &self,
        lease: &Lease,
        record: &Record,
        making: Making,
        log: &JobLog,
    ) -> Result<Ids, Failure> {
        let role = making.role;
        let container = record.in_role(role).ok_or_else(|| Failure::system("a container is not on record"))?;
        let spec = ContainerSpec {
            name: container.name.clone(),
            labels: self.labels(record, role.word()),
            image_id: making.image_id,
            hostname: hostname(record),
            exec: record.settings.exec,
            user_map: making.user_map,
            network: record.settings.network.clone(),
            place: making.place,
            mounts: making.mounts,
            resources: making.resources,
            isolation: making.isolation,
        };
        let listener = (record.settings.exec == ExecMode::Init).then(|| listen(lease, role)).transpose()?;
        let _step = log.step(format!("making the container for image {}", container.image));
        let started = async {
            let mut started = pin!(self.podman.run_container(&spec, listener.as_ref()));
            tokio::select! {
                started = &mut started => return started,
                () = tokio::time::sleep(SLOW) => {}
            }
            let why = match spec.user_map {
                // 6 s for an image of 388 MB (podman 4.3.1).
                UserMap::NoMap => "; for its first container with user ids of its own podman copies an image, once",
                _ => "",
            };
            log.line(format!("Still making the container for image {}{why}", container.image));
            started.await
        }
        .await;
        started.map_err(|error| {
            Failure::system(format!(
                "the container for image {} could not be started: {}",
                container.image, error.message
            ))
        })?;
        drop(listener);
        self.probe(lease, record, role, container).await
    }

    /// Who a container of a lease belongs to.
    pub(super) fn labels(&self, record: &Record, role: &'static str) -> Labels {
        Labels {
            daemon: self.label(),
            lease: record.id.short().to_owned(),
            role,
            job: record.job.id,
            project: record.job.project_id,
        }
    }

    /// Limits without those that this host can't enforce; the job log says which.
    pub(super) fn enforceable(&self, wanted: &Resources, log: &JobLog) -> Resources {
        let mut limits = wanted.clone();
        for (limit, unset) in Limit::ALL {
            if limit.is_set(&limits)
                && let Err(reason) = self.limits.check(limit)
            {
                log.line(format!("Warning: {reason}"));
                unset(&mut limits);
            }
        }
        limits
    }

    pub(super) fn user_map(&self, lease: &Lease) -> Result<UserMap, Failure> {
        let UserNamespace::Separate { first, size, ranges: count } = self.settings().podman.user_namespace else {
            return Ok(UserMap::Host);
        };
        if !self.podman.rootful {
            return Ok(UserMap::NoMap);
        }
        let busy: BTreeSet<_> = self.all_leases().iter().map(|lease| lease.key()).collect();
        let (index, before) =
            self.ranges.lock().unwrap_or_else(PoisonError::into_inner).index(&lease.key(), count, &busy)?;
        if let Some(owner) = before {
            // Whoever gets a range must not find the files of whoever had it.
            self.discard_lanes_of(&owner)?;
        }
        Ok(UserMap::Range { first: first + index * size, size })
    }

    /// Asks the init whether stages can run: it knows the image's users and shells.
    async fn probe(&self, lease: &Lease, record: &Record, role: Role, container: &Container) -> Result<Ids, Failure> {
        let settings = &record.settings;
        if settings.exec == ExecMode::Podman {
            // Whether it has a shell its first stage finds out.
            let command = [crate::init::PATH, "identify", &container.user].map(str::to_owned);
            let known = self.podman.exec_command(&container.name, &command, settings.grace + settings.margin).await;
            let (code, text) = known.unwrap_or_default();
            let ids = text.trim().split_once(':').filter(|_| code == Some(0));
            return Ok(ids.and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?))));
        }
        let request = Request::Probe { user: container.user.clone(), entrypoint: container.entrypoint.clone() };
        match init_client::ask(&lease.init_socket(role), &request, settings.grace + settings.margin).await {
            Ok(Reply::Ready { ids }) => Ok(ids),
            Ok(Reply::Refused { message, .. }) => {
                let message = format!("image {} can't run a job: {}", container.image, printable(&message));
                // A helper's image is the administrator's.
                Err(if role == Role::Job { Failure::job(message) } else { Failure::system(message) })
            }
            Ok(_) => Err(Failure::system(format!("the init of container {} talks nonsense", container.name))),
            Err(error) => {
                let fate = self.podman.fate(&container.name).await;
                Err(Failure::system(format!(
                    "the container for image {} does not answer: {error:#}; {fate}",
                    container.image
                )))
            }
        }
    }
}

/// The hostname of a job's containers.
pub fn hostname(record: &Record) -> String {
    format!("windlass-job-{}", record.job.id)
}

/// The socket that the init inherits. The daemon itself calls listen(): SELinux lets a container accept on such a socket.
fn listen(lease: &Lease, role: Role) -> Result<OwnedFd, Failure> {
    let path = lease.init_socket(role);
    // An attempt before this one may have left its own.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
    Ok(listener.into())
}

/// Text from a container, fit for a log line.
pub fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
