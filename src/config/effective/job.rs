//! The keys of `[job]` and `[[policy]]` that would give the same settings again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{field, place};
use crate::config::keys::{HelperKeys, JobKeys, LimitKeys, MaximumKeys, PolicyKeys, ServiceKeys};
use crate::config::settings::{
    ConfiguredService, HelperSettings, JobSettings, PolicyRule, PullPolicy, Resources, Settings,
};
use crate::config::texts::{Bounded, OneOrMore, Text};
use crate::config::values::{Number, Size, TimeSpan, Whole};
use crate::config::words::Word;

pub(super) fn keys(settings: &JobSettings) -> JobKeys {
    let (images, limits, isolation) = (&settings.images, &settings.resources, &settings.isolation);
    let (network, services) = (&settings.network, &settings.services);
    let own = settings.policy.last().cloned().unwrap_or_default();
    let own = rule(&own, &|_| true);
    JobKeys {
        user: text(settings.user.as_ref()),
        pull_attempts: Some(Bounded(images.pull_attempts)),
        auth_file: path(images.auth_file.as_ref()),
        access_ttl: Some(TimeSpan(images.access_ttl)),
        disable_entrypoint_overwrite: Some(images.disable_entrypoint_overwrite),
        memory_swap: limits.memory_swap.map(Size),
        cpuset: text(limits.cpuset.as_ref()),
        cpu_weight: limits.cpu_weight.map(Bounded),
        io_weight: limits.io_weight.map(Bounded),
        shm_size: limits.shm_size.map(Size),
        storage_size: limits.storage_size.map(Size),
        tmpfs: map(&limits.tmpfs),
        ulimits: map(&limits.ulimits),
        no_new_privileges: Some(isolation.no_new_privileges),
        read_only: Some(isolation.read_only),
        privileged: Some(isolation.privileged),
        services_privileged: Some(isolation.services_privileged),
        cap_add: list(&isolation.cap_add),
        cap_drop: list(&isolation.cap_drop),
        seccomp: text(isolation.seccomp.as_ref()),
        security_opt: list(&isolation.security_opt),
        devices: list(&isolation.devices),
        volumes: list(&isolation.volumes),
        sysctls: map(&isolation.sysctls),
        group_add: list(&isolation.group_add),
        runtime: text(isolation.runtime.as_ref()),
        build_storage: Some(Word(settings.builds.storage)),
        build_driver: Some(Word(settings.builds.driver)),
        network_mtu: network.mtu.map(Bounded),
        ipv6: Some(network.ipv6),
        dns: list(&network.dns),
        dns_search: list(&network.dns_search),
        extra_hosts: map(&network.extra_hosts),
        wait_for_services: Some(TimeSpan(services.wait)),
        services_required: Some(services.required),
        services_limit: services.limit.map(Bounded),
        environment: map(&settings.environment),
        ca_file: path(settings.ca_file.as_ref()),
        allowed_images: own.allowed_images,
        allowed_services: own.allowed_services,
        allowed_users: own.allowed_users,
        allowed_pull_policies: own.allowed_pull_policies,
        allowed_privileged_images: own.allowed_privileged_images,
        allowed_privileged_services: own.allowed_privileged_services,
        max_slots: own.max_slots,
        services: Some(services.always.iter().map(service).collect()),
        maximum: maximum(&settings.maximum),
        service: limits_of_services(&services.resources),
        helper: helper(&settings.helper),
        exec: field(Word(settings.exec)),
        grace: field(TimeSpan(settings.grace)),
        margin: field(TimeSpan(settings.margin)),
        timeout_margin: field(TimeSpan(settings.timeout_margin)),
        default_image: images.default_image.clone().map(place),
        pull_policy: field(OneOrMore(images.pull_policy.iter().copied().map(Word).collect())),
        memory: limits.memory.map(|bytes| place(Size(bytes))),
        cpus: limits.cpus.map(|cpus| place(Number(cpus))),
        pids: limits.pids.map(|pids| place(Whole(pids.into()))),
        network: field(Word(network.mode)),
    }
}

/// The rules in the file's order. A key that says what `[job]` says in every profile needs no saying.
pub(super) fn policy(settings: &Settings) -> Vec<PolicyKeys> {
    let profiles: Vec<&[PolicyRule]> =
        settings.profiles.values().map(|profile| profile.job.policy.as_slice()).collect();
    let Some((_, rules)) = profiles.first().and_then(|rules| rules.split_last()) else { return Vec::new() };
    let keys = rules.iter().enumerate().map(|(index, first)| {
        let differs = |same: fn(&PolicyRule, &PolicyRule) -> bool| {
            profiles.iter().any(|rules| match (rules.get(index), rules.last()) {
                (Some(rule), Some(own)) => !same(rule, own),
                _ => false,
            })
        };
        rule(first, &differs)
    });
    keys.collect()
}

/// A rule's keys, those that `says` (asked with what would make a key one that goes without saying).
fn rule(rule: &PolicyRule, says: &dyn Fn(fn(&PolicyRule, &PolicyRule) -> bool) -> bool) -> PolicyKeys {
    let words = |words: &Vec<PullPolicy>| words.iter().copied().map(Word).collect();
    PolicyKeys {
        projects: rule.projects.as_deref().map(|patterns| OneOrMore(patterns.iter().map(Text::of).collect())),
        allowed_images: rule
            .allowed_images
            .as_deref()
            .filter(|_| says(|a, b| a.allowed_images == b.allowed_images))
            .and_then(list),
        allowed_services: rule
            .allowed_services
            .as_deref()
            .filter(|_| says(|a, b| a.allowed_services == b.allowed_services))
            .and_then(list),
        allowed_users: rule
            .allowed_users
            .as_deref()
            .filter(|_| says(|a, b| a.allowed_users == b.allowed_users))
            .and_then(list),
        allowed_pull_policies: rule
            .allowed_pull_policies
            .as_ref()
            .filter(|_| says(|a, b| a.allowed_pull_policies == b.allowed_pull_policies))
            .map(words),
        allowed_privileged_images: says(|a, b| a.allowed_privileged_images == b.allowed_privileged_images)
            .then(|| list(&rule.allowed_privileged_images))
            .flatten(),
        allowed_privileged_services: says(|a, b| a.allowed_privileged_services == b.allowed_privileged_services)
            .then(|| list(&rule.allowed_privileged_services))
            .flatten(),
        max_slots: rule.max_slots.filter(|_| says(|a, b| a.max_slots == b.max_slots)).map(Bounded),
    }
}

fn service(service: &ConfiguredService) -> ServiceKeys {
    ServiceKeys {
        image: Text::of(&service.image),
        aliases: list(&service.aliases).unwrap_or_default(),
        entrypoint: list(&service.entrypoint).unwrap_or_default(),
        command: list(&service.command).unwrap_or_default(),
        environment: map(&service.environment).unwrap_or_default(),
    }
}

fn maximum(limits: &Resources) -> MaximumKeys {
    MaximumKeys {
        memory: limits.memory.map(Size),
        memory_swap: limits.memory_swap.map(Size),
        cpus: limits.cpus.map(Number),
        cpu_weight: limits.cpu_weight.map(Bounded),
        pids: limits.pids.map(Bounded),
        shm_size: limits.shm_size.map(Size),
    }
}

fn limits_of_services(limits: &Resources) -> LimitKeys {
    LimitKeys {
        memory: limits.memory.map(Size),
        memory_swap: limits.memory_swap.map(Size),
        cpus: limits.cpus.map(Number),
        cpuset: text(limits.cpuset.as_ref()),
        cpu_weight: limits.cpu_weight.map(Bounded),
        pids: limits.pids.map(Bounded),
        shm_size: limits.shm_size.map(Size),
        tmpfs: map(&limits.tmpfs),
        ulimits: map(&limits.ulimits),
    }
}

fn helper(settings: &HelperSettings) -> HelperKeys {
    HelperKeys {
        mode: Some(Word(settings.mode)),
        image: text(settings.image.as_ref()),
        archives: path(Some(&settings.archives)),
        flavor: text(Some(&settings.flavor)),
    }
}

fn text<F>(text: Option<&String>) -> Option<Text<F>> {
    text.map(Text::of)
}

/// A path that was read from a file is UTF-8.
fn path<F>(path: Option<&PathBuf>) -> Option<Text<F>> {
    path.map(|path| Text::of(path.display().to_string()))
}

/// An empty list is written too: a profile's replaces what it would have from `[job]`.
#[allow(clippy::unnecessary_wraps, reason = "what a key takes")]
fn list<F>(words: impl AsRef<[String]>) -> Option<Vec<Text<F>>> {
    Some(words.as_ref().iter().map(Text::of).collect())
}

#[allow(clippy::unnecessary_wraps, reason = "what a key takes")]
fn map<K, V>(pairs: &BTreeMap<String, String>) -> Option<BTreeMap<Text<K>, Text<V>>> {
    Some(pairs.iter().map(|(key, value)| (Text::of(key), Text::of(value))).collect())
}
