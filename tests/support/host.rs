//! A host for one test: its own configuration, directories and daemon, on podman's storage for tests.

use std::fs::{self, File, Permissions};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::account::Account;
use super::images::Image;
use super::leftovers;
use super::processes::{self, Process};
use super::programs::Programs;
use super::storage::Storage;
use super::tables::merge;
use super::wait::{seconds, until, value};

/// `<run_dir>/leases/<32 hex>/init.sock` has 107 bytes.
const LONGEST: usize = 107 - "/wl-123456/run/leases//init.sock".len() - 32;

/// How long a lease may take to vanish after its cleanup.
const TEARDOWN: Duration = seconds(20);

/// A host with a running daemon. Dropping it proves that nothing of it is left.
pub struct Host {
    dir: TempDir,
    /// The user of everything on it.
    pub account: Account,
    /// podman's storage.
    pub storage: Arc<Storage>,
    /// The programs under test.
    pub programs: Programs,
    /// What systemd would add to the daemon's environment.
    environment: Vec<(String, String)>,
    daemon: Mutex<Option<Child>>,
}

impl Host {
    /// With the tests' defaults: four slots, no network, short grace.
    pub fn start() -> Self {
        Self::configured("")
    }

    /// With these settings over the defaults.
    pub fn configured(toml: &str) -> Self {
        Self::as_account(Account::Own, toml, Vec::new())
    }

    /// With variables that systemd would set for the daemon.
    pub fn with_environment(toml: &str, environment: Vec<(String, String)>) -> Self {
        Self::as_account(Account::Own, toml, environment)
    }

    /// Under an unprivileged user, where that is possible; says why when it is not.
    pub fn rootless(toml: &str) -> Option<Self> {
        match Account::rootless() {
            Ok(account) => Some(Self::as_account(account, toml, Vec::new())),
            Err(reason) => {
                eprintln!("SKIPPED, rootless: {reason}");
                None
            }
        }
    }

    fn as_account(account: Account, toml: &str, environment: Vec<(String, String)>) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let fits = matches!(account, Account::Own) && target.as_os_str().len() <= LONGEST;
        let base = if fits { target.to_owned() } else { std::env::temp_dir() };
        let dir =
            tempfile::Builder::new().prefix("wl-").permissions(Permissions::from_mode(0o755)).tempdir_in(base).unwrap();
        account.own(dir.path()).unwrap();
        let built = Programs::built();
        let programs = match account {
            Account::Own => built,
            Account::Other(_) => built.copied(&dir.path().join("programs")),
        };
        let storage = Storage::of(&account);
        let host = Self { dir, account, storage, programs, environment, daemon: Mutex::new(None) };
        host.configure(toml);
        host.start_daemon();
        host
    }

    /// Replaces the configuration, which the next start of the daemon reads. Nothing goes because of what else fills the disk that the
    /// tests run on, unless `toml` says otherwise.
    pub fn configure(&self, toml: &str) {
        let dir = self.dir().display();
        let mut settings: toml::Table = toml::from_str(&format!(
            "run_dir = \"{dir}/run\"\nstate_dir = \"{dir}/state\"\nslots = 4\n\
             [socket]\ndaemon_wait = \"20s\"\n[podman]\ninit = \"{}\"\n\
             [job]\ngrace = \"1s\"\nmargin = \"2s\"\npull_policy = \"never\"\nnetwork = \"none\"\n\
             [purge]\nmin_free = \"0%\"\nmin_free_inodes = 0\n",
            self.programs.shim("init").display()
        ))
        .unwrap();
        merge(&mut settings, toml::from_str(toml).expect("the test's settings are TOML"));
        let podman = settings["podman"].as_table_mut().unwrap();
        let environment =
            podman.entry("environment").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
        for (key, value) in self.storage.environment() {
            environment.entry(key).or_insert(value.into());
        }
        fs::write(self.config(), toml::to_string(&settings).unwrap()).unwrap();
        self.account.own(&self.config()).unwrap();
    }

    /// Everything of this host is below it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir().join("windlass.toml")
    }

    /// The daemon's runtime directory.
    pub fn run_dir(&self) -> PathBuf {
        self.dir().join("run")
    }

    /// The daemon's state directory.
    pub fn state_dir(&self) -> PathBuf {
        let settings: toml::Table = toml::from_str(&fs::read_to_string(self.config()).unwrap()).unwrap();
        settings["state_dir"].as_str().unwrap().into()
    }

    /// The shims' socket.
    pub fn socket(&self) -> PathBuf {
        let settings: toml::Table = toml::from_str(&fs::read_to_string(self.config()).unwrap()).unwrap();
        let chosen = settings.get("socket").and_then(|socket| socket.get("path")).and_then(toml::Value::as_str);
        chosen.map_or_else(|| self.run_dir().join("windlass.sock"), PathBuf::from)
    }

    /// What the daemon has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir().join("daemon.log")).unwrap_or_default()).into_owned()
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&self) {
        let log = File::options().create(true).append(true).open(self.dir().join("daemon.log")).unwrap();
        let mut command = self.account.command(&self.programs.windlassd);
        command.arg("--config").arg(self.config()).env("WINDLASS_LOG", "debug");
        command.envs(self.environment.iter().cloned());
        if !self.account.is_root() {
            command.env("XDG_RUNTIME_DIR", self.storage.runtime_dir());
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        *self.daemon() = Some(command.spawn().unwrap());
        value("the daemon answers", seconds(20), || {
            if let Some(status) = self.daemon().as_mut().unwrap().try_wait().unwrap() {
                panic!("windlassd ended with {status}:\n{}", self.log());
            }
            self.try_status()
        });
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon().as_ref().expect("the daemon runs").id()).unwrap()
    }

    /// Sends the daemon a signal and waits for its end; returns its exit code, none after a signal.
    pub fn end_daemon(&self, signal: Signal) -> Option<i32> {
        let mut daemon = self.daemon().take().expect("the daemon runs");
        kill(Pid::from_raw(i32::try_from(daemon.id()).unwrap()), signal).unwrap();
        let status = value("the daemon ends", seconds(15), || daemon.try_wait().unwrap());
        status.code()
    }

    /// Replaces the configuration of the daemon that runs.
    pub fn reload(&self, toml: &str) {
        self.configure(toml);
        kill(Pid::from_raw(self.daemon_pid()), Signal::SIGHUP).unwrap();
    }

    /// Kills the daemon with -9 and starts it again.
    pub fn crash_daemon(&self) {
        self.end_daemon(Signal::SIGKILL);
        self.start_daemon();
    }

    /// Runs the `windlass` command to its end.
    pub fn windlass(&self, arguments: &[&str]) -> Output {
        self.account.command(&self.programs.windlass).args(arguments).output().unwrap()
    }

    /// Starts the `windlass` command.
    pub fn start_windlass(&self, arguments: &[&str]) -> Child {
        let mut command = self.account.command(&self.programs.windlass);
        command.args(arguments).arg("--socket").arg(self.socket()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Runs the `windlass` command with JSON as its answer.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let socket = self.socket().display().to_string();
        let output = self.windlass(&[arguments, &["--json", "--socket", &socket]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("--json prints JSON")
    }

    fn try_status(&self) -> Option<Value> {
        let output = self.windlass(&["status", "--json", "--socket", self.socket().to_str().unwrap()]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("status --json prints JSON"))
    }

    /// What `windlass status --json` says.
    pub fn status(&self) -> Value {
        self.try_status().expect("the daemon answers")
    }

    /// What it says about one lease, of whose id it shows the first digits only.
    pub fn lease(&self, id: &str) -> Option<Value> {
        let is_it =
            |lease: &&Value| lease["id"].as_str().is_some_and(|shown| shown.len() >= 8 && id.starts_with(shown));
        self.status()["leases"].as_array().unwrap().iter().find(is_it).cloned()
    }

    /// What it says about the lease of a job.
    pub fn lease_of_job(&self, job: u64) -> Option<Value> {
        self.status()["leases"].as_array().unwrap().iter().find(|lease| lease["job_id"] == job).cloned()
    }

    /// Runs podman on this host's storage.
    pub fn podman(&self, arguments: &[&str]) -> Output {
        self.storage.podman(arguments)
    }

    /// The ids of containers, those that ended too, with this label; `KEY=VALUE`.
    pub fn containers(&self, label: &str) -> Vec<String> {
        let filter = format!("label={label}");
        let output = self.podman(&["ps", "--all", "--no-trunc", "--quiet", "--filter", &filter]);
        assert!(output.status.success(), "podman ps: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// The id of a lease's container.
    pub fn container(&self, lease: &str) -> Option<String> {
        self.containers(&format!("io.windlass.lease={}", &lease[..12])).pop()
    }

    /// The id on this host of the container's first process.
    pub fn init_pid(&self, lease: &str) -> i32 {
        let container = self.container(lease).expect("the lease has a container");
        let output = self.podman(&["inspect", "--format", "{{.State.Pid}}", &container]);
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("it runs")
    }

    /// The processes in a lease's container, its init among them.
    pub fn processes(&self, lease: &str) -> Vec<Process> {
        processes::beside(self.init_pid(lease))
    }

    /// Makes sure that an image is there; returns its name.
    pub fn image(&self, image: &Image) -> String {
        image.import(&self.storage)
    }

    /// Waits until nothing of a lease is left.
    pub fn wait_until_gone(&self, lease: &str) {
        until(&format!("lease {lease} is gone"), TEARDOWN, || self.lease(lease).is_none());
        until(&format!("the container of lease {lease} is gone"), TEARDOWN, || self.container(lease).is_none());
        assert!(!self.run_dir().join("leases").join(lease).exists(), "the record of lease {lease} is still there");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let mut left = Vec::new();
        if self.daemon().is_some() {
            left.extend(leftovers::leases(self, TEARDOWN));
            if self.end_daemon_if_it_runs().is_none() {
                left.push("windlassd did not end after SIGTERM".to_owned());
            }
        }
        left.extend(leftovers::remove(self));
        if failed || !left.is_empty() {
            eprintln!("---- log of the daemon at {}\n{}----", self.dir().display(), self.log());
        }
        // Removed here and not by TempDir, which would keep quiet about what it cannot remove.
        if let Err(error) = fs::remove_dir_all(self.dir()) {
            left.push(format!("cannot remove {}: {error}", self.dir().display()));
        }
        assert!(failed || left.is_empty(), "left behind: {left:#?}");
        if !left.is_empty() {
            eprintln!("left behind: {left:#?}");
        }
    }
}

impl Host {
    /// Ends the daemon politely, or else with -9; none says that politeness was not enough.
    fn end_daemon_if_it_runs(&self) -> Option<()> {
        let mut daemon = self.daemon().take()?;
        let pid = Pid::from_raw(i32::try_from(daemon.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let start = std::time::Instant::now();
        while start.elapsed() < seconds(10) {
            if daemon.try_wait().unwrap().is_some() {
                return Some(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
        None
    }
}

/// A host that the tests of a file share while any of them uses it.
pub struct SharedHost {
    toml: &'static str,
    host: Mutex<Weak<Host>>,
}

impl SharedHost {
    /// One with these settings.
    pub const fn new(toml: &'static str) -> Self {
        Self { toml, host: Mutex::new(Weak::new()) }
    }

    /// Starts it when no other test uses it.
    pub fn get(&self) -> Shared {
        let mut host = self.host.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let shared = host.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Host::configured(self.toml));
            *host = Arc::downgrade(&started);
            started
        });
        Shared(shared)
    }
}

/// One test's hold on a shared host.
pub struct Shared(Arc<Host>);

impl Deref for Shared {
    type Target = Host;
    fn deref(&self) -> &Host {
        &self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() && Arc::strong_count(&self.0) > 1 {
            eprintln!("---- log of the daemon, which other tests still use\n{}----", self.log());
        }
    }
}
