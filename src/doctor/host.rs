//! What every check looks at: the configuration, the user that the service runs as, and that user's podman.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User, geteuid};

use super::run::{self, Files};
use crate::cli::ask::ask;
use crate::config::{self, ConfigErrors, Settings};
use crate::podman::{Account, Podman};
use crate::protocol::daemon::{Reply, Request, Status};

/// How long the daemon may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The user that the package makes (systemd/sysusers.d).
const PACKAGE_USER: &str = "windlass";

/// gitlab-runner's configuration, where its packages have it.
pub const RUNNER_CONFIG: &str = "/etc/gitlab-runner/config.toml";

/// What the daemon knows of itself: it goes by what is in effect, whatever the files say by now.
#[derive(Debug, Clone)]
pub struct Own {
    /// The settings in effect.
    pub settings: Settings,
    /// What it would say of itself.
    pub status: Status,
}

/// What the administrator has said.
#[derive(Debug, Clone)]
pub struct Options {
    /// The daemon's configuration.
    pub config: PathBuf,
    /// The user that the daemon runs as; none: doctor finds out.
    pub user: Option<String>,
    /// The daemon's socket; none: that of the configuration.
    pub socket: Option<PathBuf>,
    /// gitlab-runner's configuration.
    pub runner_config: PathBuf,
    /// The image in which an image is built; none: one that is there by its name.
    pub build_image: Option<String>,
    /// Whether to leave out what starts containers or goes over the network.
    pub quick: bool,
    /// Where the host's files are.
    pub root: PathBuf,
    /// Where it is the daemon that looks; none: the configuration is read, and the daemon asked.
    pub own: Option<Own>,
}

/// The user that the service runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceUser {
    /// Its name; its number where it has none.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
    /// Its home.
    pub home: PathBuf,
}

/// What every check looks at.
#[derive(Debug)]
pub struct Host {
    /// What the administrator has said.
    pub options: Options,
    /// The settings in effect, as far as that is known; the defaults where the configuration is wrong.
    pub settings: Settings,
    /// What is wrong with the configuration.
    pub wrong: Option<ConfigErrors>,
    /// The user that the service runs as.
    pub user: ServiceUser,
    /// That user's podman, or why it can't be asked.
    pub podman: Result<Podman, String>,
    /// The host's files.
    pub files: Files,
    /// Where the daemon listens.
    pub socket: PathBuf,
    /// What the daemon says of itself, or why it says nothing.
    pub status: Result<Box<Status>, String>,
    /// Whether systemd runs here.
    pub systemd: bool,
}

impl Host {
    /// Finds these things out.
    ///
    /// # Errors
    /// When there is no user of the given name, or the default configuration can't be had.
    pub async fn look(options: Options) -> Result<Self> {
        let (read, wrong) = match config::load(&options.config) {
            Ok(settings) => (Some(settings), None),
            Err(errors) => (None, Some(errors)),
        };
        let settings = match (&options.own, read) {
            (Some(own), _) => own.settings.clone(),
            (None, Some(settings)) => settings,
            (None, None) => config::parse(&options.config, "")?,
        };
        let files = Files::below(&options.root);
        let systemd = files.has("/run/systemd/system");
        let user = match &options.user {
            Some(name) => by_name(name).with_context(|| format!("this host has no user {name}: --user"))?,
            None => service_user(&options, &settings, systemd).await,
        };
        let own = geteuid();
        let podman = if user.uid == own {
            Ok(Podman::new(&settings.podman))
        } else if own.is_root() {
            let account = Account { uid: user.uid, gid: user.gid, home: user.home.clone() };
            Ok(Podman::of_account(&settings.podman, account))
        } else {
            Err(format!("the service's podman is that of user {}", user.name))
        };
        let socket = options.socket.clone().unwrap_or_else(|| settings.socket.path.clone());
        let status = match &options.own {
            Some(own) => Ok(Box::new(own.status.clone())),
            None => asked(socket.clone()).await?,
        };
        Ok(Self { settings, wrong, user, podman, files, socket, status, systemd, options })
    }

    /// Whether what belongs to this user is the service's own. A rootful service keeps the sockets of the units as they are: they and
    /// their directory belong to the user that the package makes, as whom nothing runs then.
    #[must_use]
    pub fn is_own(&self, uid: u32) -> bool {
        let of_package = || User::from_name(PACKAGE_USER).ok().flatten().is_some_and(|user| user.uid.as_raw() == uid);
        uid == self.user.uid.as_raw() || self.is_rootful() && of_package()
    }

    /// Whether the service is root's.
    #[must_use]
    pub fn is_rootful(&self) -> bool {
        self.user.uid.is_root()
    }
}

/// What the daemon says of itself, or why it says nothing.
async fn asked(socket: PathBuf) -> Result<Result<Box<Status>, String>> {
    let asking = tokio::task::spawn_blocking(move || match ask(&socket, &Request::Status, ANSWER_WITHIN) {
        Ok(Reply::Status(report)) => Ok(Box::new(report.status)),
        Ok(_) => Err(crate::cli::ask::unexpected().to_string()),
        Err(error) => Err(format!("{error:#}")),
    });
    asking.await.context("ask the daemon")
}

/// The unit's user where the unit goes by this configuration, else the owner of the daemon's directories, else the unit's again.
async fn service_user(options: &Options, settings: &Settings, systemd: bool) -> ServiceUser {
    let unit = match systemd {
        true => unit_user().await,
        false => None,
    };
    if let Some(unit) = unit.clone().filter(|_| options.config == Path::new(config::DEFAULT_FILE)) {
        return unit;
    }
    let owner = |path: &PathBuf| std::fs::metadata(path).ok().and_then(|about| by_uid(Uid::from_raw(about.uid())));
    [&settings.state_dir, &settings.run_dir].into_iter().find_map(owner).or(unit).unwrap_or_else(own_user)
}

/// The user of windlass.service, where that is installed.
async fn unit_user() -> Option<ServiceUser> {
    let text = run::output("systemctl", &["show", "windlass.service", "-p", "LoadState", "-p", "User"]).await.ok()?;
    let properties = run::properties(&text);
    let name = properties.get("User").filter(|_| properties.get("LoadState").is_some_and(|state| state == "loaded"))?;
    by_name(if name.is_empty() { "root" } else { name })
}

fn by_name(name: &str) -> Option<ServiceUser> {
    User::from_name(name).ok().flatten().map(of)
}

fn by_uid(uid: Uid) -> Option<ServiceUser> {
    User::from_uid(uid).ok().flatten().map(of)
}

fn of(user: User) -> ServiceUser {
    ServiceUser { name: user.name, uid: user.uid, gid: user.gid, home: user.dir }
}

fn own_user() -> ServiceUser {
    let uid = geteuid();
    by_uid(uid).unwrap_or_else(|| ServiceUser {
        name: uid.to_string(),
        uid,
        gid: nix::unistd::getegid(),
        home: std::env::home_dir().unwrap_or_else(|| "/".into()),
    })
}
