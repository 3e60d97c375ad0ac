//! The packages of scripts/package.sh: installed, upgraded while a job runs, used, removed and purged, in a box (scripts/box.sh).

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{User, getuid};
use support::boxed::in_a_box_with;
use support::installed::{Installed, PATIENCE, run, source, text};
use support::packages::{self, PACKAGES, package};
use support::programs::Programs;
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
    what_jobs_need_comes_along(directory.path());
    in_a_box_with("debian_packages_in_the_box", &[(PACKAGES, directory.path())]);
    in_a_box_with("variants_in_the_box", &[(PACKAGES, directory.path())]);
    in_a_box_with("rpm_packages_in_the_box", &[(PACKAGES, directory.path())]);
    in_a_box_with("care_for_what_is_there_in_the_box", &[(PACKAGES, directory.path())]);
}

/// What scripts/prepare.sh installs for every purpose and jobs need, as (program, Debian's package, Fedora's).
fn prepared() -> Vec<(String, String, String)> {
    // For building and for images of tests; the runtime comes with podman, and util-linux with every system.
    const NOT_FOR_JOBS: [&str; 4] = ["cc", "busybox", "setpriv", "git"];
    let script = fs::read_to_string(source("scripts/prepare.sh")).unwrap();
    let needs = script.lines().filter(|line| line.starts_with("need ")).map(|line| {
        let mut words = line.rsplit(' ').map(str::to_owned);
        let (fedora, debian) = (words.next().unwrap(), words.next().unwrap());
        (line.split(' ').nth(1).unwrap().to_owned(), debian, fedora)
    });
    let needs: Vec<_> = needs.filter(|(program, _, _)| !NOT_FOR_JOBS.contains(&program.as_str())).collect();
    assert!(needs.iter().any(|(program, _, _)| program == "iptables") && needs.len() > 5, "{needs:?}");
    needs
}

/// What the packages depend on and recommend, and what the page for hosts without packages names.
fn what_jobs_need_comes_along(directory: &Path) {
    let architecture = run(Command::new("dpkg").arg("--print-architecture"));
    let field = |package: &str, field: &str| {
        let file = directory.join(format!("{package}_0.1.1_{}.deb", architecture.trim()));
        run(Command::new("dpkg-deb").arg("--field").arg(file).arg(field))
    };
    for package in ["windlass", "windlass-cli"] {
        let depends = field(package, "Depends");
        assert!(depends.contains("libc6 (>= 2."), "an older libc would be taken for good: {depends}");
    }
    let debian = field("windlass", "Depends") + &field("windlass", "Recommends");
    let rpm = directory.join(format!("windlass-0.1.1-1.{}.rpm", std::env::consts::ARCH));
    let rpm = run(Command::new("rpm").args(["--query", "--recommends", "--requires", "--package"]).arg(rpm));
    let page = fs::read_to_string(source("docs/first-job.md")).unwrap();
    let (_, page) = page.split_once("Without packages, ").expect("what to install by hand");
    let page = page.split("\n\n").next().unwrap();
    let has = |text: &str, name: &str| text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == name);
    for (program, of_debian, of_fedora) in prepared() {
        assert!(has(&debian, &of_debian), "{program}: no {of_debian} in {debian}");
        assert!(has(&rpm, &of_fedora), "{program}: no {of_fedora} in {rpm}");
        assert!(has(page, &of_debian), "{program}: no {of_debian} in {page}");
    }
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
            exists(&["/etc/windlass/conf.d"], true);
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

/// An upgrade to a release that refuses the configuration, gitlab-runner without Windlass, and purges of one package where the other is.
#[test]
#[ignore = "runs in a box"]
fn care_for_what_is_there_in_the_box() {
    let dpkg = |arguments: &[&str], files: &[PathBuf]| run(Command::new("dpkg").args(arguments).args(files));
    let install = |version: &str| {
        let files = ["windlass-cli", "windlass", "windlass-update"].map(|name| package(&format!("{name}_{version}_")));
        dpkg(&["--install", "--force-confold"], &files)
    };
    run(Command::new("useradd").args(["--system", "--create-home", "gitlab-runner"]));
    let unit = "[Service]\nUser=gitlab-runner\nType=exec\nExecStart=/bin/sh -c 'trap exit QUIT; while :; do sleep 0.1; done'\n";
    fs::write("/etc/systemd/system/gitlab-runner.service", unit).unwrap();
    install("0.1.0");
    run(Command::new("systemctl").args(["start", "gitlab-runner.service"]));
    nothing_has_started();
    run(Command::new("systemctl").args(["stop", "gitlab-runner.service"]));
    let windlass = Installed::found(false, &[]);
    windlass.configure("50-test.toml", SETTINGS);
    windlass.systemctl(&["enable", "--quiet", "--now", "windlass.socket", "windlass.service"]);

    windlass.configure("60-old.toml", "key_of_an_older_release = 1\n");
    let before = windlass.pid();
    assert!(before.is_some());
    let said = install("0.1.1");
    for part in ["60-old.toml:1:1: key_of_an_older_release", "windlass check && systemctl restart windlass"] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert_eq!(windlass.pid(), before, "the daemon runs on");
    windlass.status();
    let installed = run(Command::new("dpkg-query").args(["--show", "--showformat=${Status} ${Version}", "windlass"]));
    assert_eq!(installed, "install ok installed 0.1.1");
    fs::remove_file("/etc/windlass/conf.d/60-old.toml").unwrap();
    windlass.restart();

    a_secret_is_made_as_the_pages_say();
    let secrets = ["/etc/windlass/gitlab-token", "/etc/windlass/webhook-secret", "/etc/windlass/page-token"];
    let others = ["/etc/windlass/update.toml", "/etc/windlass/feed-token", "/etc/windlass/corporate-ca.pem"];
    for path in secrets.iter().chain(&others[1..]) {
        fs::write(path, "x\n").unwrap();
    }
    dpkg(&["--purge", "windlass"], &[]);
    exists(&secrets, false);
    exists(&["/etc/windlass/windlass.toml", "/etc/windlass/conf.d", "/var/lib/windlass/lanes", "/run/windlass"], false);
    exists(&others, true);
    assert_eq!(dpkg(&["--verify", "windlass-update"], &[]), "", "it has all that it came with");
    fs::remove_file("/etc/windlass/corporate-ca.pem").unwrap();
    fs::create_dir_all("/var/lib/windlass-update/journeys").unwrap();
    dpkg(&["--remove", "windlass-update"], &[]);
    exists(&["/var/lib/windlass-update/journeys"], true);
    dpkg(&["--purge", "windlass-update"], &[]);
    exists(&["/var/lib/windlass-update", "/etc/windlass"], false);
}

/// Types in what makes a secret that nobody has to know beforehand.
fn a_secret_is_made_as_the_pages_say() {
    let windlass = User::from_name("windlass").unwrap().unwrap();
    for (page, name) in [("docs/updates.md", "feed-token"), ("docs/service.md", "webhook-secret")] {
        let text = fs::read_to_string(source(page)).unwrap();
        let (_, rest) = text.split_once("head -c 24").expect(page);
        let command = format!("head -c 24{}", rest.split(['\n', '`']).next().unwrap()).replace("sudo ", "");
        run(Command::new("bash").args(["-euo", "pipefail", "-c", &command]));
        let file = Path::new("/etc/windlass").join(name);
        let about = fs::metadata(&file).unwrap();
        assert_eq!((about.mode() & 0o777, about.uid()), (0o600, windlass.uid.as_raw()), "{page}: {command}");
        assert!(fs::read_to_string(&file).unwrap().len() > 32);
    }
}

#[test]
fn an_installation_stays_of_its_kind_until_told_otherwise() {
    let root = tempfile::tempdir().unwrap();
    let target = Programs::built().windlassd.ancestors().nth(2).unwrap().to_owned();
    let install = |options: &[&str]| {
        let mut install = Command::new(source("scripts/install.sh"));
        install.args(["--debug", "--root"]).arg(root.path()).args(options).env("CARGO_TARGET_DIR", &target);
        run(&mut install);
        let drop_in = |name: &str| root.path().join("usr/lib/systemd/system/windlass.service.d").join(name).exists();
        (drop_in("50-rootful.conf"), drop_in("50-credentials.conf"))
    };
    assert_eq!(install(&[]), (false, false));
    assert_eq!(install(&["--rootful", "--credentials"]), (true, true));
    assert_eq!(install(&[]), (true, true));
    assert_eq!(install(&["--rootless"]), (false, true));
    assert_eq!(install(&["--rootful"]), (true, true));
    assert_eq!(install(&["--no-credentials"]), (true, false));
    assert_eq!(install(&[]), (true, false));
}

#[test]
fn no_service_may_leave_its_secrets_in_a_core_dump() {
    let units = ["system/windlass.service"].map(str::to_owned).into_iter().chain(
        ["system", "user"]
            .iter()
            .flat_map(|kind| ["", "-watch"].map(|part| format!("update/{kind}/windlass-update{part}.service"))),
    );
    for unit in units {
        let text = fs::read_to_string(source("systemd").join(&unit)).unwrap();
        // No hard limit: it would be that of jobs too.
        assert!(text.lines().any(|line| line == "LimitCORE=0:infinity"), "{unit}");
    }
}

#[test]
fn the_page_takes_away_the_rules_for_selinux_that_a_purge_does() {
    let script = fs::read_to_string(source("scripts/package/daemon.sh")).unwrap();
    let (_, purge) = script.split_once("    purged)").unwrap();
    let rules: Vec<&str> = purge.split_whitespace().map(|word| word.trim_matches('\'')).collect();
    let rules = rules.into_iter().filter(|word| word.starts_with("/var/lib/windlass/"));
    let page = fs::read_to_string(source("docs/service.md")).unwrap();
    let missing: Vec<&str> =
        rules.clone().filter(|rule| !page.contains(&format!("sudo semanage fcontext --delete '{rule}'\n"))).collect();
    assert!(rules.count() == 5 && missing.is_empty(), "{missing:?}");
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
            exists(&["/etc/windlass/conf.d"], true);
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
