//! prepare: the images, the containers, and a first word with their inits.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::auth::Auth;
use super::builds::{self, Place};
use super::containers::Making;
use super::image_use::Reserved;
use super::past::Trouble;
use super::plan::{self, Plan};
use super::record::{Container, Record, Role, State};
use super::recording::job_image;
use super::services::{self, Intended};
use super::{Executor, Failure, Inputs, JobLog, Lease, helper, runner_program};
use crate::config::{Isolation, Network};
use crate::job::ImageRef;
use crate::podman::{Image, Mount};
use crate::protocol::daemon::ProcessId;
use crate::protocol::history::JobImage;

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
        inputs: Inputs,
        log: &JobLog,
    ) -> Result<(), Failure> {
        let Some(record) = begin(lease, profile, caller)? else { return Ok(()) };
        let (executor, lease, log) = (Arc::clone(self), Arc::clone(lease), log.with(&lease.steps));
        let given_up = CancellationToken::new();
        let _guard = given_up.clone().drop_guard();
        let work = self.tasks.spawn(async move { executor.make(&lease, &record, &inputs, &log, &given_up).await });
        work.await.map_err(|error| Failure::system(format!("internal error, please report it: {error}")))?
    }

    async fn make(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        record: &Record,
        inputs: &Inputs,
        log: &JobLog,
        given_up: &CancellationToken,
    ) -> Result<(), Failure> {
        // Held until podman is done: the lease's end waits for it.
        let _gate = lease.gate.lock().await;
        let since = Instant::now();
        let made = self.make_all(lease, record, inputs, log, given_up).await;
        let stopped = given_up.is_cancelled() || lease.ended.is_cancelled();
        self.metrics().prepared(&record.profile, made.is_ok(), since.elapsed());
        let noted = lease.note(|record| {
            record.past.prepare_ms = u64::try_from(since.elapsed().as_millis()).ok();
            let failure = made.as_ref().err().filter(|_| !stopped);
            record.past.not_prepared = failure.map(|failure| Trouble::new(failure.class, &failure.message));
            Some(())
        });
        if let Err(error) = noted {
            tracing::debug!("note a preparation: {error:#}");
        }
        made
    }

    async fn make_all(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        record: &Record,
        inputs: &Inputs,
        log: &JobLog,
        given_up: &CancellationToken,
    ) -> Result<(), Failure> {
        let undo = Undo(lease);
        let plan = plan::plan(record, inputs, log)?;
        self.make_room(log).await?;
        // The images are not removed before the record says that they are in use.
        let (images, _reserved) = tokio::select! {
            images = self.ready_images(lease, record, &plan, inputs, log) => images?,
            () = given_up.cancelled() => return Err(Failure::system("nobody waits for this job any more")),
            () = lease.ended.cancelled() => return Err(Failure::system(lease.reason())),
        };
        let since = Instant::now();
        let program = self.runner_program(inputs.runner_program.as_ref()).await?;
        let services = services::intended(record, &plan, &images.services, inputs);
        let user_map = self.user_map(lease)?;
        self.take_lane(lease, inputs, user_map, log).await?;
        self.place_builds(lease, log)?;
        // On record before it exists: a daemon that dies in between finds it again by these names.
        let record = lease.update(|record| {
            record.container = Some(job_container(record, &plan, &images.job));
            record.helper = images.helper.as_ref().map(|(reference, image)| helper_container(record, reference, image));
            for container in [&mut record.container, &mut record.helper].into_iter().flatten() {
                container.path = program.as_ref().map(|_| runner_program::DIRECTORY.to_owned());
            }
            record.images = images.ids();
            record.past.images = images.of_job(&plan);
            record.past.take_variables(inputs);
            record.services = services.iter().map(Intended::on_record).collect();
            record.network =
                (!services.is_empty() && record.settings.network.mode != Network::Host).then(|| record.name_of("net"));
            record.work_dir = record.shares_work_dir() || record.builds == Some(Place::Lease);
            for container in [&mut record.container, &mut record.helper].into_iter().flatten() {
                container.environment.extend(git_trust(&container.environment));
            }
            if let Some(container) = record.container.as_mut().filter(|_| record.builds.is_some()) {
                // The image's own settings are for a host that it does not run on.
                container.environment.extend(builds::variables());
            }
            record.file_variables = inputs.secrets.variables.files.iter().cloned().collect();
            record.debug_services = inputs.is_set("CI_DEBUG_SERVICES");
        })?;
        let (mut mounts, fits) = match &record.lane {
            Some(lane) => self.lane_mounts(lane, user_map, log).await?,
            None => (Vec::new(), None),
        };
        mounts.extend(match record.work_dir {
            true => self.make_work_dir(&record, user_map).await?,
            false => Vec::new(),
        });
        if let Some(directory) = program.as_ref().and_then(|program| program.parent()) {
            let source = directory.display().to_string();
            mounts.push(Mount { source, target: runner_program::DIRECTORY.to_owned(), read_only: true });
        }
        mounts.extend(self.certificate_mounts(&record)?);
        let for_builds = match record.builds {
            Some(place) => {
                let _step = log.step("making the storage for building images");
                self.make_build_storage(&record, place, user_map, log).await?
            }
            None => Vec::new(),
        };
        self.follow_services(lease, &record)?;
        let network = {
            let _step = record.network.is_some().then(|| log.step("making the network of its services"));
            self.make_network(&record).await?
        };
        let places = services::Places::new(network.as_ref(), &services);
        let making = |role: Role, image: &Image| Making {
            role,
            image_id: image.id.clone(),
            resources: self.enforceable(
                if role == Role::Job { &plan.resources } else { &record.settings.resources },
                &if role == Role::Job { log.clone() } else { JobLog::silent() },
            ),
            isolation: Isolation {
                privileged: role == Role::Job && plan.privileged,
                ..record.settings.isolation.clone()
            },
            user_map,
            place: places.of_stages(role),
            mounts: if role == Role::Job { [&mounts[..], &for_builds[..]].concat() } else { mounts.clone() },
        };
        let helper = async {
            match &images.helper {
                Some((_, image)) => {
                    self.start_container(lease, &record, making(Role::Helper, image), log).await.map(drop)
                }
                None => Ok(()),
            }
        };
        // All of them: what is given up in the making leaves parts behind that nobody finds.
        let (job, helper, services_started) = tokio::join!(
            self.start_container(lease, &record, making(Role::Job, &images.job), log),
            helper,
            self.start_services(&record, &services, &places, user_map, log),
        );
        let ids = job.and_then(|ids| helper.map(|()| ids)).and_then(|ids| services_started.map(|()| ids))?;
        let suits = log.step("seeing to it that its user may write in the build directory");
        self.suit_lane(lease, &record, user_map, ids, fits.as_deref(), log).await?;
        drop(suits);
        let looked_at = images.helper.as_ref().map_or(&images.job, |(_, image)| image);
        self.check_tools(lease, &record, &looked_at.id, program, inputs, log).await;
        let names = record.container_names().len();
        log.line(match names {
            1 => format!("Container {} is ready after {:.1?}", record.container_names().concat(), since.elapsed()),
            _ => format!("{names} containers are started after {:.1?}", since.elapsed()),
        });
        tokio::select! {
            ready = self.await_services(lease, &record, &services, &places, inputs, log) => ready?,
            () = given_up.cancelled() => return Err(Failure::system("nobody waits for this job any more")),
            () = lease.ended.cancelled() => return Err(Failure::system(lease.reason())),
        }
        lease.update(|record| record.state = State::Ready)?;
        std::mem::forget(undo);
        Ok(())
    }

    /// All images that a job needs, pulled at once.
    async fn ready_images(
        &self,
        lease: &Lease,
        record: &Record,
        plan: &Plan,
        inputs: &Inputs,
        log: &JobLog,
    ) -> Result<(Images, Reserved<'_>), Failure> {
        // An archive's image is there before its name is known.
        let removals = log.step("waiting until no image is being removed");
        let of_archives = self.image_gate.reserve(vec![helper::REPOSITORY.to_owned()]).await;
        drop(removals);
        let helper = self.helper_image(record, inputs, log).await?;
        let references: Vec<&ImageRef> = [&plan.image]
            .into_iter()
            .chain(&helper)
            .chain(plan.services.iter().map(|service| &service.image))
            .map(|wanted| &wanted.reference)
            .collect();
        let repositories = references.iter().map(|reference| reference.name().to_owned()).collect();
        let removals = log.step("waiting until none of its images is being removed");
        let reserved = self.image_gate.reserve(repositories).await;
        drop(removals);
        drop(of_archives);
        // Gone with this function, however it ends.
        let auth = Auth::write(lease, &record.settings.images, inputs, &references, log)?;
        let auth = &auth;
        let ready = |wanted| self.ready_image(wanted, auth, record, log);
        let services = async {
            let mut images = Vec::new();
            for service in &plan.services {
                images.push(ready(&service.image).await?);
            }
            Ok(images)
        };
        let helper = async {
            match &helper {
                Some(wanted) => Ok(Some((wanted.reference.clone(), ready(wanted).await?))),
                None => Ok(None),
            }
        };
        let (job, helper, services) = tokio::try_join!(ready(&plan.image), helper, services)?;
        Ok((Images { job, helper, services }, reserved))
    }
}

/// The images of a job.
struct Images {
    job: Image,
    helper: Option<(ImageRef, Image)>,
    services: Vec<Image>,
}

impl Images {
    /// As the history has them.
    fn of_job(&self, plan: &Plan) -> Vec<JobImage> {
        let helper = self.helper.iter().map(|(reference, image)| job_image(Role::Helper.word(), reference, image));
        let services = plan.services.iter().zip(&self.services);
        let services = services.map(|(planned, image)| job_image("service", &planned.image.reference, image));
        let job = job_image(Role::Job.word(), &plan.image.reference, &self.job);
        [job].into_iter().chain(helper).chain(services).collect()
    }

    fn ids(&self) -> Vec<String> {
        let helper = self.helper.as_ref().map(|(_, image)| image);
        [&self.job].into_iter().chain(helper).chain(&self.services).map(|image| image.id.clone()).collect()
    }
}

fn job_container(record: &Record, plan: &Plan, image: &Image) -> Container {
    let entrypoint = if record.settings.images.disable_entrypoint_overwrite {
        image.entrypoint.clone()
    } else {
        record.job.entrypoint(&image.entrypoint)
    };
    Container {
        name: record.name_of(Role::Job.word()),
        image: plan.image.reference.to_string(),
        user: plan.user.clone().unwrap_or_else(|| image.user.clone()),
        entrypoint,
        environment: image.environment.clone(),
        groups: record.settings.isolation.group_add.clone(),
        umask: None,
        path: None,
    }
}

/// git takes no orders from a repository that somebody else owns (safe.directory of git-config(1)). In a job's containers all that is there
/// is the job's, whoever of it made it: the helper clones as root, and the script may be somebody else.
fn git_trust(environment: &[(String, String)]) -> Vec<(String, String)> {
    if environment.iter().any(|(name, _)| name == "GIT_CONFIG_COUNT") {
        return Vec::new();
    }
    [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

/// The helper runs as root and makes files that every user of the job's image may write, as the Docker executor's does.
fn helper_container(record: &Record, reference: &ImageRef, image: &Image) -> Container {
    Container {
        name: record.name_of(Role::Helper.word()),
        image: reference.to_string(),
        user: "0:0".to_owned(),
        entrypoint: Vec::new(),
        environment: image.environment.clone(),
        groups: Vec::new(),
        umask: Some(0),
        path: None,
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
        record.forget_containers();
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
