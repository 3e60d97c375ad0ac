//! A host whose containers `windlass update` keeps up to date: units as podman writes them, a real registry, images that are good and bad.
//! For tests that run in a box (scripts/box.sh), since it changes the system that it is on.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::unistd::User;
use serde_json::Value;
use tempfile::TempDir;

use super::chain::write_secret;
use super::installed::{PATIENCE, run, source, text};
use super::programs::Programs;
use super::registry::Registry;
use super::wait::until;

/// The user with containers of its own.
const USER: &str = "deploy";

/// What an image does when it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// It runs, and is healthy.
    Well,
    /// It ends at once.
    Crash,
    /// It runs, and never gets healthy.
    Ail,
    /// It is healthy, and ends after five seconds.
    DieLater,
}

impl Does {
    fn script(self) -> &'static str {
        match self {
            Self::Well => "touch /healthy; trap exit TERM; while :; do sleep 0.1; done",
            Self::Crash => "exit 3",
            Self::Ail => "trap exit TERM; while :; do sleep 0.1; done",
            Self::DieLater => "touch /healthy; trap exit TERM; sleep 5; exit 1",
        }
    }
}

/// The host.
pub struct Updater {
    /// Whose containers: none for root's.
    pub user: Option<User>,
    /// Where images come from.
    pub registry: Registry,
    dir: TempDir,
    made: std::cell::Cell<u32>,
}

impl Updater {
    /// Installs `windlass update`, for root or a user with a manager of its own; none where there is no registry.
    pub fn new(rootless: bool) -> Option<Self> {
        let registry = Registry::open()?;
        let target = Programs::built().windlass.ancestors().nth(2).unwrap().to_owned();
        run(Command::new(source("scripts/install.sh")).args(["--update", "--debug"]).env("CARGO_TARGET_DIR", target));
        assert!(!Path::new("/usr/lib/systemd/system/windlass.service").exists(), "it is a package of its own");
        let user = rootless.then(|| {
            // Where images are: the kernel's overlay can't lie on that of the box.
            run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755", "none", "/home"]));
            run(Command::new("useradd").args(["--create-home", "--shell", "/bin/sh", USER]));
            run(Command::new("usermod").args([
                "--add-subuids",
                "900000-965535",
                "--add-subgids",
                "900000-965535",
                USER,
            ]));
            run(Command::new("loginctl").args(["enable-linger", USER]));
            let user = User::from_name(USER).unwrap().unwrap();
            let bus = format!("/run/user/{}/bus", user.uid);
            until("the user's manager runs", PATIENCE, || Path::new(&bus).exists());
            user
        });
        let dir = tempfile::Builder::new().prefix("updater-").tempdir().unwrap();
        run(Command::new("chmod").arg("0755").arg(dir.path()));
        let host = Self { user, registry, dir, made: std::cell::Cell::new(0) };
        host.trust(&format!("127.0.0.1:{}", host.registry.port));
        let base = fs::File::create(host.dir.path().join("base.tar")).unwrap();
        let made = Command::new(source("scripts/images.sh")).arg("busybox").stdout(base).status().unwrap();
        assert!(made.success());
        host.configure("");
        Some(host)
    }

    /// Has podman and windlass speak to a registry without TLS.
    pub fn trust(&self, registry: &str) {
        let directory = Path::new("/etc/containers/registries.conf.d");
        fs::create_dir_all(directory).unwrap();
        let name = format!("{}.conf", registry.replace(':', "-"));
        fs::write(directory.join(name), format!("[[registry]]\nlocation = \"{registry}\"\ninsecure = true\n")).unwrap();
    }

    /// Writes the configuration: these keys, beside those that make tests quick.
    pub fn configure(&self, keys: &str) {
        let is_given = |key: &str| keys.lines().any(|line| line.starts_with(&format!("{key} =")));
        let quick = [("delay", "0s"), ("settle", "1s")]
            .map(|(key, value)| if is_given(key) { String::new() } else { format!("{key} = \"{value}\"\n") });
        let path = self.config();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("[update]\n{}{keys}\n", quick.concat())).unwrap();
        self.own();
    }

    /// Writes a secret beside the configuration; returns where it is.
    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        let path = self.config().with_file_name(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_secret(path.clone(), text);
        self.own();
        path
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        let output = self.systemctl(&["show", "--property", name, "--value", unit]);
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Gives the user what was written for them.
    fn own(&self) {
        if let Some(user) = &self.user {
            let owner = format!("{}:{}", user.uid, user.gid);
            run(Command::new("chown").args(["--recursive", &owner]).arg(user.dir.join(".config")));
        }
    }

    fn config(&self) -> PathBuf {
        match &self.user {
            None => "/etc/windlass/update.toml".into(),
            Some(user) => user.dir.join(".config/windlass/update.toml"),
        }
    }

    /// Where it remembers.
    pub fn state(&self) -> PathBuf {
        match &self.user {
            None => "/var/lib/windlass-update".into(),
            Some(user) => user.dir.join(".local/state/windlass-update"),
        }
    }

    /// Where files go that last as long as the host runs.
    pub fn runtime(&self) -> PathBuf {
        match &self.user {
            None => "/run".into(),
            Some(user) => format!("/run/user/{}", user.uid).into(),
        }
    }

    /// The root of the file system with its images, which is a tmpfs.
    pub fn disk(&self) -> &'static Path {
        Path::new(if self.user.is_some() { "/home" } else { "/var/lib/containers" })
    }

    /// The record of a unit; null where there is none.
    pub fn record(&self, unit: &str) -> Value {
        let text = fs::read(self.state().join("units").join(format!("{unit}.json"))).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// A command of the user's, as in a session.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir("/");
        match &self.user {
            None => command.env("HOME", "/root"),
            Some(user) => {
                let runtime = format!("/run/user/{}", user.uid);
                command.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={runtime}/bus"));
                command.env("XDG_RUNTIME_DIR", runtime).env("HOME", &user.dir);
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw())
            }
        };
        command
    }

    /// Runs podman, which has to succeed; returns what it printed on stdout.
    pub fn podman(&self, arguments: &[&str]) -> String {
        let output = self.command("podman").args(arguments).output().unwrap();
        assert!(output.status.success(), "podman {arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs systemctl for the user's manager.
    pub fn systemctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.command("systemctl");
        command.args(self.user.is_some().then_some("--user")).args(arguments).output().unwrap()
    }

    fn units(&self) -> PathBuf {
        match &self.user {
            None => "/etc/systemd/system".into(),
            Some(user) => user.dir.join(".config/systemd/user"),
        }
    }

    /// Writes a unit.
    pub fn write_unit(&self, name: &str, content: &str) {
        let path = self.units().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.own();
    }

    /// Has systemd read the units, and starts one.
    pub fn start(&self, unit: &str) {
        self.systemctl(&["daemon-reload"]);
        let output = self.systemctl(&["start", unit]);
        assert!(output.status.success(), "start {unit}: {}\n{}", text(&output), self.journal(unit));
    }

    /// Makes and starts a service with a container, with these further options: for root as `podman generate systemd --new` writes it, for a
    /// user with podman in the foreground, since a box lets no user's podman stay in its unit's cgroup.
    pub fn service(&self, name: &str, image: &str, options: &str) {
        self.service_with(name, image, options, "");
    }

    /// The same with further lines in its unit.
    pub fn service_with(&self, name: &str, image: &str, options: &str, lines: &str) {
        let (kind, detached) = match self.user {
            None => ("Type=notify\nNotifyAccess=all", "--cgroups=no-conmon --sdnotify=conmon -d"),
            Some(_) => ("Type=exec", "--sdnotify=ignore"),
        };
        let unit = format!(
            "{lines}\n[Unit]\nDescription={name}\n[Service]\nEnvironment=PODMAN_SYSTEMD_UNIT=%n\nRestart=on-failure\nTimeoutStopSec=70\n\
             ExecStartPre=/bin/rm -f %t/%n.ctr-id\n\
             ExecStart=/usr/bin/podman run --cidfile=%t/%n.ctr-id --rm --replace {detached} --network none --name {name} {options} {image}\n\
             ExecStop=/usr/bin/podman stop --ignore -t 5 --cidfile=%t/%n.ctr-id\n\
             ExecStopPost=/usr/bin/podman rm -f --ignore -t 5 --cidfile=%t/%n.ctr-id\n{kind}\n"
        );
        self.write_unit(&format!("{name}.service"), &unit);
        self.start(&format!("{name}.service"));
        until("its container runs", PATIENCE, || self.try_container(name).is_some());
    }

    /// Makes and starts a pod of these containers: for root with the units that podman itself writes, for a user with one unit for all,
    /// since a box lets no user's podman stay in its unit's cgroup.
    pub fn pod(&self, pod: &str, containers: &[(&str, &str)]) {
        if self.user.is_some() {
            return self.pod_of_user(pod, containers);
        }
        self.podman(&["pod", "create", "--network", "none", "--name", pod]);
        for (name, image) in containers {
            let label = "io.containers.autoupdate=registry";
            self.podman(&["create", "--pod", pod, "--name", name, "--label", label, image]);
        }
        let written =
            self.podman(&["generate", "systemd", "--new", "--name", "--format", "json", "--stop-timeout", "5", pod]);
        let units: serde_json::Map<String, Value> = serde_json::from_str(&written).unwrap();
        self.podman(&["pod", "rm", "--force", pod]);
        for (name, content) in &units {
            self.write_unit(&format!("{name}.service"), content.as_str().unwrap());
        }
        self.start(&format!("pod-{pod}.service"));
        for (name, _) in containers {
            self.start(&format!("container-{name}.service"));
        }
    }

    fn pod_of_user(&self, pod: &str, containers: &[(&str, &str)]) {
        let run = |(name, image): &(&str, &str)| {
            format!(
                "podman run -d --replace --pod {pod} --name {name} --label io.containers.autoupdate=registry {image}; "
            )
        };
        let names: Vec<&str> = containers.iter().map(|(name, _)| *name).collect();
        let unit = format!(
            "[Unit]\nDescription=Pod {pod}\n[Service]\nType=exec\nEnvironment=PODMAN_SYSTEMD_UNIT=%n\nRestart=on-failure\nTimeoutStopSec=70\n\
             ExecStart=/bin/sh -c 'set -e; podman pod create --replace --network none --name {pod}; {}exec podman wait {}'\n\
             ExecStop=/usr/bin/podman pod stop --ignore -t 5 {pod}\nExecStopPost=/usr/bin/podman pod rm --force --ignore {pod}\n",
            containers.iter().map(run).collect::<String>(),
            names.join(" "),
        );
        self.write_unit(&format!("pod-{pod}.service"), &unit);
        self.start(&format!("pod-{pod}.service"));
        for name in names {
            until("its container runs", PATIENCE, || self.try_container(name).is_some());
        }
    }

    /// Pushes a new image, which does this, to a tag of the registry; returns its id. `weight`: bytes of a layer that nobody has.
    pub fn push(&self, image: &str, does: Does, weight: usize) -> String {
        self.push_with(image, does, weight, &[])
    }

    /// The same with further options of `podman push`.
    pub fn push_with(&self, image: &str, does: Does, weight: usize, options: &[&str]) -> String {
        let number = self.made.get();
        self.made.set(number + 1);
        let name = format!("localhost/made:{number}");
        let cmd = serde_json::to_string(&["/bin/sh", "-c", does.script()]).unwrap();
        let tar = self.dir.path().join("image.tar");
        fs::copy(self.dir.path().join("base.tar"), &tar).unwrap();
        let own = self.dir.path().join("own");
        let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(weight.max(16)).collect();
        fs::write(&own, bytes).unwrap();
        run(Command::new("tar")
            .arg("--append")
            .arg("--file")
            .arg(&tar)
            .arg("--directory")
            .arg(self.dir.path())
            .arg("own"));
        let root = |arguments: &[&str]| {
            let output = Command::new("podman").args(arguments).stdin(Stdio::null()).output().unwrap();
            assert!(output.status.success(), "podman {arguments:?}: {}", text(&output));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        root(&["import", "--quiet", "--change", &format!("CMD {cmd}"), tar.to_str().unwrap(), &name]);
        let id = root(&["image", "inspect", "--format", "{{.Id}}", &name]);
        root(&[&["push", "--quiet"], options, &[name.as_str(), image]].concat());
        root(&["rmi", &name]);
        id
    }

    /// Runs `windlass update`.
    pub fn windlass(&self, arguments: &[&str]) -> Output {
        self.command("windlass").arg("update").args(arguments).output().unwrap()
    }

    /// Runs `windlass update run`; returns its exit code and what came of each unit.
    pub fn run(&self) -> (i32, Value) {
        self.json(&["run"])
    }

    /// Runs `windlass update`; returns its exit code and its JSON.
    pub fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.windlass(&[arguments, &["--json"]].concat());
        let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
        eprintln!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), value)
    }

    /// The id of a running container, and that of its image.
    pub fn container(&self, name: &str) -> (String, String) {
        self.try_container(name).unwrap_or_else(|| panic!("container {name} does not run"))
    }

    /// The same where it may not run.
    pub fn try_container(&self, name: &str) -> Option<(String, String)> {
        let format = "{{.State.Running}} {{.Id}} {{.Image}}";
        let output = self.command("podman").args(["inspect", "--type", "container", "--format", format, name]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let mut words = text.split_whitespace();
        (words.next() == Some("true")).then_some((words.next()?.to_owned(), words.next()?.to_owned()))
    }

    /// The id of the image that a name is on this host; none: there is none.
    pub fn image(&self, name: &str) -> Option<String> {
        let output = self.command("podman").args(["image", "inspect", "--format", "{{.Id}}", name]).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    /// What the journal has of a unit.
    pub fn journal(&self, unit: &str) -> String {
        let kind = if self.user.is_some() { "--user-unit" } else { "--unit" };
        text(&Command::new("journalctl").args(["--no-pager", kind, unit]).output().unwrap())
    }

    /// Stops units, so that the box ends quickly.
    pub fn stop(&self, units: &[&str]) {
        self.systemctl(&[&["stop"], units].concat());
    }
}

/// What came of a unit, of a report; empty where it is not in it.
pub fn outcome<'a>(report: &'a Value, unit: &str) -> &'a str {
    let units = report["units"].as_array().unwrap();
    units.iter().find(|found| found["unit"] == unit).and_then(|found| found["outcome"].as_str()).unwrap_or_default()
}
