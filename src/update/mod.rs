//! `windlass update`: containers of this host, root's or a user's, kept up to date with what their tags are, unit by unit.
//!
//! It takes podman's own labels. What it adds to `podman auto-update`: it judges what it has restarted, goes back where that is not
//! good, remembers, and finishes or undoes what a crash has interrupted. Nothing of it is part of the CI daemon.

pub mod act;
pub mod after;
pub mod call;
pub mod clean;
pub mod figures;
pub mod health;
pub mod journey;
pub mod judge;
pub mod moved;
pub mod order;
pub mod pass;
pub mod plan;
pub mod podman;
pub mod record;
pub mod report;
pub mod state;
pub mod systemd;
pub mod tell;
pub mod travel;
pub mod units;
pub mod watch;
pub mod window;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use nix::unistd::{User, geteuid, gethostname};

use crate::config::update::UpdateSettings;

/// Root's configuration unless something else is said.
pub const ROOTS_FILE: &str = "/etc/windlass/update.toml";
/// Where root's runs remember.
const ROOTS_STATE: &str = "/var/lib/windlass-update";

/// What a run works with.
#[derive(Debug)]
pub struct Context {
    /// The settings.
    pub settings: UpdateSettings,
    /// podman.
    pub podman: podman::Podman,
    /// systemd.
    pub systemd: systemd::Systemd,
    /// The registries.
    pub registries: moved::Registries,
    /// What is remembered.
    pub state: state::State,
    /// `[update] include`.
    pub include: GlobSet,
    /// The host's name.
    pub host: String,
    /// The name of the user whose containers they are.
    pub user: String,
}

impl Context {
    /// For this user's containers.
    ///
    /// # Errors
    /// When a user has no home directory to remember in.
    pub fn new(settings: UpdateSettings) -> Result<Self> {
        let caller = call::Caller::new();
        let mut include = GlobSetBuilder::new();
        for pattern in &settings.include {
            include.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
        }
        let uid = geteuid();
        let user = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        Ok(Self {
            podman: podman::Podman::new(caller.clone(), settings.timeout, settings.pull_timeout),
            systemd: systemd::Systemd::new(caller, settings.timeout, settings.restart_timeout),
            registries: moved::Registries::new(settings.auth_file.as_deref(), settings.timeout),
            state: state::State::new(&state_directory()?),
            include: include.build()?,
            host: gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            user,
            settings,
        })
    }
}

/// The configuration of this user's updates.
///
/// # Errors
/// When a user has no home directory.
pub fn default_file() -> Result<PathBuf> {
    if geteuid().is_root() {
        return Ok(ROOTS_FILE.into());
    }
    Ok(directory_of_user("XDG_CONFIG_HOME", ".config")?.join("windlass/update.toml"))
}

fn state_directory() -> Result<PathBuf> {
    if geteuid().is_root() {
        return Ok(ROOTS_STATE.into());
    }
    Ok(directory_of_user("XDG_STATE_HOME", ".local/state")?.join("windlass-update"))
}

fn directory_of_user(variable: &str, below_home: &str) -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(directory) = set(variable) {
        return Ok(directory);
    }
    let home = set("HOME").or_else(|| User::from_uid(geteuid()).ok().flatten().map(|user| user.dir));
    Ok(home.context("this user has no home directory; set HOME")?.join(below_home))
}
