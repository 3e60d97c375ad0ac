//! The keys of `[job]` that were checked as they were read, as settings; and what they have to satisfy together.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::checks::Checker;
use crate::config::input::{JobInput, Origin};
use crate::config::keys::{HelperKeys, JobKeys, LimitKeys, MaximumKeys, PolicyKeys, ServiceKeys};
use crate::config::schema::join;
use crate::config::settings::{
    BuildDriver, BuildSettings, BuildStorage, ConfiguredService, HelperMode, HelperSettings, ImageSettings, Isolation,
    JobSettings, NetworkSettings, PolicyRule, PullPolicy, Resources, ServiceSettings,
};
use crate::config::texts::Text;
use crate::config::words::Word;

pub(super) fn images(keys: &JobKeys) -> ImageSettings {
    let default = ImageSettings::default();
    ImageSettings {
        pull_attempts: keys.pull_attempts.map_or(default.pull_attempts, |count| count.0),
        auth_file: keys.auth_file.as_ref().map(|path| path.0.clone().into()),
        access_ttl: keys.access_ttl.map_or(default.access_ttl, |span| span.0),
        disable_entrypoint_overwrite: keys.disable_entrypoint_overwrite.unwrap_or(false),
        ..default
    }
}

pub(super) fn resources(keys: &JobKeys) -> Resources {
    Resources {
        memory_swap: keys.memory_swap.map(|size| size.0),
        cpuset: text(keys.cpuset.as_ref()),
        cpu_weight: keys.cpu_weight.map(|weight| weight.0),
        io_weight: keys.io_weight.map(|weight| weight.0),
        shm_size: keys.shm_size.map(|size| size.0),
        storage_size: keys.storage_size.map(|size| size.0),
        tmpfs: map(keys.tmpfs.as_ref()),
        ulimits: map(keys.ulimits.as_ref()),
        ..Resources::default()
    }
}

pub(super) fn maximum(keys: &MaximumKeys) -> Resources {
    Resources {
        memory: keys.memory.map(|size| size.0),
        memory_swap: keys.memory_swap.map(|size| size.0),
        cpus: keys.cpus.map(|number| number.0),
        cpu_weight: keys.cpu_weight.map(|weight| weight.0),
        pids: keys.pids.map(|count| count.0),
        shm_size: keys.shm_size.map(|size| size.0),
        ..Resources::default()
    }
}

fn service_resources(keys: &LimitKeys) -> Resources {
    Resources {
        memory: keys.memory.map(|size| size.0),
        memory_swap: keys.memory_swap.map(|size| size.0),
        cpus: keys.cpus.map(|number| number.0),
        cpuset: text(keys.cpuset.as_ref()),
        cpu_weight: keys.cpu_weight.map(|weight| weight.0),
        pids: keys.pids.map(|count| count.0),
        shm_size: keys.shm_size.map(|size| size.0),
        tmpfs: map(keys.tmpfs.as_ref()),
        ulimits: map(keys.ulimits.as_ref()),
        ..Resources::default()
    }
}

pub(super) fn isolation(keys: &JobKeys) -> Isolation {
    Isolation {
        no_new_privileges: keys.no_new_privileges.unwrap_or(false),
        read_only: keys.read_only.unwrap_or(false),
        privileged: keys.privileged.unwrap_or(false),
        services_privileged: keys.services_privileged.unwrap_or(false),
        cap_add: list(keys.cap_add.as_ref()),
        cap_drop: list(keys.cap_drop.as_ref()),
        seccomp: text(keys.seccomp.as_ref()),
        security_opt: list(keys.security_opt.as_ref()),
        devices: list(keys.devices.as_ref()),
        volumes: list(keys.volumes.as_ref()),
        sysctls: map(keys.sysctls.as_ref()),
        group_add: list(keys.group_add.as_ref()),
        runtime: text(keys.runtime.as_ref()),
    }
}

pub(super) fn builds(keys: &JobKeys) -> BuildSettings {
    BuildSettings {
        storage: keys.build_storage.map(|word| word.0).unwrap_or_default(),
        driver: keys.build_driver.map(|word| word.0).unwrap_or_default(),
    }
}

pub(super) fn network(keys: &JobKeys) -> NetworkSettings {
    NetworkSettings {
        mtu: keys.network_mtu.map(|mtu| mtu.0),
        ipv6: keys.ipv6.unwrap_or(false),
        dns: list(keys.dns.as_ref()),
        dns_search: list(keys.dns_search.as_ref()),
        extra_hosts: map(keys.extra_hosts.as_ref()),
        ..NetworkSettings::default()
    }
}

pub(super) fn services(keys: &JobKeys) -> ServiceSettings {
    let default = ServiceSettings::default();
    ServiceSettings {
        always: keys.services.iter().flatten().map(service).collect(),
        limit: keys.services_limit.map(|count| count.0),
        wait: keys.wait_for_services.map_or(default.wait, |span| span.0),
        required: keys.services_required.unwrap_or(false),
        resources: service_resources(&keys.service),
    }
}

fn service(keys: &ServiceKeys) -> ConfiguredService {
    ConfiguredService {
        image: keys.image.0.clone(),
        aliases: list(Some(&keys.aliases)),
        entrypoint: list(Some(&keys.entrypoint)),
        command: list(Some(&keys.command)),
        environment: map(Some(&keys.environment)),
    }
}

pub(super) fn helper(keys: &HelperKeys) -> HelperSettings {
    let default = HelperSettings::default();
    HelperSettings {
        mode: keys.mode.map_or(default.mode, |word| word.0),
        image: text(keys.image.as_ref()),
        archives: keys.archives.as_ref().map_or(default.archives, |path| path.0.clone().into()),
        flavor: text(keys.flavor.as_ref()).unwrap_or(default.flavor),
    }
}

/// `[[policy]]` in its order, each filled up from `[job]`; then `[job]` itself, for every project.
pub(super) fn policy(keys: &JobKeys, rules: &[PolicyKeys]) -> Vec<PolicyRule> {
    let own = PolicyKeys {
        projects: None,
        allowed_images: keys.allowed_images.clone(),
        allowed_services: keys.allowed_services.clone(),
        allowed_users: keys.allowed_users.clone(),
        allowed_pull_policies: keys.allowed_pull_policies.clone(),
        allowed_privileged_images: keys.allowed_privileged_images.clone(),
        allowed_privileged_services: keys.allowed_privileged_services.clone(),
        max_slots: keys.max_slots,
    };
    let filled = rules.iter().zip(1..).map(|(keys, number)| {
        let mut keys = keys.clone();
        keys.inherit(&own);
        rule(format!("[[policy]] number {number}"), &keys)
    });
    filled.chain([rule("[job]".to_owned(), &own)]).collect()
}

fn rule(name: String, keys: &PolicyKeys) -> PolicyRule {
    let words = |words: &Vec<Word<PullPolicy>>| words.iter().map(|word| word.0).collect();
    PolicyRule {
        name,
        projects: keys.projects.as_ref().map(|patterns| list(Some(&patterns.0))),
        allowed_images: keys.allowed_images.as_ref().map(|patterns| list(Some(patterns))),
        allowed_services: keys.allowed_services.as_ref().map(|patterns| list(Some(patterns))),
        allowed_users: keys.allowed_users.as_ref().map(|users| list(Some(users))),
        allowed_pull_policies: keys.allowed_pull_policies.as_ref().map(words),
        allowed_privileged_images: list(keys.allowed_privileged_images.as_ref()),
        allowed_privileged_services: list(keys.allowed_privileged_services.as_ref()),
        max_slots: keys.max_slots.map(|count| count.0),
    }
}

/// What keys have to satisfy together.
pub(super) fn together(check: &mut Checker, given: &JobInput, settings: &JobSettings) {
    let at = |key: &str| Origin { key: join(&given.header.key, key), span: None };
    let (limits, most) = (&settings.resources, &settings.maximum);
    for (key, memory, swap) in [
        ("memory_swap", limits.memory, limits.memory_swap),
        ("service.memory_swap", settings.services.resources.memory, settings.services.resources.memory_swap),
    ] {
        match (memory, swap) {
            (None, Some(_)) => check.wrong(&at(key), "needs a limit of memory: it is memory and swap together"),
            (Some(memory), Some(swap)) if swap < memory => {
                check.wrong(&at(key), "must not be below the limit of memory: it is memory and swap together");
            }
            _ => {}
        }
    }
    let below = [
        ("memory", most.memory < limits.memory && most.memory.is_some()),
        ("memory_swap", most.memory_swap < limits.memory_swap && most.memory_swap.is_some()),
        ("cpus", most.cpus.is_some_and(|most| limits.cpus.is_some_and(|limit| most < limit))),
        ("cpu_weight", most.cpu_weight < limits.cpu_weight && most.cpu_weight.is_some()),
        ("pids", most.pids < limits.pids && most.pids.is_some()),
        ("shm_size", most.shm_size < limits.shm_size && most.shm_size.is_some()),
    ];
    for (key, _) in below.into_iter().filter(|(_, below)| *below) {
        check.wrong(&at(&join("maximum", key)), "must not be below the limit that it lets jobs raise");
    }
    if settings.helper.mode == HelperMode::Image && settings.helper.image.is_none() {
        check.wrong(&at("helper.image"), "is needed with mode = \"image\"");
    }
    let fuse = settings.isolation.devices.iter().any(|device| device.split(':').next() == Some("/dev/fuse"));
    if settings.builds.driver == BuildDriver::FuseOverlayfs && settings.builds.storage != BuildStorage::None && !fuse {
        check.wrong(&at("build_driver"), "needs the device: devices = [\"/dev/fuse\"]");
    }
    if settings.services.wait > Duration::from_secs(3600) {
        check.wrong(&at("wait_for_services"), "must be at most \"1h\"");
    }
}

pub(super) fn text<F>(given: Option<&Text<F>>) -> Option<String> {
    given.map(|text| text.0.clone())
}

pub(super) fn list<F>(given: Option<&Vec<Text<F>>>) -> Vec<String> {
    given.into_iter().flatten().map(|text| text.0.clone()).collect()
}

pub(super) fn map<K, V>(given: Option<&BTreeMap<Text<K>, Text<V>>>) -> BTreeMap<String, String> {
    given.into_iter().flatten().map(|(key, value)| (key.0.clone(), value.0.clone())).collect()
}
