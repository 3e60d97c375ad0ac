//! Windlass as scripts/install.sh installs it. For tests that run in a box (scripts/box.sh), since it changes the system that it is on.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, User};
use serde_json::Value;
use tempfile::TempDir;

use super::account::Account;
use super::images::Image;
use super::processes::{self, Process};
use super::programs::Programs;
use super::site::Site;
use super::wait::{seconds, until, value};

/// The service.
pub const UNIT: &str = "windlass.service";
/// How long something may take: the box shares the machine, and may be an emulated one.
pub const PATIENCE: Duration = seconds(120);

/// The installed service, and a gitlab-runner's user that may call it.
pub struct Installed {
    /// Whether its podman is root's.
    pub rootful: bool,
    /// Further variants of the units that it is installed with.
    variants: &'static [&'static str],
    service: User,
    caller: Account,
    dir: TempDir,
}

impl Installed {
    /// Installs it with this in conf.d, and starts it.
    pub fn new(rootful: bool, toml: &str) -> Self {
        Self::prepared(rootful, &[], || install(rootful, &[]), toml)
    }

    /// The same with secrets as systemd credentials.
    pub fn with_credentials(rootful: bool, toml: &str) -> Self {
        const VARIANTS: &[&str] = &["--credentials"];
        Self::prepared(rootful, VARIANTS, || install(rootful, VARIANTS), toml)
    }

    /// The same with another way to install it.
    pub fn by(rootful: bool, install: impl FnOnce(), toml: &str) -> Self {
        Self::prepared(rootful, &[], install, toml)
    }

    fn prepared(rootful: bool, variants: &'static [&'static str], install: impl FnOnce(), toml: &str) -> Self {
        run(Command::new("useradd").args(["--system", "--create-home", "gitlab-runner"]));
        install();
        let installed = Self::found(rootful, variants);
        installed.configure("50-test.toml", toml);
        installed.systemctl(&["enable", "--quiet", "--now", "windlass.socket", UNIT]);
        installed
    }

    /// The one that an earlier boot of the box has installed.
    pub fn found(rootful: bool, variants: &'static [&'static str]) -> Self {
        let name = if rootful { "root" } else { "windlass" };
        let service = User::from_name(name).unwrap().expect("the service's user");
        let mut runner = User::from_name("gitlab-runner").unwrap().unwrap();
        // As its unit's SupplementaryGroups= would have it.
        runner.gid = group("windlass-callers");
        let dir = tempfile::Builder::new().prefix("wl-").tempdir().unwrap();
        run(Command::new("chmod").arg("0755").arg(dir.path()));
        Self { rootful, variants, service, caller: Account::Other(runner), dir }
    }

    /// Installs it once more, as for an upgrade.
    pub fn upgrade(&self) {
        install(self.rootful, self.variants);
    }

    /// Writes a file of conf.d.
    pub fn configure(&self, name: &str, toml: &str) {
        fs::write(Path::new("/etc/windlass/conf.d").join(name), toml).unwrap();
    }

    /// Adds lines to the service's unit, which the next start goes by.
    pub fn add_to_unit(&self, lines: &str) {
        let directory = Path::new("/etc/systemd/system/windlass.service.d");
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("90-test.conf"), format!("[Service]\n{lines}\n")).unwrap();
        self.systemctl(&["daemon-reload"]);
    }

    /// Runs systemctl, which has to succeed.
    pub fn systemctl(&self, arguments: &[&str]) -> String {
        let output = Command::new("systemctl").args(arguments).output().unwrap();
        assert!(output.status.success(), "systemctl {arguments:?}: {}\n{}", text(&output), self.journal(&[]));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A property of the service.
    pub fn property(&self, name: &str) -> String {
        self.systemctl(&["show", "--property", name, "--value", UNIT])
    }

    /// The daemon's process; none while there is none.
    pub fn pid(&self) -> Option<i32> {
        self.property("MainPID").parse().ok().filter(|pid| *pid > 0)
    }

    /// Waits until another daemon than `before` serves.
    pub fn wait_for_another(&self, before: i32) {
        let since = Instant::now();
        while self.property("ActiveState") != "active" || self.pid().is_none_or(|pid| pid == before) {
            assert!(since.elapsed() < PATIENCE, "no daemon but {before} serves:\n{}", self.journal(&[]));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Restarts the service as an upgrade does.
    pub fn restart(&self) {
        let before = self.pid().expect("it runs");
        self.systemctl(&["restart", UNIT]);
        assert_ne!(self.pid(), Some(before));
    }

    /// Kills the daemon with -9; systemd starts another.
    pub fn crash(&self) {
        let before = self.pid().expect("it runs");
        self.systemctl(&["kill", "--kill-who=main", "--signal=KILL", UNIT]);
        self.wait_for_another(before);
    }

    /// What the journal has of the service, for these further arguments.
    pub fn journal(&self, arguments: &[&str]) -> String {
        let output = Command::new("journalctl").args(["--no-pager", "--unit", UNIT]).args(arguments).output().unwrap();
        text(&output)
    }

    /// Runs the `windlass` command.
    pub fn windlass(&self, arguments: &[&str]) -> Output {
        Command::new("windlass").args(arguments).output().unwrap()
    }

    /// What a `windlass` command with `--json` says; null where it says nothing.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.windlass(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// What `windlass status --json` says.
    pub fn status(&self) -> Value {
        value("the daemon answers", PATIENCE, || {
            let output = self.windlass(&["status", "--json"]);
            output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
        })
    }

    /// A command that runs as a user with only this group.
    pub fn command_as(&self, user: &User, group: Gid, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &user.dir);
        command.uid(user.uid.as_raw()).gid(group.as_raw()).current_dir("/");
        command
    }

    /// The user that the service runs as.
    pub fn service(&self) -> &User {
        &self.service
    }

    /// A podman of the service's user, outside the service.
    pub fn podman(&self, arguments: &[&str]) -> Output {
        self.podman_command().args(arguments).output().unwrap()
    }

    fn podman_command(&self) -> Command {
        let mut command = self.command_as(&self.service, self.service.gid, "podman");
        if !self.rootful {
            let runtime = format!("/run/user/{}", self.service.uid);
            command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={runtime}/bus")).env("XDG_RUNTIME_DIR", runtime);
        }
        command
    }

    /// Makes an image in the service's storage; returns its name.
    pub fn image(&self, image: &Image) -> String {
        image.make(self.podman_command());
        image.name()
    }

    /// The processes in the service's own cgroup.
    pub fn own_pids(&self) -> Vec<i32> {
        let list = format!("/sys/fs/cgroup{}/cgroup.procs", self.property("ControlGroup"));
        fs::read_to_string(list).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// The ids of a lease's containers, the job's own first.
    fn containers(&self, lease: &str) -> Vec<String> {
        let mut ids = Vec::new();
        for role in ["job", "service"] {
            let labels =
                [format!("label=io.windlass.lease={}", &lease[..12]), format!("label=io.windlass.role={role}")];
            let filters: Vec<&str> = labels.iter().flat_map(|label| ["--filter", label]).collect();
            let output = self.podman(&[&["ps", "--quiet", "--no-trunc"], &filters[..]].concat());
            assert!(output.status.success(), "{}", text(&output));
            ids.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        }
        ids
    }

    /// Runs a command in a job's container, past the daemon.
    pub fn in_job(&self, lease: &str, command: &[&str]) -> Output {
        self.podman(&[&["exec", &self.containers(lease)[0]], command].concat())
    }

    /// The processes of a lease's containers on this host.
    pub fn container_pids(&self, lease: &str) -> Vec<i32> {
        let ids = self.containers(lease);
        let is_inside = |process: &Process| ids.iter().any(|id| process.file("cgroup").contains(id));
        processes::all().into_iter().filter(is_inside).map(|process| process.pid).collect()
    }
}

impl Site for Installed {
    fn caller(&self) -> &Account {
        &self.caller
    }

    fn files(&self) -> &Path {
        self.dir.path()
    }

    fn shim(&self, name: &str) -> PathBuf {
        format!("/usr/libexec/windlass/windlass-{name}").into()
    }

    fn told_socket(&self) -> Option<PathBuf> {
        None
    }

    fn wait_until_gone(&self, lease: &str) {
        until(&format!("lease {lease} is gone"), PATIENCE, || !Path::new("/run/windlass/leases").join(lease).exists());
    }
}

/// Runs scripts/install.sh with these variants of the units.
pub fn install(rootful: bool, variants: &[&str]) {
    let target = Programs::built().windlassd.ancestors().nth(2).unwrap().to_owned();
    let mut install = Command::new(source("scripts/install.sh"));
    install.arg("--debug").args(rootful.then_some("--rootful")).args(variants).env("CARGO_TARGET_DIR", target);
    run(&mut install);
}

/// A file of the source tree.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The id of a group.
pub fn group(name: &str) -> Gid {
    Group::from_name(name).unwrap().unwrap_or_else(|| panic!("no group {name}")).gid
}

/// Runs a command, which has to succeed; returns what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    text(&output)
}

/// All that a command printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
