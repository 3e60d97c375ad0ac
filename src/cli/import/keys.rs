//! What becomes of each key of `[runners.docker]` (common/config.go of gitlab-runner 19.3, `DockerConfig`).

use toml::{Table, Value};

use super::values;

/// What a key's value becomes. An error says what of it is lost, and what to do.
pub(super) type Translate = fn(&Value, &Table) -> values::Pairs;

/// What becomes of a key.
pub(super) enum Fate {
    /// It has a counterpart.
    To(Translate),
    /// It has none, for this reason.
    Absent(&'static str),
}

use Fate::{Absent, To};

/// A key that is taken as it is.
macro_rules! same {
    ($name:literal) => {
        To(|value, _| Ok(vec![($name, value.clone())]))
    };
}

/// A key whose value is written otherwise.
macro_rules! put {
    ($name:literal, $convert:path) => {
        To(|value, _| Ok(vec![($name, $convert(value)?)]))
    };
}

const NO_DOCKER: &str = "no Docker daemon is talked to";
const NO_LABELS: &str = "containers carry Windlass's own labels alone: by them it knows what is its own";
const NO_VOLUMES: &str = "there are no kept volumes; /builds and /cache are kept for the project, and `volumes` mounts directories of the host";
const NO_CGROUP_PARENT: &str = "podman's cgroup manager places containers; `memory`, `cpus` and `pids` limit each";
const NO_RESERVATION: &str = "podman starves nobody softly: set `memory`, which is a limit";
const NO_SHARING: &str = "each container has namespaces of its own; services are reached by name";

/// Every key there is, with what becomes of it.
pub(super) const KEYS: &[(&str, Fate)] = &[
    ("host", Absent(NO_DOCKER)),
    ("tls_cert_path", Absent(NO_DOCKER)),
    ("tls_verify", Absent(NO_DOCKER)),
    ("hostname", Absent("a job's containers are called windlass-job-ID")),
    ("image", same!("default_image")),
    ("runtime", same!("runtime")),
    ("memory", put!("memory", values::size)),
    ("memory_swap", put!("memory_swap", values::size)),
    ("memory_reservation", Absent(NO_RESERVATION)),
    ("cgroup_parent", Absent(NO_CGROUP_PARENT)),
    ("cpuset_cpus", same!("cpuset")),
    ("cpuset_mems", Absent("memory nodes follow the CPUs of `cpuset`")),
    ("cpus", put!("cpus", values::cpus)),
    ("cpu_shares", put!("cpu_weight", values::weight)),
    ("dns", same!("dns")),
    ("dns_search", same!("dns_search")),
    ("privileged", To(values::privileged)),
    ("services_privileged", To(values::services_privileged)),
    ("disable_entrypoint_overwrite", same!("disable_entrypoint_overwrite")),
    ("user", same!("user")),
    ("allowed_users", same!("allowed_users")),
    ("group_add", same!("group_add")),
    ("userns_mode", Absent("`user_namespace` in [podman] says which; jobs have one of their own by default")),
    ("cap_add", put!("cap_add", values::capabilities)),
    ("cap_drop", put!("cap_drop", values::capabilities)),
    ("oom_kill_disable", Absent("a job that can't be killed takes the host with it")),
    ("oom_score_adjust", Absent("`memory` ends a job before the host has to choose")),
    ("security_opt", To(values::security_options)),
    ("services_security_opt", Absent("services have the job's `security_opt`, `seccomp` and `no_new_privileges`")),
    ("devices", same!("devices")),
    ("device_cgroup_rules", Absent("name the devices in `devices`")),
    ("gpus", put!("devices", values::gpus)),
    ("services_devices", Absent("services get no devices of the host")),
    ("service_gpus", Absent("services get no devices of the host")),
    ("disable_cache", Absent("[lanes] scope says who shares /cache: a project's jobs, unless you change it")),
    ("volumes", To(values::volumes)),
    ("volume_keep", Absent(NO_VOLUMES)),
    ("volume_driver", Absent(NO_VOLUMES)),
    ("volume_driver_ops", Absent(NO_VOLUMES)),
    ("cache_dir", Absent("it is /cache in every container")),
    ("extra_hosts", put!("extra_hosts", values::hosts)),
    ("volumes_from", Absent(NO_VOLUMES)),
    ("network_mode", put!("network", values::network)),
    ("pid_mode", Absent(NO_SHARING)),
    ("ipcmode", Absent(NO_SHARING)),
    ("mac_address", Absent("podman gives each container one of its own")),
    ("links", Absent(NO_SHARING)),
    ("services", put!("services", values::services)),
    ("services_limit", To(values::services_limit)),
    ("service_memory", put!("service.memory", values::size)),
    ("service_memory_swap", put!("service.memory_swap", values::size)),
    ("service_memory_reservation", Absent(NO_RESERVATION)),
    ("service_cgroup_parent", Absent(NO_CGROUP_PARENT)),
    ("service_slot_cgroup_template", Absent(NO_CGROUP_PARENT)),
    ("service_cpuset_cpus", same!("service.cpuset")),
    ("service_cpus", put!("service.cpus", values::cpus)),
    ("service_cpu_shares", put!("service.cpu_weight", values::weight)),
    ("wait_for_services_timeout", To(values::wait)),
    ("allowed_images", same!("allowed_images")),
    ("allowed_privileged_images", same!("allowed_privileged_images")),
    ("allowed_privileged_services", same!("allowed_privileged_services")),
    ("allowed_pull_policies", same!("allowed_pull_policies")),
    ("allowed_services", same!("allowed_services")),
    ("pull_policy", same!("pull_policy")),
    ("isolation", Absent("it is for Windows alone")),
    ("shm_size", put!("shm_size", values::size)),
    ("tmpfs", same!("tmpfs")),
    ("services_tmpfs", same!("service.tmpfs")),
    ("sysctls", same!("sysctls")),
    ("helper_image", To(values::helper_image)),
    ("helper_image_flavor", same!("helper.flavor")),
    ("container_labels", Absent(NO_LABELS)),
    ("enable_ipv6", same!("ipv6")),
    ("ulimit", same!("ulimits")),
    ("network_mtu", same!("network_mtu")),
    ("log_options", Absent("podman keeps no log of a job's containers")),
];
