//! podman's storage and configuration for tests: below the target directory, shared by all tests of a user.
//!
//! Nothing of it is the host's own: another database, other locks, another bridge. Its directory is named after the
//! boot, because podman cannot tell that the host was restarted when its runtime directory outlives that.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, Weak};
use std::{collections::BTreeMap, sync::Arc};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::account::Account;
use super::processes;

/// conmon's sockets lie below it and have 107 bytes for their whole path.
const LONGEST: usize = 48;

/// podman as the tests use it.
#[derive(Debug)]
pub struct Storage {
    /// Whose it is.
    pub account: Account,
    dir: PathBuf,
    /// Held shared by everyone who uses the storage.
    users: File,
}

static IN_USE: Mutex<BTreeMap<u32, Weak<Storage>>> = Mutex::new(BTreeMap::new());

impl Storage {
    /// The storage of this account, made when it is not there yet.
    pub fn of(account: &Account) -> Arc<Self> {
        let mut known = IN_USE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let uid = account.uid().as_raw();
        if let Some(storage) = known.get(&uid).and_then(Weak::upgrade) {
            return storage;
        }
        let storage = Arc::new(Self::open(account));
        known.insert(uid, Arc::downgrade(&storage));
        storage
    }

    fn open(account: &Account) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let all = match account {
            Account::Own => short(Path::new(env!("CARGO_TARGET_TMPDIR")).join("podman")),
            Account::Other(user) => user.dir.join(".cache/windlass-tests"),
        };
        let dir = all.join(&boot[..8]);
        for made in [all.clone(), dir.clone(), dir.join("net"), dir.join("xdg")] {
            if !made.exists() {
                fs::create_dir_all(&made).unwrap();
            }
            account.own(&made).unwrap();
        }
        let users = File::create(all.join("users.lock")).unwrap();
        users.lock().unwrap();
        let storage = Self { account: account.clone(), dir, users };
        storage.remove_earlier_boots(&all);
        storage.configure("overlay");
        storage.remove_leftovers();
        storage.users.lock_shared().unwrap();
        storage
    }

    /// One that nobody else uses, with this driver, in a directory that the test removes; images and containers are in its `graph`.
    pub fn own(dir: &Path, driver: &str) -> Self {
        for made in ["net", "xdg"] {
            fs::create_dir(dir.join(made)).unwrap();
        }
        let users = File::create(dir.join("users.lock")).unwrap();
        let storage = Self { account: Account::Own, dir: dir.to_owned(), users };
        storage.configure(driver);
        storage
    }

    fn remove_earlier_boots(&self, all: &Path) {
        for entry in fs::read_dir(all).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() && entry.path() != self.dir && fs::remove_dir_all(entry.path()).is_err() {
                // Files of subordinate ids.
                let path = entry.path().display().to_string();
                assert!(self.podman(&["unshare", "rm", "-rf", &path]).status.success(), "cannot remove {path}");
            }
        }
    }

    /// Removes the containers of tests that were killed; nobody else uses the storage now.
    ///
    /// podman still takes them for running when their processes were ended from outside, and a rootless one then
    /// refuses every command: it looks for its namespaces in those processes. Without the file that says that it has
    /// seen this boot, it looks at each of them anew.
    fn remove_leftovers(&self) {
        let remove = || self.podman(&["rm", "--all", "--force", "--time", "0"]);
        if self.dir.join("graph").exists() && !remove().status.success() {
            self.end_pause_processes();
            let _ = fs::remove_file(self.dir.join("tmp/alive"));
            let again = remove();
            assert!(again.status.success(), "cannot remove: {}", String::from_utf8_lossy(&again.stderr));
        }
    }

    /// Ends the processes that hold a rootless podman's namespaces.
    fn end_pause_processes(&self) {
        // Not by their file: two podmans that start at once make two of them, and the file names one.
        let dir = self.dir.display().to_string();
        for process in processes::with_argument("catatonit -P") {
            if process.file("environ").contains(&dir) {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
        }
        for file in [self.dir.join("tmp/pause.pid"), self.runtime_dir().join("libpod/tmp/pause.pid")] {
            let _ = fs::remove_file(&file);
        }
    }

    fn configure(&self, driver: &str) {
        let dir = self.dir.display();
        let runtime = if on_path("runc") { "runtime = \"runc\"\n" } else { "" };
        self.write(
            "storage.conf",
            &format!("[storage]\ndriver = \"{driver}\"\ngraphroot = \"{dir}/graph\"\nrootless_storage_path = \"{dir}/graph\"\nrunroot = \"{dir}/run\"\n"),
        );
        self.write(
            "containers.conf",
            &format!(
                "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\npids_limit = 0\n\
             [engine]\n{runtime}cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n\
             static_dir = \"{dir}/graph/libpod\"\n\
             events_logfile_path = \"{dir}/events.log\"\nlock_type = \"file\"\ntmp_dir = \"{dir}/tmp\"\n\
             [network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{dir}/net\"\n"
            ),
        );
        self.write(
            "registries.conf",
            "unqualified-search-registries = []\n[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n",
        );
        // podman's own bridge may exist on this host, with other containers on it.
        self.write("net/podman.json", &serde_json::json!({
            "name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "driver": "bridge",
            "network_interface": "wltest0", "created": "2026-01-01T00:00:00Z",
            "subnets": [{"subnet": "10.213.0.0/20", "gateway": "10.213.0.1"}],
            "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"}
        }).to_string());
    }

    /// Writes a configuration file; one that is in use already is left as it is.
    fn write(&self, name: &str, text: &str) {
        let path = self.dir.join(name);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return;
        }
        fs::write(&path, text).unwrap();
        self.account.own(&path).unwrap();
    }

    /// What podman needs in its environment; the daemon under test gets the same through its configuration.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let file = |name| self.dir.join(name).display().to_string();
        BTreeMap::from([
            ("CONTAINERS_CONF".into(), file("containers.conf")),
            ("CONTAINERS_STORAGE_CONF".into(), file("storage.conf")),
            ("CONTAINERS_REGISTRIES_CONF".into(), file("registries.conf")),
        ])
    }

    /// The runtime directory of a rootless podman.
    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.join("xdg")
    }

    /// A podman command.
    pub fn command(&self) -> Command {
        let mut command = self.account.command(Path::new("podman"));
        command.envs(self.environment());
        if !self.account.is_root() {
            command.env("XDG_RUNTIME_DIR", self.runtime_dir());
        }
        command
    }

    /// Runs podman to its end.
    pub fn podman(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("podman can be started")
    }

    /// The ids of all containers that ever carried this label.
    pub fn containers_ever(&self, label: &str, value: &str) -> Vec<String> {
        let events = fs::read_to_string(self.dir.join("events.log")).unwrap_or_default();
        let events = events.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut ids: Vec<String> = events
            .filter(|event| event["Attributes"][label] == value)
            .filter_map(|event| event["ID"].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Runs `work` while no other test of any process imports an image.
    pub fn exclusively<T>(&self, work: impl FnOnce() -> T) -> T {
        let lock = File::create(self.dir.join("images.lock")).unwrap();
        lock.lock().unwrap();
        work()
    }
}

impl Drop for Storage {
    /// A rootless podman keeps a process that holds its namespaces; the last user ends it.
    fn drop(&mut self) {
        if self.account.is_root() || self.users.unlock().is_err() || self.users.try_lock().is_err() {
            return;
        }
        self.end_pause_processes();
    }
}

fn short(dir: PathBuf) -> PathBuf {
    if dir.as_os_str().len() <= LONGEST {
        return dir;
    }
    std::env::temp_dir().join(format!("windlass-tests-{}", nix::unistd::getuid()))
}

/// Whether a program is on PATH.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
