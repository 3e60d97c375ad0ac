//! `windlass doctor` on a host that was just installed, of which it has nothing bad to say; and one thing broken after the other: each is
//! named, nothing else is, and the commands that it names mend it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use nix::unistd::User;
use serde_json::Value;

use crate::support::boxed::in_a_box;
use crate::support::installed::{Installed, PATIENCE, run};
use crate::support::{Image, Job, Runner, State, until};
use crate::{SETTINGS, nothing_is_left, pages};

/// What needs no network, and does not depend on what this machine has of GitLab's.
const SUBJECTS: [&str; 9] = ["config", "service", "podman", "ids", "cgroups", "disk", "socket", "runner", "helper"];
/// What is looked at on a new host, where all of it is as it should be.
const CHECKS: [&str; 31] = [
    "config",
    "daemon",
    "service-user",
    "units",
    "linger",
    "runtime-directory",
    "podman",
    "storage-driver",
    "network-backend",
    "runtime",
    "subuids",
    "subgids",
    "ids-in-use",
    "id-maps",
    "cgroup-version",
    "controllers",
    "limits",
    "state-directory",
    "run-directory",
    "disk-state",
    "disk-images",
    "disk-run",
    "socket",
    "socket-users",
    "socket-caller",
    "runner-config",
    "runner-executables",
    "runner-timeouts",
    "runner-concurrent",
    "runner-stop",
    "helper",
];
/// What a box may lack: the kernel's overlay for others than root, and controllers of cgroups.
const OF_THE_KERNEL: [&str; 2] = ["storage-driver", "controllers"];
/// gitlab-runner's configuration.
const RUNNER_CONFIG: &str = "/etc/gitlab-runner/config.toml";
/// What an administrator has changed of gitlab-runner's unit with `systemctl edit`.
const OVERRIDE: &str = "/etc/systemd/system/gitlab-runner.service.d/override.conf";

#[test]
fn doctor_has_nothing_to_say_of_a_new_host_and_what_it_names_of_a_broken_one_mends_it() {
    in_a_box("doctor::in_the_box");
}

#[test]
fn doctor_has_nothing_to_say_of_a_rootful_host_and_sees_that_packets_get_lost() {
    in_a_box("doctor::rootful_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn rootful_in_the_box() {
    let windlass = Installed::new(true, SETTINGS);
    let doctor = Doctor { windlass, usual: BTreeMap::new() };
    gitlab_runner();
    let found = doctor.otherwise(&doctor.look());
    let is_kernels = |finding: &&Value| OF_THE_KERNEL.contains(&finding["check"].as_str().unwrap());
    assert!(found.iter().all(|finding| is_kernels(&finding)), "{found:#?}");
    // The gateway of podman's network is this host, for itself and for containers.
    let server = Server::start();
    doctor.windlass.configure("60-gitlab.toml", &format!("[gitlab]\nurl = 'http://10.88.0.1:{}'\n", server.port));
    doctor.windlass.systemctl(&["restart", "windlass.service"]);
    let network = || {
        let report = doctor.windlass.json(&["doctor", "--only", "network"]);
        let findings = report["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|finding| finding["check"] == "mtu").unwrap_or_else(|| panic!("{report:#}"))
    };
    let passes = network();
    assert_eq!(passes["level"], "ok", "{passes:#}");
    let loses = format!("INPUT -p tcp --dport {} -m length --length 1000: -j DROP", server.port);
    command(&format!("iptables -I {loses}"));
    let lost = network();
    command(&format!("iptables -D {loses}"));
    assert!(lost["level"] == "error" && lost["what"].as_str().unwrap().contains("large packets are lost"), "{lost:#}");
    assert!(lost["remedy"].as_str().unwrap().contains("network_mtu = 1400"), "{lost:#}");
    nothing_is_left(&doctor.windlass);
}

/// Answers each HTTP request with nothing, on every address, until the box ends.
struct Server {
    port: u16,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = |mut caller: TcpStream| {
            let lines = BufReader::new(caller.try_clone().unwrap()).lines();
            let _ = lines.map_while(Result::ok).find(String::is_empty);
            let _ = caller.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        };
        thread::spawn(move || {
            listener.incoming().flatten().for_each(|caller| drop(thread::spawn(move || answer(caller))))
        });
        Self { port }
    }
}

#[test]
#[ignore = "runs in a box"]
fn in_the_box() {
    let windlass = Installed::new(false, SETTINGS);
    let mut doctor = Doctor { windlass, usual: BTreeMap::new() };
    doctor.lets_a_host_be_that_waits_for_gitlab_runner();
    gitlab_runner();
    doctor.has_nothing_to_say_of_a_new_host();
    doctor.mends_the_service();
    doctor.mends_the_ids();
    doctor.mends_what_is_gitlab_runners();
    doctor.says_what_there_is_not();
    // It is none that could be loaded.
    fs::remove_file(archive()).unwrap();
    let image = doctor.windlass.image(&Image::busybox());
    let runner = Runner::on(&doctor.windlass);
    runner.play(&Job::new(&image).profile("connected").script(&["echo hello"])).expect(State::Success);
    nothing_is_left(&doctor.windlass);
}

/// What gitlab-runner's packages and its registration leave, with the block of the page, and the archive of its helper.
fn gitlab_runner() {
    let blocks = pages::blocks("docs/first-job.md");
    let (_, lines) = blocks.iter().find(|(_, lines)| lines[0].starts_with("concurrent = ")).expect("the block");
    write(RUNNER_CONFIG, &(lines.join("\n") + "\n"));
    fs::set_permissions(RUNNER_CONFIG, PermissionsExt::from_mode(0o600)).unwrap();
    let unit = "[Service]\nUser=gitlab-runner\nType=exec\nExecStart=/bin/sleep infinity\n";
    write("/etc/systemd/system/gitlab-runner.service", unit);
    write(&archive(), "");
    command("systemctl daemon-reload && systemctl start gitlab-runner.service");
}

/// Where the package of helper images has that of this machine.
fn archive() -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { std::env::consts::ARCH };
    format!("/usr/lib/gitlab-runner/helper-images/prebuilt-alpine-{architecture}.tar.xz")
}

fn write(path: &str, text: &str) {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Types in a line of shell, as root.
fn command(line: &str) -> String {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", line]).stdin(Stdio::null()))
}

/// What a check is expected to say: its name, the level, some of its words.
type Named = (&'static str, &'static str, &'static str);

/// Who looks at the host.
struct Doctor {
    windlass: Installed,
    /// The worst level of each check on the new host.
    usual: BTreeMap<String, String>,
}

impl Doctor {
    fn look(&self) -> Vec<Value> {
        let only = SUBJECTS.iter().flat_map(|subject| ["--only", subject]);
        let report = self.windlass.json(&[&["doctor"][..], &only.collect::<Vec<_>>()].concat());
        report["findings"].as_array().unwrap_or_else(|| panic!("{report}")).clone()
    }

    /// What is otherwise than on the new host. What could not be looked at is not.
    fn otherwise(&self, findings: &[Value]) -> Vec<Value> {
        let is_usual = |finding: &Value| {
            let level = finding["level"].as_str().unwrap();
            level == "ok" || self.usual.get(finding["check"].as_str().unwrap()).is_some_and(|usual| usual == level)
        };
        findings.iter().filter(|finding| !is_usual(finding)).cloned().collect()
    }

    fn lets_a_host_be_that_waits_for_gitlab_runner(&self) {
        // Its user comes with its package, and its unit.
        let uid = User::from_name("gitlab-runner").unwrap().unwrap().uid;
        command("userdel gitlab-runner");
        let findings = self.look();
        command(&format!("useradd --system --uid {uid} gitlab-runner"));
        assert!(findings.iter().all(|finding| finding["level"] != "error"), "{findings:#?}");
        let skipped = findings.iter().find(|finding| finding["check"] == "runner-config").expect("said");
        assert_eq!(skipped["level"], "skipped", "{skipped}");
        let helper = findings.iter().find(|finding| finding["check"] == "helper").expect("said");
        assert!(helper["level"] == "warning" && helper.to_string().contains("gitlab-runner-helper-images"), "{helper}");
    }

    fn has_nothing_to_say_of_a_new_host(&mut self) {
        let findings = self.look();
        for finding in &findings {
            let (check, level) = (finding["check"].as_str().unwrap(), finding["level"].as_str().unwrap());
            let lacks = OF_THE_KERNEL.contains(&check) && level == "warning";
            assert!(level == "ok" || lacks, "{finding:#}");
            self.usual.insert(check.to_owned(), level.to_owned());
        }
        let found: BTreeSet<&str> = self.usual.keys().map(String::as_str).collect();
        assert_eq!(found, BTreeSet::from(CHECKS));
        let kernel = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
        let has_all =
            ["cpu", "memory", "pids"].iter().all(|name| kernel.split_whitespace().any(|there| there == *name));
        if has_all {
            assert_eq!(self.usual["controllers"], "ok", "{findings:#?}");
        } else {
            // What this kernel has not got, no unit can give.
            let said = findings.iter().find(|finding| finding["check"] == "controllers").unwrap();
            let remedy = said["remedy"].as_str().unwrap();
            assert!(remedy.contains("the kernel offers no") && !remedy.contains("systemctl edit"), "{remedy}");
        }
    }

    /// A line of shell breaks something. Doctor names these checks, all of them and no other; whoever does what it says has a host again
    /// of which it has nothing to say. Where that takes more than one look, each has a list of its own.
    fn mends(&self, breaks: &str, looks: &[&[Named]]) {
        // Of several commands the last one says whether it is mended.
        self.mends_by(breaks, looks, |remedy| {
            run(Command::new("bash").args(["-c", remedy]).stdin(Stdio::null()));
        });
    }

    fn mends_by(&self, breaks: &str, looks: &[&[Named]], does: impl Fn(&str)) {
        command(breaks);
        for named in looks {
            let found = self.otherwise(&self.look());
            let checks: BTreeSet<&str> = found.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
            assert_eq!(checks, named.iter().map(|(check, ..)| *check).collect(), "{breaks}: {found:#?}");
            for (check, level, words) in *named {
                let is_so = |finding: &&Value| {
                    finding["check"] == *check
                        && finding["level"] == *level
                        && finding["what"].as_str().unwrap().contains(words)
                };
                assert!(found.iter().any(|finding| is_so(&finding)), "no {level} {check} with {words:?}: {found:#?}");
            }
            let remedies: BTreeSet<&str> = found.iter().map(|finding| finding["remedy"].as_str().unwrap()).collect();
            eprintln!("{breaks}\n    {remedies:?}");
            remedies.into_iter().for_each(&does);
        }
        until(&format!("all is as before after {breaks}"), PATIENCE, || {
            let findings = self.look();
            let known: BTreeSet<&str> = findings.iter().map(|finding| finding["check"].as_str().unwrap()).collect();
            self.otherwise(&findings).is_empty() && known == self.usual.keys().map(String::as_str).collect()
        });
    }

    fn mends_the_service(&self) {
        let user = self.windlass.service();
        let (name, uid) = (&user.name, user.uid);
        self.mends(&format!("rm /var/lib/systemd/linger/{name}"), &[&[("linger", "error", "does not linger")]]);
        self.mends(
            &format!("systemctl stop user@{uid}.service"),
            &[&[
                ("runtime-directory", "error", "/run/user"),
                ("podman", "error", "/run/user"),
                ("controllers", "error", "has no manager"),
            ]],
        );
        let not_enabled = "is not enabled";
        self.mends("systemctl disable windlass.service", &[&[("units", "warning", not_enabled)]]);
        self.mends(
            "echo '# edited' >>/usr/lib/systemd/system/windlass.service",
            &[&[("units", "warning", "has changed on disk")]],
        );
        self.mends(
            "systemctl stop windlass.socket windlass.service",
            &[&[("daemon", "error", "cannot reach windlassd")]],
        );
        self.mends(
            "chmod 0600 /run/windlass/windlass.sock",
            &[&[("socket-caller", "error", "user gitlab-runner can't connect")]],
        );
        self.mends(
            "chmod 0666 /run/windlass/windlass.sock",
            &[&[("socket-mode", "warning", "every user may connect")]],
        );
    }

    fn mends_the_ids(&self) {
        let name = &self.windlass.service().name;
        let without = format!("sed -i '/^{name}:/d' /etc/subuid /etc/subgid");
        let gone: &[Named] =
            &[("subuids", "error", "has no ids in /etc/subuid"), ("subgids", "error", "has no ids in /etc/subgid")];
        let files = || ["subuid", "subgid"].map(|file| fs::read_to_string(Path::new("/etc").join(file)).unwrap());
        let before = files();
        self.mends(&format!("{without}; echo other:300000:1000 | tee -a /etc/subuid >>/etc/subgid"), &[gone]);
        command("sed -i '/^other:/d' /etc/subuid /etc/subgid");
        assert_eq!(before, files(), "it was the last, and has what it had");
        // podman was first called without any, and goes on so.
        let forgets = format!("{without}; systemd-run --quiet --pipe --uid={name} podman system migrate");
        let asked = format!("systemd-run --quiet --pipe --uid={name} podman info");
        let goes_on: &[Named] = &[("ids-in-use", "error", "goes on with the ids none")];
        self.mends(&format!("{forgets}; {asked}"), &[gone, goes_on]);
        // Others, while podman's storage has files of the former.
        let others = format!("{without}; usermod --add-subuids 300000-365535 --add-subgids 300000-365535 {name}");
        self.mends(&others, &[&[("ids-in-use", "warning", "300000-365535")]]);
        assert_eq!(before, files());
    }

    /// The daemon does without figures for a group that its user is not in, and without a page whose token it can't read.
    fn says_what_there_is_not(&self) {
        let token = "/etc/windlass/page-token";
        let settings = format!("[metrics]\ngroup = 'adm'\n[page]\ntoken_file = '{token}'\n");
        self.windlass.configure("60-parts.toml", &settings);
        write(token, "a-token-of-sixteen-characters");
        fs::set_permissions(token, PermissionsExt::from_mode(0o600)).unwrap();
        self.windlass.systemctl(&["restart", "windlass.service"]);
        let found = self.otherwise(&self.look());
        let words = |check: &str| {
            let of =
                found.iter().filter(|finding| finding["check"] == check).map(|finding| finding["what"].to_string());
            of.collect::<Vec<_>>().join("\n")
        };
        let (daemon, secret) = (words("daemon-warnings"), words("secret-file"));
        assert!(daemon.contains("there is no page") && daemon.contains("usermod -aG adm"), "{found:#?}");
        assert!(secret.contains("can't read /etc/windlass/page-token"), "{found:#?}");
        let remedy =
            found.iter().find(|finding| finding["check"] == "secret-file").unwrap()["remedy"].as_str().unwrap();
        command(&format!("usermod -aG adm {}", self.windlass.service().name));
        command(remedy);
        until("both are there", PATIENCE, || self.otherwise(&self.look()).is_empty());
        assert!(Path::new("/run/windlass/page.sock").exists() && Path::new("/run/windlass/admin.sock").exists());
        command(&format!("rm {token} /etc/windlass/conf.d/60-parts.toml; systemctl restart windlass.service"));
    }

    fn mends_what_is_gitlab_runners(&self) {
        let overrides = |line: &str| format!("echo $'[Service]\\n{line}' >{OVERRIDE}; systemctl daemon-reload");
        fs::create_dir_all(Path::new(OVERRIDE).parent().unwrap()).unwrap();
        self.mends(&overrides("KillSignal=SIGTERM"), &[&[("runner-stop", "warning", "another signal than SIGQUIT")]]);
        command("rm /etc/systemd/system/gitlab-runner.service.d/zz-stop.conf");
        self.mends(&overrides("TimeoutStopSec=90"), &[&[("runner-stop", "warning", "gets 1m 30s")]]);
        self.mends(&format!("chmod 0644 {RUNNER_CONFIG}"), &[&[("runner-config-mode", "warning", "mode 0644")]]);
        // Those are lines of the file; the last word says where.
        let put = |remedy: &str| {
            let (line, _) = remedy.split_once(" in ").unwrap_or_else(|| panic!("{remedy}"));
            let (key, _) = line.split_once(" = ").unwrap_or_else(|| panic!("{remedy}"));
            command(&format!("sed -i 's/^\\( *\\){key} = .*/\\1{line}/' {RUNNER_CONFIG}"));
        };
        for (key, old) in [
            ("config_exec_timeout", 300),
            ("prepare_exec_timeout", 600),
            ("cleanup_exec_timeout", 60),
            ("graceful_kill_timeout", 10),
        ] {
            let breaks = format!("sed -i 's/^\\( *\\){key} = .*/\\1{key} = {old}/' {RUNNER_CONFIG}");
            self.mends_by(&breaks, &[&[("runner-timeouts", "warning", key)]], put);
        }
        let many = format!("sed -i 's/^concurrent = .*/concurrent = 40/' {RUNNER_CONFIG}");
        self.mends_by(&many, &[&[("runner-concurrent", "warning", "let 40 jobs come at once")]], put);
        let program = "/usr/libexec/windlass/windlass-run";
        self.mends(&format!("chmod 0644 {program}"), &[&[("runner-executables", "error", "no program")]]);
        // What its package brings, without the network that fetches the package.
        let package = |remedy: &str| {
            assert!(remedy.contains("install gitlab-runner-helper-images"), "{remedy}");
            write(&archive(), "");
        };
        self.mends_by(&format!("rm {}", archive()), &[&[("helper", "warning", "there is no helper image")]], package);
    }
}
