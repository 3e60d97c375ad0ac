//! What a job gets: the validated settings of `[job]` and of profiles.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a job gets, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSettings {
    /// How stages are run.
    pub exec: ExecMode,
    /// From SIGTERM to SIGKILL when a stage is ended early.
    pub grace: Duration,
    /// How much longer than the grace an init may take to answer before its container is killed.
    pub margin: Duration,
    /// Added to the job's own timeout before a lease that nobody cleaned up is reaped.
    pub timeout_margin: Duration,
    /// The user of stages in the job's image, unless the job names one; none: the image's own.
    #[serde(default)]
    pub user: Option<String>,
    /// When and how images are pulled.
    #[serde(default)]
    pub images: ImageSettings,
    /// Limits of the job's container, and how far a job may raise them.
    #[serde(default)]
    pub resources: Resources,
    /// The most that a job may ask for with variables such as WINDLASS_MEMORY; a limit without one can only be lowered.
    #[serde(default)]
    pub maximum: Resources,
    /// What separates the job's containers from the host and from each other.
    #[serde(default)]
    pub isolation: Isolation,
    /// The job's network.
    #[serde(default)]
    pub network: NetworkSettings,
    /// The job's services.
    #[serde(default)]
    pub services: ServiceSettings,
    /// Where the predefined stages run.
    #[serde(default)]
    pub helper: HelperSettings,
    /// Images that jobs build.
    #[serde(default)]
    pub builds: BuildSettings,
    /// Variables of every container of the job, for proxies and the time zone; not for secrets.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Certificates (PEM) that helper, pulls and jobs trust beside their own.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// What jobs of which projects may use: the first rule that matches the project counts. The last has no `projects`
    /// and comes from the keys of `[job]` itself, so there is always one that matches.
    #[serde(default)]
    pub policy: Vec<PolicyRule>,
}

/// When and how images are pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSettings {
    /// The image of jobs that name none.
    pub default_image: Option<String>,
    /// When images are pulled; the next is tried when one fails.
    pub pull_policy: Vec<PullPolicy>,
    /// How often a pull is tried when the network or the registry fails (never after 401, 403 or 404).
    pub pull_attempts: u32,
    /// A file of registry credentials of the host (containers-auth.json(5)), used after the job's own.
    pub auth_file: Option<PathBuf>,
    /// How long it is believed that a job's credentials give access to an image that the host has already.
    pub access_ttl: Duration,
    /// Whether a job's `entrypoint:` is ignored.
    pub disable_entrypoint_overwrite: bool,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self {
            default_image: None,
            pull_policy: vec![PullPolicy::IfNotPresent],
            pull_attempts: 3,
            auth_file: None,
            access_ttl: Duration::from_secs(3600),
            disable_entrypoint_overwrite: false,
        }
    }
}

/// Limits of a container. What is not set is not limited by Windlass.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes; without it as podman has it (twice the memory).
    pub memory_swap: Option<u64>,
    /// CPUs, for example 1.5.
    pub cpus: Option<f64>,
    /// CPUs that it may run on, for example `0-3,6`.
    pub cpuset: Option<String>,
    /// Share of CPU time under contention, 1 to 10000 (cgroup v2's `cpu.weight`; on v1 `--cpu-shares` is made of it).
    pub cpu_weight: Option<u32>,
    /// How many processes and threads.
    pub pids: Option<u32>,
    /// Share of disk time under contention, 10 to 1000 (`--blkio-weight`).
    pub io_weight: Option<u32>,
    /// Size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    /// Size of the container's own file system in bytes, where the storage driver can limit it.
    pub storage_size: Option<u64>,
    /// Memory file systems: path and options as podman takes them (`size=64m,mode=1777`).
    pub tmpfs: BTreeMap<String, String>,
    /// ulimits: name and `soft[:hard]`.
    pub ulimits: BTreeMap<String, String>,
}

/// What separates a job's containers from the host. The defaults break no usual job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// No process can gain privileges by a setuid program.
    pub no_new_privileges: bool,
    /// The root file system is read-only; /tmp, /var/tmp, /run and /dev/shm are writable memory, builds and cache stay writable.
    pub read_only: bool,
    /// Every capability and device of the host, for images that match `allowed_privileged_images`: no isolation at all.
    pub privileged: bool,
    /// As `privileged`, for services.
    pub services_privileged: bool,
    /// Capabilities added to podman's own.
    pub cap_add: Vec<String>,
    /// Capabilities taken from podman's own.
    pub cap_drop: Vec<String>,
    /// Path of a seccomp profile, or `unconfined`.
    pub seccomp: Option<String>,
    /// Further `--security-opt` values (`apparmor=...`, `label=...`).
    pub security_opt: Vec<String>,
    /// Devices of the host (`/dev/fuse`, with `:target:rwm` behind) and CDI devices (`nvidia.com/gpu=all`).
    pub devices: Vec<String>,
    /// Volumes: `/host/path:/container/path[:options]`.
    pub volumes: Vec<String>,
    /// Kernel parameters of the container's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Further groups of the job's user, by number or name in the image; `keep-groups` is podman's.
    pub group_add: Vec<String>,
    /// The OCI runtime instead of podman's default, by its name in containers.conf or its path.
    pub runtime: Option<String>,
}

impl Isolation {
    /// What of this is for a service: its own privilege, and nothing that was opened for the job.
    #[must_use]
    pub fn for_service(&self, privileged: bool) -> Self {
        Self {
            privileged,
            no_new_privileges: self.no_new_privileges,
            cap_drop: self.cap_drop.clone(),
            seccomp: self.seccomp.clone(),
            security_opt: self.security_opt.clone(),
            runtime: self.runtime.clone(),
            ..Self::default()
        }
    }
}

/// The job's network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSettings {
    /// Which.
    pub mode: Network,
    /// Largest packet in bytes, on networks of a job's own.
    pub mtu: Option<u32>,
    /// Whether networks of a job's own have IPv6 too.
    pub ipv6: bool,
    /// DNS servers instead of the host's.
    pub dns: Vec<String>,
    /// DNS search domains instead of the host's.
    pub dns_search: Vec<String>,
    /// Further lines of /etc/hosts: name and address.
    pub extra_hosts: BTreeMap<String, String>,
}

/// The job's services.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSettings {
    /// Services that every job gets, before its own.
    pub always: Vec<ConfiguredService>,
    /// How many a job may have, those of the configuration included; none: any number.
    pub limit: Option<u32>,
    /// How long the job waits until they are ready; zero: not at all.
    pub wait: Duration,
    /// Whether a service that is not ready in time fails the job.
    pub required: bool,
    /// Limits of each service's container.
    pub resources: Resources,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        Self {
            always: Vec::new(),
            limit: None,
            wait: Duration::from_secs(30),
            required: false,
            resources: Resources::default(),
        }
    }
}

/// A service that every job gets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfiguredService {
    /// Its image.
    pub image: String,
    /// Names beside those made of the image's.
    pub aliases: Vec<String>,
    /// Instead of the image's.
    pub entrypoint: Vec<String>,
    /// Instead of the image's.
    pub command: Vec<String>,
    /// Its variables.
    pub environment: BTreeMap<String, String>,
}

/// Where the predefined stages run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HelperSettings {
    /// How that is chosen.
    pub mode: HelperMode,
    /// The image; `{runner_version}` and `{arch}` are filled in.
    pub image: Option<String>,
    /// Where the package gitlab-runner-helper-images puts its archives.
    pub archives: PathBuf,
    /// Which of them: `alpine`, `alpine-latest`, `ubuntu`, ...
    pub flavor: String,
}

impl Default for HelperSettings {
    fn default() -> Self {
        Self {
            mode: HelperMode::Auto,
            image: None,
            archives: "/usr/lib/gitlab-runner/helper-images".into(),
            flavor: "alpine".to_owned(),
        }
    }
}

/// Where the predefined stages run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HelperMode {
    /// In the archive's image if there is one, else in `image` if it is set, else as `inject`.
    Auto,
    /// In `image`.
    Image,
    /// In the job's own container, with the runner's binary mounted.
    Inject,
}

/// Images that jobs build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildSettings {
    /// Where their layers are.
    pub storage: BuildStorage,
    /// How they are stacked.
    pub driver: BuildDriver,
}

/// Where the layers are of images that a job builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildStorage {
    /// Wherever the image's own tools put them.
    None,
    /// In a directory of the host that goes with the job.
    #[default]
    Job,
    /// In a directory of the host that the next job of the project gets.
    Project,
}

/// The storage driver of images that a job builds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BuildDriver {
    /// The best that this host lets a container have.
    #[default]
    Auto,
    /// The kernel's overlay, mounted in a user namespace: Linux 5.11 and later.
    Overlay,
    /// fuse-overlayfs, which needs /dev/fuse in the container and the program in the image.
    FuseOverlayfs,
    /// Copies of whole layers: works everywhere.
    Vfs,
}

/// What jobs of some projects may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyRule {
    /// What messages call it: `[job]` or `[[policy]] number N`.
    pub name: String,
    /// Patterns of project paths (`group/**`); none: every project.
    pub projects: Option<Vec<String>>,
    /// Patterns of images; none: all.
    pub allowed_images: Option<Vec<String>>,
    /// Patterns of images of services; none: all.
    pub allowed_services: Option<Vec<String>>,
    /// Users that a job may name with `image:docker:user`; none: all.
    pub allowed_users: Option<Vec<String>>,
    /// Pull policies that a job may name; none: those of `pull_policy`.
    pub allowed_pull_policies: Option<Vec<PullPolicy>>,
    /// Patterns of images that run privileged where `privileged` is set; none: no image.
    pub allowed_privileged_images: Vec<String>,
    /// The same for services where `services_privileged` is set.
    pub allowed_privileged_services: Vec<String>,
    /// How many slots of the profile jobs of one project may hold at once; none: all.
    pub max_slots: Option<u32>,
}

/// How stages are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecMode {
    /// Through the container's init, reached by its inherited socket.
    Init,
    /// Through `podman exec`, where the host's policy denies the first.
    Podman,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// Before each job.
    Always,
    /// When the host does not have it.
    IfNotPresent,
    /// Never: it has to be there.
    Never,
}

impl PullPolicy {
    const ALL: [Self; 3] = [Self::Always, Self::IfNotPresent, Self::Never];

    /// Its word, in the configuration and in `.gitlab-ci.yml`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::IfNotPresent => "if-not-present",
            Self::Never => "never",
        }
    }

    /// The policy of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.word() == word)
    }
}

/// The network of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// podman's default network for this user; with services one of the job's own.
    #[default]
    Private,
    /// The host's own.
    Host,
    /// Loopback only.
    None,
}
