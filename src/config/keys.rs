//! The keys whose values are checked as they are read. Of `[job]`, a profile has what it leaves out from the top level, key by key;
//! a list or table replaces the whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fragment::Field;
use super::hours::{Hours, Moment};
use super::settings::{BuildDriver, BuildStorage, ExecMode, HelperMode, LaneScope, Network, PullPolicy};
use super::shares::{FreeBytes, FreeInodes};
use super::texts::{
    Address, Any, Argument, BasePath, Bounded, Capability, Cpuset, Device, Directory, File, FilePattern, Flavor, Group,
    GroupName, HelperImage, HostDirectory, HostName, Image, JobName, Listen, OneOrMore, PageListen, Pattern,
    PlatformName, ProjectPath, Reference, Runtime, Seccomp, SecurityOption, Sysctl, Text, Ulimit, UlimitName, User,
    Variable, Volume, WebAddress,
};
use super::values::{Number, Size, TimeSpan, Whole};
use super::words::Word;

/// A struct of optional keys that can be filled up from another. `placed` ones know their place in the file, and merging takes care of
/// them.
macro_rules! keys {
    (
        $(#[$doc:meta])* $name:ident { $($key:ident: $type:ty),* $(,)? }
        $(tables { $($table:ident: $inner:ty),* $(,)? })?
        $(placed { $($placed:ident: $placed_type:ty),* $(,)? })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name {
            $(#[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<$type>,)*
            $($(#[serde(skip_serializing_if = "Option::is_none")] pub $placed: Field<$placed_type>,)*)?
            $($(pub $table: $inner,)*)?
        }

        impl $name {
            /// Takes from `base` what is missing.
            #[allow(dead_code, reason = "some tables are no profile's")]
            pub(super) fn inherit(&mut self, base: &Self) {
                $(if self.$key.is_none() { self.$key.clone_from(&base.$key); })*
                $($(self.$table.inherit(&base.$table);)*)?
            }
        }
    };
}

/// A weight of CPU time on cgroup v2.
pub(super) type CpuWeight = Bounded<1, 10_000>;
/// A weight of disk time as podman takes it.
pub(super) type IoWeight = Bounded<10, 1000>;
/// Processes: the init, a shell and its commands need some; the kernel's own limit is PID_MAX_LIMIT.
pub(super) type Pids = Bounded<16, 4_194_304>;
/// Bytes of a packet.
pub(super) type Mtu = Bounded<576, 65_535>;
/// Times that something is tried.
pub(super) type Attempts = Bounded<1, 10>;
/// A number of services or slots.
pub(super) type Count = Bounded<0, 64>;
pub(super) type Slots = Bounded<1, 1024>;

type Map<K, V> = BTreeMap<Text<K>, Text<V>>;
type List<F> = Vec<Text<F>>;

keys! {
    /// Keys of `[job]` and `[profile.NAME.job]`.
    JobKeys {
        user: Text<User>,
        pull_attempts: Attempts,
        auth_file: Text<HostDirectory>,
        access_ttl: TimeSpan,
        disable_entrypoint_overwrite: bool,
        memory_swap: Size,
        cpuset: Text<Cpuset>,
        cpu_weight: CpuWeight,
        io_weight: IoWeight,
        shm_size: Size,
        storage_size: Size,
        tmpfs: Map<Directory, Any>,
        ulimits: Map<UlimitName, Ulimit>,
        no_new_privileges: bool,
        read_only: bool,
        privileged: bool,
        services_privileged: bool,
        cap_add: List<Capability>,
        cap_drop: List<Capability>,
        seccomp: Text<Seccomp>,
        security_opt: List<SecurityOption>,
        devices: List<Device>,
        volumes: List<Volume>,
        sysctls: Map<Sysctl, Any>,
        group_add: List<Group>,
        runtime: Text<Runtime>,
        build_storage: Word<BuildStorage>,
        build_driver: Word<BuildDriver>,
        network_mtu: Mtu,
        ipv6: bool,
        dns: List<Address>,
        dns_search: List<HostName>,
        extra_hosts: Map<HostName, Address>,
        wait_for_services: TimeSpan,
        services_required: bool,
        services_limit: Count,
        environment: Map<Variable, Any>,
        ca_file: Text<File>,
        allowed_images: List<Pattern>,
        allowed_services: List<Pattern>,
        allowed_users: List<User>,
        allowed_pull_policies: Vec<Word<PullPolicy>>,
        allowed_privileged_images: List<Pattern>,
        allowed_privileged_services: List<Pattern>,
        max_slots: Slots,
        services: Vec<ServiceKeys>,
    }
    tables {
        maximum: MaximumKeys,
        service: LimitKeys,
        helper: HelperKeys,
    }
    placed {
        exec: Word<ExecMode>,
        grace: TimeSpan,
        margin: TimeSpan,
        timeout_margin: TimeSpan,
        default_image: String,
        pull_policy: OneOrMore<Word<PullPolicy>>,
        memory: Size,
        cpus: Number,
        pids: Whole,
        network: Word<Network>,
    }
}

keys! {
    /// Keys of `[lanes]`.
    LaneKeys {
        scope: Word<LaneScope>,
    }
}

keys! {
    /// Keys of `[purge]`.
    PurgeKeys {
        interval: TimeSpan,
        max_age: TimeSpan,
        max_size: Size,
        project_max_size: Size,
        min_free: FreeBytes,
        min_free_inodes: FreeInodes,
        image_max_age: TimeSpan,
        pinned_images: List<Pattern>,
    }
}

keys! {
    /// Keys of `[hold]`.
    HoldKeys {
        max_time: TimeSpan,
        max_held: Count,
    }
}

keys! {
    /// Keys of `[job.maximum]`.
    MaximumKeys {
        memory: Size,
        memory_swap: Size,
        cpus: Number,
        cpu_weight: CpuWeight,
        pids: Pids,
        shm_size: Size,
    }
}

keys! {
    /// Keys of `[job.service]`.
    LimitKeys {
        memory: Size,
        memory_swap: Size,
        cpus: Number,
        cpuset: Text<Cpuset>,
        cpu_weight: CpuWeight,
        pids: Pids,
        shm_size: Size,
        tmpfs: Map<Directory, Any>,
        ulimits: Map<UlimitName, Ulimit>,
    }
}

keys! {
    /// Keys of `[job.helper]`.
    HelperKeys {
        mode: Word<HelperMode>,
        image: Text<HelperImage>,
        archives: Text<HostDirectory>,
        flavor: Text<Flavor>,
    }
}

/// Keys of each `[[job.services]]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceKeys {
    pub image: Text<Image>,
    #[serde(default)]
    pub aliases: List<HostName>,
    #[serde(default)]
    pub entrypoint: List<Any>,
    #[serde(default)]
    pub command: List<Any>,
    #[serde(default)]
    pub environment: Map<Variable, Any>,
}

keys! {
    /// Keys of each `[[policy]]`.
    PolicyKeys {
        projects: OneOrMore<Text<Pattern>>,
        allowed_images: List<Pattern>,
        allowed_services: List<Pattern>,
        allowed_users: List<User>,
        allowed_pull_policies: Vec<Word<PullPolicy>>,
        allowed_privileged_images: List<Pattern>,
        allowed_privileged_services: List<Pattern>,
        max_slots: Slots,
    }
}

/// A struct of optional keys of a table that no profile has.
macro_rules! table {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $key:ident: $type:ty),* $(,)? } $(tables { $($(#[$table_attribute:meta])* $table:ident: $inner:ty),* $(,)? })?) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Deserialize, Serialize)]
        #[serde(default, deny_unknown_fields)]
        pub(super) struct $name {
            $($(#[$attribute])* #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<$type>,)*
            $($($(#[$table_attribute])* pub $table: $inner,)*)?
        }
    };
}

table! {
    /// Keys of `[gitlab]`.
    GitlabKeys {
        url: Text<WebAddress>,
        ca_file: Text<File>,
        proxy: Text<WebAddress>,
        token_file: Text<HostDirectory>,
        verify_jobs: bool,
    }
}

/// Pipelines at once.
pub(super) type Running = Bounded<1, 1000>;

table! {
    /// Keys of `[chain]`.
    ChainKeys {
        groups: List<ProjectPath>,
        projects: List<ProjectPath>,
        include: List<Pattern>,
        exclude: List<Pattern>,
        files: List<FilePattern>,
        interval: TimeSpan,
        settle: TimeSpan,
        max_running: Running,
        quiet_hours: Hours,
        kickoff: Vec<Moment>,
        done_when: Text<JobName>,
        dry_run: bool,
        history: TimeSpan,
    }
    tables {
        args: Map<Argument, Any>,
        notify: NotifyKeys,
        watch: WatchKeys,
        audit: AuditKeys,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        project: Vec<ChainProjectKeys>,
    }
}

table! {
    /// Keys of `[chain.notify]`.
    NotifyKeys {
        command: List<Any>,
        after: TimeSpan,
    }
}

/// Requests at once to one registry.
pub(super) type AtOnce = Bounded<1, 32>;

table! {
    /// Keys of `[chain.watch]`.
    WatchKeys {
        enabled: bool,
        every: TimeSpan,
        rebuild: bool,
        include: List<Pattern>,
        exclude: List<Pattern>,
        auth_file: Text<HostDirectory>,
        platform: Text<PlatformName>,
        concurrency: AtOnce,
    }
}

table! {
    /// Keys of `[chain.audit]`.
    AuditKeys {
        max_age: TimeSpan,
    }
}

/// Keys of each `[[chain.project]]`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChainProjectKeys {
    pub path: Text<ProjectPath>,
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<Text<Reference>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_when: Option<Text<JobName>>,
}

/// Jobs on record.
pub(super) type Rows = Bounded<1, 10_000_000>;

table! {
    /// Keys of `[history]`.
    HistoryKeys {
        keep: TimeSpan,
        max_jobs: Rows,
    }
}

table! {
    /// Keys of `[metrics]`.
    MetricsKeys {
        listen: Text<Listen>,
        allow_remote: bool,
        group: Text<GroupName>,
    }
}

table! {
    /// Keys of `[webhook]`.
    WebhookKeys {
        listen: Text<Listen>,
        url: Text<WebAddress>,
        verify_tls: bool,
        secret_file: Text<HostDirectory>,
        signing_secret_file: Text<HostDirectory>,
    }
}

table! {
    /// Keys of `[feed]`.
    FeedKeys {
        listen: Text<Listen>,
        token_file: Text<HostDirectory>,
    }
}

table! {
    /// Keys of `[page]`.
    PageKeys {
        listen: Text<PageListen>,
        token_file: Text<HostDirectory>,
        base_path: Text<BasePath>,
        hosts: List<HostName>,
        doctor_interval: TimeSpan,
        doctor_wide_interval: TimeSpan,
        doctor_build_interval: TimeSpan,
    }
}
