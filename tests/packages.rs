//! The packages of scripts/package.sh: installed, upgraded while a job runs, used, removed and purged, in a box (scripts/box.sh).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::unistd::getuid;
use support::boxed::in_a_box_with;
use support::installed::{Installed, PATIENCE, run, source, text};
use support::packages::{self, PACKAGES, package};
use support::storage::on_path;
use support::{Image, Job, Runner, State, until};

/// Settings that fit a box: no registry, no network.
const SETTINGS: &str = "slots = 2\npurge = { min_free = \"0%\", min_free_inodes = 0 }\n[job]\nnetwork = \"none\"\n\
                        pull_policy = \"never\"\nbuild_storage = \"none\"\nhelper.mode = \"inject\"\n";

#[test]
fn packages_are_sound_and_can_be_installed_upgraded_used_and_removed() {
    if !getuid().is_root() || !on_path("systemd-nspawn") {
        return support::boxed::skip("a box takes root and systemd-nspawn");
    }
    let directory = tempfile::Builder::new().prefix("wl-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for version in ["0.1.0", "0.1.1"] {
        packages::make(version, directory.path(), &[]);
    }
    for name in ["windlass-cli_0.1.1", "windlass_0.1.1", "windlass-update_0.1.1"] {
        let architecture = run(Command::new("dpkg").arg("--print-architecture"));
        let file = directory.path().join(format!("{name}_{}.deb", architecture.trim()));
        run(Command::new("lintian").args(["--fail-on", "error", "--allow-root"]).arg(file));
    }
    in_a_box_with("debian_packages_in_the_box", &[(PACKAGES, directory.path())]);
    in_a_box_with("variants_in_the_box", &[(PACKAGES, directory.path())]);
    in_a_box_with("rpm_packages_in_the_box", &[(PACKAGES, directory.path())]);
}

fn nothing_has_started() {
    for unit in ["windlass.socket", "windlass.service", "windlass-update.timer", "windlass-update-watch.service"] {
        let state =
            |what: &str| text(&Command::new("systemctl").args([what, unit]).output().unwrap()).trim().to_owned();
        assert_eq!((state("is-enabled"), state("is-active")), ("disabled".into(), "inactive".into()), "{unit}");
    }
}

fn exists(paths: &[&str], there: bool) {
    for path in paths {
        assert_eq!(Path::new(path).exists(), there, "{path}");
    }
}

/// Of the daemon's package, without data.
const PROGRAMS: [&str; 4] = [
    "/usr/bin/windlassd",
    "/usr/libexec/windlass/windlass-init",
    "/usr/lib/systemd/system/windlass.service",
    "/usr/share/windlass/rootful.conf",
];

/// An upgrade while a job runs; then a job that runs from beginning to end.
fn a_job_outlives(windlass: &Installed, upgrade: impl Fn()) {
    let image = windlass.image(&Image::busybox());
    let runner = Runner::on(windlass);
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(PATIENCE).expect_code(0);
    attempt.run("get_sources").wait().expect_code(0);
    let call =
        attempt.run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\necho whole\n");
    call.wait_for_output("started");
    let before = windlass.pid().unwrap();
    upgrade();
    windlass.wait_for_another(before);
    assert!(call.is_running());
    let told = windlass.in_job(&attempt.lease(), &["touch", "/builds/go"]);
    assert!(told.status.success(), "{}", text(&told));
    call.wait().expect_code(0).expect_text("started\nwhole");
    attempt.finish();
    runner.play(&Job::new(&image).script(&["echo hello"])).expect(State::Success).expect_log("hello");
}

/// Installs this version, over another or not.
fn install(version: &str) {
    let file = |name: &str| package(&format!("{name}_{version}_"));
    let mut dpkg = Command::new("dpkg");
    dpkg.args(["--install", "--force-confold"]).args(["windlass-cli", "windlass", "windlass-update"].map(file));
    run(&mut dpkg);
}

#[test]
#[ignore = "runs in a box"]
fn debian_packages_in_the_box() {
    let windlass = Installed::by(
        false,
        || {
            install("0.1.0");
            nothing_has_started();
            exists(&PROGRAMS, true);
            exists(&["/usr/share/man/man1/windlass-chain-status.1.gz", "/usr/share/man/man8/windlassd.8.gz"], true);
            exists(&["/usr/share/bash-completion/completions/windlass", "/etc/windlass/windlass.toml"], true);
        },
        SETTINGS,
    );
    let complete = "source /usr/share/bash-completion/completions/windlass && complete -p windlass";
    run(Command::new("bash").args(["-c", complete]));
    let main = Path::new("/etc/windlass/windlass.toml");
    fs::write(main, "# mine\n").unwrap();
    a_job_outlives(&windlass, || install("0.1.1"));
    assert_eq!(fs::read_to_string(main).unwrap(), "# mine\n");
    run(Command::new("dpkg").args(["--remove", "windlass-update", "windlass"]));
    until("the daemon has ended", PATIENCE, || windlass.pid().is_none());
    exists(&PROGRAMS, false);
    exists(&["/etc/windlass/windlass.toml", "/var/lib/windlass/lanes", "/etc/windlass/conf.d"], true);
    run(Command::new("dpkg").args(["--purge", "windlass-update", "windlass"]));
    exists(&["/etc/windlass", "/var/lib/windlass/lanes", "/run/windlass", "/var/lib/systemd/linger/windlass"], false);
    let gone = text(&Command::new("dpkg-query").args(["--status", "windlass"]).output().unwrap());
    assert!(gone.contains("not installed"), "{gone}");
    run(Command::new("dpkg").args(["--purge", "windlass-cli"]));
}

/// Chooses a variant of the units with the commands of the page.
fn choose(variant: &str) {
    let page = fs::read_to_string(source("docs/service.md")).unwrap();
    let (_, block) = page.split_once("With packages, a variant is a link:\n\n```sh\n").expect("the commands");
    let (commands, _) = block.split_once("```").unwrap();
    let commands = commands.replace("sudo ", "").replace("rootful", variant);
    run(Command::new("bash").args(["-euo", "pipefail", "-c", &commands]));
}

/// Root's podman, and secrets that only systemd can read, chosen by links; nothing of that is left after a purge.
#[test]
#[ignore = "runs in a box"]
fn variants_in_the_box() {
    let windlass = Installed::by(
        true,
        || {
            install("0.1.0");
            ["rootful", "credentials"].into_iter().for_each(choose);
            fs::write("/etc/windlass/gitlab-token", "glpat-secret\n").unwrap();
        },
        SETTINGS,
    );
    a_job_outlives(&windlass, || install("0.1.1"));
    assert_eq!(windlass.property("User"), "root");
    let token = fs::read_to_string("/run/credentials/windlass.service/gitlab-token").unwrap();
    assert_eq!(token, "glpat-secret\n");
    let ours = ["ps", "--all", "--quiet", "--filter", "label=io.windlass.daemon"];
    let containers = || text(&windlass.podman(&ours)).lines().count();
    let image = windlass.image(&Image::busybox());
    let runner = Runner::on(&windlass);
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.configure().expect_code(0);
    attempt.prepare().wait_for(PATIENCE).expect_code(0);
    run(Command::new("dpkg").args(["--remove", "windlass-update", "windlass"]));
    until("the daemon has ended", PATIENCE, || windlass.pid().is_none());
    assert_eq!(containers(), 1, "no removal of a package is the end of a job");
    let links = ["rootful", "credentials"].map(|name| format!("/etc/systemd/system/windlass.service.d/50-{name}.conf"));
    assert!(links.iter().all(|link| fs::symlink_metadata(link).is_ok()));
    run(Command::new("dpkg").args(["--purge", "windlass-update", "windlass"]));
    assert_eq!(containers(), 0);
    exists(
        &["/etc/windlass", "/var/lib/windlass/lanes", "/run/windlass", "/etc/systemd/system/windlass.service.d"],
        false,
    );
    install("0.1.1");
    assert_eq!(windlass.property("User"), "windlass");
}

/// Programs that stand in for SELinux's and note how they were called: this machine has no such kernel.
fn stand_in_for_selinux() {
    for name in ["selinuxenabled", "semanage", "restorecon"] {
        let path = Path::new("/usr/sbin").join(name);
        fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\" >>/run/selinux-calls\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
#[ignore = "runs in a box"]
fn rpm_packages_in_the_box() {
    stand_in_for_selinux();
    let rpm = |arguments: &[&str], version: &str| {
        let names = ["windlass-cli", "windlass", "windlass-update"];
        let files = names.map(|name| package(&format!("{name}-{version}-1.")));
        // What they depend on is there, but not by this package manager.
        run(Command::new("rpm").args(arguments).args(["--nodeps", "--nosignature"]).args(files))
    };
    let windlass = Installed::by(
        false,
        || {
            rpm(&["--install"], "0.1.0");
            nothing_has_started();
            exists(&PROGRAMS, true);
        },
        SETTINGS,
    );
    let labelled = fs::read_to_string("/run/selinux-calls").unwrap();
    for call in [
        "semanage fcontext --add --type container_runtime_exec_t /usr/bin/windlassd",
        "semanage fcontext --add --type container_file_t /var/lib/windlass/lanes(/.*)?",
        "semanage fcontext --add --equal /var/lib/containers /var/lib/windlass/.local/share/containers",
        "semanage fcontext --add --type container_ro_file_t /var/lib/windlass/mounted(/.*)?",
        "restorecon -R /usr/bin/windlassd",
    ] {
        assert!(labelled.lines().any(|line| line == call), "{call} in\n{labelled}");
    }
    let main = Path::new("/etc/windlass/windlass.toml");
    fs::write(main, "# mine\n").unwrap();
    a_job_outlives(&windlass, || drop(rpm(&["--upgrade"], "0.1.1")));
    assert_eq!(fs::read_to_string(main).unwrap(), "# mine\n");
    exists(&["/usr/share/zsh/site-functions/_windlass", "/usr/share/bash-completion/completions/windlass"], true);
    run(Command::new("rpm").args(["--erase", "--nodeps", "windlass-update", "windlass", "windlass-cli"]));
    exists(&PROGRAMS, false);
    exists(&["/usr/libexec/windlass", "/usr/share/windlass", "/usr/share/doc/windlass"], false);
    exists(&["/var/lib/windlass/lanes"], true);
    let labelled = fs::read_to_string("/run/selinux-calls").unwrap();
    assert!(labelled.lines().any(|line| line == "semanage fcontext --delete /usr/bin/windlassd"), "{labelled}");
}
