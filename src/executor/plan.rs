//! What a job gets, decided before anything is pulled or started: images, users, services, and whether the rules allow them.

use super::images::Wanted;
use super::record::Record;
use super::{Failure, Inputs, JobLog};
use crate::config::{ConfiguredService, PolicyRule, Resources};
use crate::job::{ImageOptions, ImageRef, Service, policy, resources, services};

/// All that a job gets.
#[derive(Debug)]
pub struct Plan {
    /// The job's image.
    pub image: Wanted,
    /// The user instead of the image's.
    pub user: Option<String>,
    /// Whether the job's container is privileged.
    pub privileged: bool,
    /// Limits of the job's container.
    pub resources: Resources,
    /// Its services.
    pub services: Vec<PlannedService>,
}

/// A service to be.
#[derive(Debug)]
pub struct PlannedService {
    /// Its image.
    pub image: Wanted,
    /// Its names in the job's network, the first of them for people too.
    pub names: Vec<String>,
    /// What the job, or the configuration, says of it.
    pub asked: Service,
    /// Whether it is privileged.
    pub privileged: bool,
}

/// Decides.
///
/// # Errors
/// The job's failure, naming the rule, when it asks for what it may not have.
pub fn plan(record: &Record, inputs: &Inputs, log: &JobLog) -> Result<Plan, Failure> {
    let settings = &record.settings;
    let rule = policy::rule_for(&settings.policy, &record.job.project_path).map_err(Failure::system)?;
    let own = record.job.image.as_ref();
    let name = own.or(settings.images.default_image.as_ref()).ok_or_else(|| {
        Failure::job(
            "the job names no image (`image:` in .gitlab-ci.yml), and the administrator has set no [job] default_image",
        )
    })?;
    let reference = ImageRef::try_from(name.clone()).map_err(Failure::job)?;
    if own.is_some() && !is_same(settings.images.default_image.as_ref(), &reference) {
        policy::check_image(rule, &reference).map_err(Failure::job)?;
    }
    let options = filled_in(&record.job.options, inputs);
    let variables = |name: &str| inputs.variable(name);
    let (resources, remarks) =
        resources::wanted(&settings.resources, &settings.maximum, variables).map_err(Failure::job)?;
    remarks.into_iter().for_each(|line| log.line(line));
    Ok(Plan {
        privileged: settings.isolation.privileged && policy::may_be_privileged(rule, &reference),
        image: wanted(rule, reference, &options, record)?,
        user: user(options.user, settings.user.clone(), rule, log),
        resources,
        services: planned_services(record, rule, inputs, log)?,
    })
}

/// An image's user and platform with the job's variables in them (`ImageDockerOptions.Expand` of GitLab Runner).
fn filled_in(options: &ImageOptions, inputs: &Inputs) -> ImageOptions {
    let filled = |text: &Option<String>| {
        let text = services::expand(text.as_deref()?, |name| inputs.variable(name));
        (!text.is_empty()).then_some(text)
    };
    ImageOptions { user: filled(&options.user), platform: filled(&options.platform), ..options.clone() }
}

/// Who the job runs as: the administrator's choice before the job's, as with the Docker executor, unless a list says whom jobs may choose.
fn user(own: Option<String>, configured: Option<String>, rule: &PolicyRule, log: &JobLog) -> Option<String> {
    match (own, configured) {
        (Some(own), Some(configured)) if rule.allowed_users.is_none() => {
            if own != configured {
                log.line(format!(
                    "Warning: the job asks for user {own}, and runs as {configured}: the administrator has set a user, and no allowed_users"
                ));
            }
            Some(configured)
        }
        (own, configured) => own.or(configured),
    }
}

/// Whether the administrator's own image is the one that was judged.
fn is_same(configured: Option<&String>, judged: &ImageRef) -> bool {
    configured.is_some_and(|name| ImageRef::try_from(name.clone()).is_ok_and(|image| image.as_str() == judged.as_str()))
}

fn wanted(rule: &PolicyRule, reference: ImageRef, options: &ImageOptions, record: &Record) -> Result<Wanted, Failure> {
    if let Some(user) = &options.user {
        policy::check_user(rule, user).map_err(Failure::job)?;
    }
    if let Some(platform) = &options.platform {
        policy::check_platform(platform).map_err(Failure::job)?;
    }
    let configured = &record.settings.images.pull_policy;
    let policies = policy::pull_policies(rule, &options.pull_policy, configured)
        .map_err(|reason| Failure::job(format!("image {reference}: {reason}")))?;
    Ok(Wanted { reference, policies, platform: options.platform.clone() })
}

fn planned_services(
    record: &Record,
    rule: &PolicyRule,
    inputs: &Inputs,
    log: &JobLog,
) -> Result<Vec<PlannedService>, Failure> {
    let settings = &record.settings.services;
    let always = settings.always.iter().map(|service| (as_asked(service), true));
    let asked = record.job.services.iter().enumerate().map(|(number, service)| {
        let variables = inputs.service_variables(number, &service.image);
        (Service { variables, options: filled_in(&service.options, inputs), ..service.clone() }, false)
    });
    let all: Vec<(Service, bool)> = always.chain(asked).collect();
    if let Some(limit) = settings.limit
        && all.len() > limit as usize
    {
        return Err(Failure::job(format!(
            "the job has {} services, at most {limit} are allowed (services_limit in windlass.toml)",
            all.len()
        )));
    }
    let mut taken: Vec<String> = Vec::new();
    let mut planned = Vec::new();
    for (asked, configured) in all {
        let reference = ImageRef::try_from(asked.image.clone())
            .map_err(|reason| Failure::job(format!("a service of the job: {reason}")))?;
        if !configured && !settings.always.iter().any(|own| is_same(Some(&own.image), &reference)) {
            policy::check_service(rule, &reference).map_err(Failure::job)?;
        }
        let mut names = Vec::new();
        let aliases = asked.aliases.iter().cloned().map(|name| (name, true));
        for (name, asked_for) in aliases.chain(services::names_of(&asked.image).into_iter().map(|name| (name, false))) {
            if !services::is_host_name(&name) {
                log.line(format!("Warning: service {reference} can't be called {name:?}, which is no host name"));
            } else if !taken.contains(&name) {
                taken.push(name.clone());
                names.push(name);
            } else if !names.contains(&name) && (asked_for || names.is_empty()) {
                log.line(format!("Warning: service {reference} is not called {name}: another service is already"));
            }
        }
        let privileged =
            record.settings.isolation.services_privileged && policy::service_may_be_privileged(rule, &reference);
        if !privileged && is_docker_in_docker(&reference) {
            log.line(format!(
                "Warning: service {reference} needs the host's privileges, which it does not get: build images with buildah in the job instead, or let the administrator set services_privileged and allowed_privileged_services"
            ));
        }
        planned.push(PlannedService {
            image: wanted(rule, reference, &asked.options, record)?,
            names,
            asked,
            privileged,
        });
    }
    Ok(planned)
}

fn as_asked(service: &ConfiguredService) -> Service {
    Service {
        image: service.image.clone(),
        aliases: service.aliases.clone(),
        entrypoint: service.entrypoint.clone(),
        command: service.command.clone(),
        variables: service.environment.clone().into_iter().collect(),
        options: ImageOptions::default(),
    }
}

/// `docker:dind`, `docker:27-dind`, also from a mirror.
fn is_docker_in_docker(image: &ImageRef) -> bool {
    let whole = image.as_str();
    image.name().rsplit('/').next() == Some("docker") && whole[image.name().len()..].contains("dind")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_in_docker_is_known_by_its_name_and_tag() {
        let is = |name: &str| is_docker_in_docker(&ImageRef::try_from(name.to_owned()).expect(name));
        assert!(is("docker:dind") && is("docker:27.3-dind-rootless") && is("r.example.com/mirror/docker:dind"));
        assert!(!is("docker:27") && !is("mydocker:dind") && !is("docker"));
    }
}
