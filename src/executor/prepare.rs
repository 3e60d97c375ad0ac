//! prepare: the image, the container, and a first word with its init.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use super::record::{Container, Record, State};
use super::{Executor, Failure, JobLog, Lease, init_client};
use crate::config::{ExecMode, JobSettings, PullPolicy, UserNamespace};
use crate::job::ImageRef;
use crate::podman::{ContainerSpec, Image, Labels, Limit, UserMap, explain_pull};
use crate::protocol::daemon::ProcessId;
use crate::protocol::init::{Reply, Request};

impl Executor {
    /// Makes a lease's container, so that stages can run in it. A caller that stops waiting stops a pull; a container that podman
    /// has begun to make is made, and goes with the lease.
    ///
    /// # Errors
    /// The job's failure when the image is not to be had or can't run stages; else the system's.
    pub async fn prepare(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        profile: Option<&str>,
        caller: ProcessId,
        log: &JobLog,
    ) -> Result<(), Failure> {
        let Some(record) = begin(lease, profile, caller)? else { return Ok(()) };
        let (executor, lease, log) = (Arc::clone(self), Arc::clone(lease), log.clone());
        let given_up = CancellationToken::new();
        let _guard = given_up.clone().drop_guard();
        let work = self.tasks.spawn(async move { executor.make(&lease, &record, &log, &given_up).await });
        work.await.map_err(|error| Failure::system(format!("internal error, please report it: {error}")))?
    }

    async fn make(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        record: &Record,
        log: &JobLog,
        given_up: &CancellationToken,
    ) -> Result<(), Failure> {
        let undo = Undo(lease);
        // Held until podman is done: the lease's end waits for it.
        let _gate = lease.gate.lock().await;
        let settings = &record.settings;
        let (reference, image) = tokio::select! {
            image = self.ready_image(record, log) => image?,
            () = given_up.cancelled() => return Err(Failure::system("nobody waits for this job any more")),
            () = lease.ended.cancelled() => return Err(Failure::system(lease.reason())),
        };
        let container = Container {
            name: record.container_name(),
            image: reference.to_string(),
            user: image.user.clone(),
            entrypoint: record.job.entrypoint(&image.entrypoint),
            environment: image.environment.clone(),
        };
        // On record before it exists: a daemon that dies in between finds it again by this name.
        let record = lease.update(|record| record.container = Some(container.clone()))?;
        let since = Instant::now();
        let spec = self.container_spec(lease, &record, &container.name, &image, log)?;
        let listener = (settings.exec == ExecMode::Init).then(|| listen(lease)).transpose()?;
        self.podman.run_container(&spec, listener.as_ref()).await.map_err(|error| {
            Failure::system(format!("the container for image {reference} could not be started: {}", error.message))
        })?;
        drop(listener);
        self.probe(lease, &container, settings).await?;
        log.line(format!("Container {} is ready after {:.1?}", container.name, since.elapsed()));
        lease.update(|record| record.state = State::Ready)?;
        std::mem::forget(undo);
        Ok(())
    }

    /// The image, pulled if the policy says so.
    async fn ready_image(&self, record: &Record, log: &JobLog) -> Result<(ImageRef, Image), Failure> {
        let name = record.job.image.as_ref().or(record.settings.images.default_image.as_ref()).ok_or_else(|| {
            Failure::job("the job names no image (`image:` in .gitlab-ci.yml), and the administrator has set no [job] default_image")
        })?;
        let reference = ImageRef::try_from(name.clone()).map_err(Failure::job)?;
        let policy = record.settings.images.pull_policy.first().copied().unwrap_or(PullPolicy::IfNotPresent);
        let known = |image: Option<Image>| image.map(|image| (reference.clone(), image));
        let lookup = || async {
            self.podman
                .image(&reference)
                .await
                .map_err(|error| Failure::system(format!("podman can't look image {reference} up: {}", error.message)))
        };
        if policy != PullPolicy::Always
            && let Some(found) = known(lookup().await?)
        {
            log.line(format!("Using image {reference} ({:.12}), present on this host", found.1.id));
            return Ok(found);
        }
        if policy == PullPolicy::Never {
            return Err(Failure::job(format!("image {reference} is not on this host, and its pull policy is never")));
        }
        log.line(format!("Pulling image {reference}"));
        let since = Instant::now();
        self.pulls.pull(&self.podman, &reference).await.map_err(|error| {
            let explained = explain_pull(&reference, &error);
            Failure { class: explained.class, message: explained.message }
        })?;
        let found = known(lookup().await?)
            .ok_or_else(|| Failure::system(format!("image {reference} was pulled, and is not there")))?;
        let digest = found.1.digest.as_deref().unwrap_or("no digest");
        log.line(format!("Pulled image {reference} ({:.12}, {digest}) in {:.1?}", found.1.id, since.elapsed()));
        Ok(found)
    }

    fn container_spec(
        &self,
        lease: &Lease,
        record: &Record,
        name: &str,
        image: &Image,
        log: &JobLog,
    ) -> Result<ContainerSpec, Failure> {
        let settings = &record.settings;
        Ok(ContainerSpec {
            name: name.to_owned(),
            labels: Labels {
                daemon: self.label(),
                lease: record.id.short().to_owned(),
                role: "job",
                job: record.job.id,
                project: record.job.project_id,
            },
            image_id: image.id.clone(),
            hostname: format!("windlass-job-{}", record.job.id),
            exec: settings.exec,
            user_map: self.user_map(lease)?,
            network: settings.network.mode,
            memory: self.enforceable(Limit::Memory, settings.resources.memory, log),
            cpus: self.enforceable(Limit::Cpus, settings.resources.cpus, log),
            pids: self.enforceable(Limit::Pids, settings.resources.pids, log),
        })
    }

    /// A limit if this host can enforce it; otherwise the job log says that it does not hold.
    fn enforceable<T>(&self, limit: Limit, value: Option<T>, log: &JobLog) -> Option<T> {
        let value = value?;
        match self.limits.check(limit) {
            Ok(()) => Some(value),
            Err(reason) => {
                log.line(format!("Warning: {reason}"));
                None
            }
        }
    }

    fn user_map(&self, lease: &Lease) -> Result<UserMap, Failure> {
        let UserNamespace::Separate { first, size, ranges: count } = self.settings.podman.user_namespace else {
            return Ok(UserMap::Host);
        };
        if !self.podman.rootful {
            return Ok(UserMap::NoMap);
        }
        let busy: BTreeSet<_> = self.all_leases().iter().map(|lease| lease.key()).collect();
        let index = self.ranges.lock().unwrap_or_else(PoisonError::into_inner).index(&lease.key(), count, &busy)?;
        Ok(UserMap::Range { first: first + index * size, size })
    }

    /// Asks the init whether stages can run: it knows the image's users and shells.
    async fn probe(&self, lease: &Lease, container: &Container, settings: &JobSettings) -> Result<(), Failure> {
        if settings.exec == ExecMode::Podman {
            // Its first stage finds out.
            return Ok(());
        }
        let request = Request::Probe { user: container.user.clone(), entrypoint: container.entrypoint.clone() };
        match init_client::ask(&lease.init_socket(), &request, settings.grace + settings.margin).await {
            Ok(Reply::Ready) => Ok(()),
            Ok(Reply::Refused { message, .. }) => {
                Err(Failure::job(format!("image {} can't run a job: {}", container.image, printable(&message))))
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

/// Moves a lease from leased to preparing; none when this caller has had it prepared already and only missed the answer.
fn begin(lease: &Lease, profile: Option<&str>, caller: ProcessId) -> Result<Option<Record>, Failure> {
    let record = lease.record();
    if let Some(profile) = profile
        && profile != record.profile
    {
        return Err(Failure::system(format!(
            "this lease is of profile {}, the runner's prepare_args say {profile:?}",
            record.profile
        )));
    }
    match record.state {
        State::Leased => {}
        State::Preparing => return Err(Failure::system(format!("lease {} is being prepared already", lease.id))),
        State::Ready if record.prepared_by == Some(caller) => return Ok(None),
        State::Ready => return Err(Failure::system(format!("lease {} is prepared already", lease.id))),
        State::Ending => return Err(Failure::system(format!("lease {} has ended: {}", lease.id, lease.reason()))),
    }
    let record = lease.update(|record| {
        record.state = State::Preparing;
        record.prepared_by = Some(caller);
        record.attempt += 1;
        record.container = None;
    })?;
    Ok(Some(record))
}

/// Makes a lease that could not be prepared one that can be prepared again; its container goes with its end.
struct Undo<'a>(&'a Lease);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // A lease that ends meanwhile needs no undoing.
        let _ = self.0.update(|record| record.state = State::Leased);
    }
}

/// The socket that the init inherits. The daemon itself calls listen(): SELinux lets a container accept on such a socket.
fn listen(lease: &Lease) -> Result<OwnedFd, Failure> {
    let path = lease.init_socket();
    // An attempt before this one may have left its own.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
    Ok(listener.into())
}

/// Text from a container, fit for a log line.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
