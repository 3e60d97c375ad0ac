//! `windlass doctor`: a good host, and one thing broken after another.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::account::Account;
use support::chain::{Chain, TOKEN};
use support::registry::Registry;
use support::storage::Storage;
use support::tls::{Certificate, Impostor};
use support::tunnel::Tunnel;
use support::wait::seconds;
use support::{Host, Image, until};

/// The block of docs/first-job.md, for the executables of this host.
fn runner_config(host: &Host) -> String {
    let shim = |name: &str| {
        let (path, socket) = (host.programs.shim(name).display().to_string(), host.socket().display().to_string());
        format!("{name}_exec = '{path}'\n{name}_args = ['--socket', '{socket}']\n")
    };
    let shims: String = ["config", "prepare", "run", "cleanup"].map(shim).concat();
    format!(
        "concurrent = 4\n[[runners]]\nname = 'podman'\ntoken = 'glrt-secret'\nexecutor = 'custom'\n[runners.custom]\n{shims}\
         config_exec_timeout = 1200\nprepare_exec_timeout = 3600\ncleanup_exec_timeout = 120\n\
         graceful_kill_timeout = 60\nforce_kill_timeout = 10\n[runners.custom_build_dir]\nenabled = true\n"
    )
}

/// Writes gitlab-runner's configuration.
fn write_runner(host: &Host, text: &str) -> PathBuf {
    let path = host.dir().join("config.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Runs doctor as whoever runs the tests.
fn run(host: &Host, arguments: &[&str]) -> Output {
    let mut command = Command::new(&host.programs.windlass);
    command.arg("doctor").arg("--config").arg(host.config());
    command.arg("--runner-config").arg(host.dir().join("config.toml"));
    command.args(arguments).output().unwrap()
}

/// What doctor says, with its exit code.
fn doctor(host: &Host, arguments: &[&str]) -> (i32, Value) {
    reported(&run(host, &[&["--json"], arguments].concat()))
}

fn reported(output: &Output) -> (i32, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

/// The findings of a level.
fn findings<'a>(report: &'a Value, level: &str) -> Vec<&'a Value> {
    report["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == level).collect()
}

/// The worst finding of a check; fails the test when it has another level, or says nothing of what mends it.
#[track_caller]
fn expect<'a>(report: &'a Value, check: &str, level: &str, words: &str, remedy: &str) -> &'a Value {
    let found = findings(report, level)
        .into_iter()
        .find(|finding| finding["check"] == check && finding["what"].as_str().unwrap().contains(words));
    let found = found.unwrap_or_else(|| panic!("no {level} {check} with {words:?} in {report:#}"));
    assert!(found["remedy"].as_str().unwrap_or_default().contains(remedy), "{found:#}");
    found
}

#[test]
fn a_good_host_has_no_error_and_a_stopped_daemon_is_one() {
    let host = Host::start();
    write_runner(&host, &runner_config(&host));
    let (code, report) = doctor(&host, &[]);
    assert_eq!((code, findings(&report, "error")), (0, vec![]), "{report:#}");
    for (check, words) in [
        ("config", "is valid"),
        ("daemon", "answers, with 4 slot(s)"),
        ("podman", "podman "),
        ("container", "a container with a job's user namespace starts"),
        ("runner-executables", "all four executables are there"),
        ("runner-timeouts", "leave the daemon its own"),
        ("runner-concurrent", "at most 4 job(s) at once for the 4 slot(s)"),
        ("state-directory", "root's"),
        ("disk-images", " free for "),
    ] {
        expect(&report, check, "ok", words, "");
    }
    assert!(!report.to_string().contains("glrt-secret"), "tokens stay where they are");
    // Others' doctors have images of their own in the same storage, for a moment.
    until("its image is gone", seconds(60), || {
        let left = host.podman(&["images", "--quiet", "--filter", "reference=localhost/windlass/doctor"]);
        left.status.success() && left.stdout.is_empty()
    });

    host.end_daemon(Signal::SIGTERM);
    let (code, report) = doctor(&host, &[]);
    assert_eq!(code, 1);
    expect(&report, "daemon", "error", "windlassd is not running", "systemctl status windlass.service");
    expect(&report, "container", "ok", "starts", "");
    expect(&report, "build", "skipped", "windlassd does not answer", "");
    let shown = run(&host, &["--problems", "--quick"]);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    for words in [
        "Service\n  ERROR    windlassd is not running",
        "means  jobs wait for it",
        "mend   systemctl status",
        "skipped\n",
    ] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    assert!(!text.contains("\x1b") && !text.contains("  ok "), "no terminal, no colours: {text}");
    host.start_daemon();
}

#[test]
fn what_is_wrong_with_configuration_runner_socket_and_disk_is_named_with_its_remedy() {
    let host = Host::configured("[socket]\nallowed_users = ['nobody']\n[purge]\nmin_free = '100%'");
    let good = runner_config(&host);
    let wrong = good
        .replace("concurrent = 4", "concurrent = 40")
        .replace("prepare_exec_timeout = 3600", "prepare_exec_timeout = 60")
        + "[[runners]]\nname = 'sh'\nexecutor = 'shell'\n";
    write_runner(&host, &wrong);
    let (code, report) = doctor(&host, &["--only", "runner", "--only", "disk", "--only", "socket"]);
    assert_eq!(code, 0, "these are warnings: {report:#}");
    expect(&report, "runner-timeouts", "warning", "prepare_exec_timeout is 60 s", "prepare_exec_timeout = 3600");
    expect(&report, "runner-concurrent", "warning", "let 40 jobs come at once", "concurrent = 4 in");
    expect(&report, "disk-state", "warning", "[purge] wants", "windlass cache purge");
    expect(&report, "socket-caller", "ok", "user nobody may call", "");
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["subject"] != "podman"));
    let (code, _) = doctor(&host, &["--only", "runner", "--strict"]);
    assert_eq!(code, 1, "--strict takes warnings for errors");

    fs::set_permissions(host.socket(), Permissions::from_mode(0o600)).unwrap();
    let (code, report) = doctor(&host, &["--only", "socket"]);
    assert_eq!(code, 1);
    expect(&report, "socket-caller", "error", "user nobody can't connect", "systemctl restart windlass.socket");
    fs::set_permissions(host.socket(), Permissions::from_mode(0o666)).unwrap();

    let gone = good.replace("windlass-run'", "windlass-gone'");
    write_runner(&host, &gone);
    let (code, report) = doctor(&host, &["--only", "runner"]);
    assert_eq!(code, 1);
    expect(&report, "runner-executables", "error", "windlass-gone is not there", "install the package windlass again");

    fs::write(host.config(), fs::read_to_string(host.config()).unwrap() + "\n[jobs]\n").unwrap();
    // By the defaults podman would be this machine's own.
    let (code, report) = doctor(&host, &["--only", "ids", "--only", "config", "--only", "clock"]);
    assert_eq!(code, 1);
    assert_eq!(report["findings"][0]["check"], "config", "it comes first: {report:#}");
    expect(&report, "config", "error", "has 1 error", "windlass check");
    expect(&report, "subuids", "ok", "nobody else's", "");
}

#[test]
fn ids_are_looked_for_in_the_files_of_the_host() {
    let Ok(Account::Other(user)) = Account::rootless() else {
        return eprintln!("SKIPPED: only root can look with the eyes of another user");
    };
    let host = Host::start();
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let write =
        |text: &str| ["subuid", "subgid"].map(|name| fs::write(root.path().join("etc").join(name), text).unwrap());
    let look = || {
        let root = root.path().to_str().unwrap();
        doctor(&host, &["--only", "ids", "--user", &user.name, "--root", root])
    };
    write("somebody:100000:65536\n");
    let (code, report) = look();
    assert_eq!(code, 1);
    let remedy = format!("usermod --add-subuids 524288-589823 {}", user.name);
    expect(&report, "subuids", "error", "has no ids in /etc/subuid", &remedy);
    expect(&report, "subgids", "error", "has no ids in /etc/subgid", "usermod --add-subgids");
    write(&format!("{}:100000:65536\nsomebody:165000:65536\n", user.name));
    expect(&look().1, "subuids", "error", "overlap", "/etc/subuid");
    write(&format!("{}:100000:65536\n", user.name));
    let (code, report) = look();
    assert_eq!(code, 0, "{report:#}");
}

#[test]
fn root_asks_the_podman_of_the_services_user() {
    let Ok(account @ Account::Other(_)) = Account::rootless() else {
        return eprintln!("SKIPPED: only root can look with the eyes of another user");
    };
    let directory = Storage::of(&account).runtime_dir();
    let Some(host) = Host::rootless(&format!("[podman.environment]\nXDG_RUNTIME_DIR = '{}'", directory.display()))
    else {
        return;
    };
    let only = ["--only", "podman", "--only", "service", "--only", "network", "--only", "disk"];
    let (code, report) = doctor(&host, &only);
    assert_eq!((code, findings(&report, "error")), (0, vec![]), "{report:#}");
    assert_eq!(report["user"], "windlass-test");
    expect(&report, "storage-driver", "ok", host.storage.runtime_dir().parent().unwrap().to_str().unwrap(), "");
    expect(&report, "container", "ok", "starts", "");
    expect(&report, "state-directory", "ok", "windlass-test's", "");
}

#[test]
fn ulimits_with_which_no_container_starts_are_named_with_those_that_do() {
    if !nix::unistd::getuid().is_root() {
        return eprintln!("SKIPPED: a rootless podman takes its own limits");
    }
    // A host that is a container itself: lower limits, and nobody may raise them.
    let on_a_container_host = |host: &Host| {
        let mut command = Command::new("prlimit");
        command.args(["--nofile=8192:8192", "--nproc=8192:8192", "setpriv", "--bounding-set=-sys_resource"]);
        command.arg("--inh-caps=-sys_resource").arg(&host.programs.windlass).args(["doctor", "--json", "--config"]);
        reported(&command.arg(host.config()).args(["--only", "network"]).output().unwrap())
    };
    let host = Host::configured("[job.ulimits]\ncore = '0'");
    let (code, report) = on_a_container_host(&host);
    let remedy = "ulimits = { nofile = \"1024:4096\", nproc = \"4096\" }";
    expect(&report, "container", "error", "rlimit", remedy);
    assert_eq!(code, 1);
    host.configure(&format!("[job]\n{remedy}"));
    let (code, report) = on_a_container_host(&host);
    expect(&report, "container", "ok", "starts", "");
    assert_eq!(code, 0);
    // Those of services count too.
    host.configure(&format!("[job]\n{remedy}\nservice.ulimits = {{ core = '0' }}"));
    expect(&on_a_container_host(&host).1, "container", "error", "rlimit", remedy);
}

#[test]
fn gitlab_is_looked_for_from_inside_a_container() {
    let gitlab = support::gitlab::FakeGitlab::start();
    let host = Host::configured(&format!("[gitlab]\nurl = '{}'\n[job]\nnetwork = 'host'", gitlab.url()));
    let (code, report) = doctor(&host, &["--only", "network"]);
    assert_eq!(code, 0, "{report:#}");
    expect(&report, "reach", "ok", "GitLab at 127.0.0.1:", "");

    host.configure(&format!("[gitlab]\nurl = '{}'\n[job]\nnetwork = 'private'\ndns = ['192.0.2.1']", gitlab.url()));
    let (code, report) = doctor(&host, &["--only", "network"]);
    assert_eq!(code, 1);
    let found = expect(&report, "reach", "error", "is not reached", "network = \"host\"");
    assert!(found["what"].as_str().unwrap().contains("the host itself reaches it"), "{found:#}");

    let named = gitlab.url().replace("127.0.0.1", "gitlab.invalid");
    host.configure(&format!(
        "[gitlab]\nurl = '{named}'\n[job]\nnetwork = 'host'\nextra_hosts = {{ 'other.invalid' = '127.0.0.1' }}"
    ));
    expect(&doctor(&host, &["--only", "network"]).1, "dns", "error", "gitlab.invalid", "extra_hosts");
    host.configure(&format!(
        "[gitlab]\nurl = '{named}'\n[job]\nnetwork = 'host'\nextra_hosts = {{ 'gitlab.invalid' = '127.0.0.1' }}"
    ));
    expect(&doctor(&host, &["--only", "network"]).1, "reach", "ok", "GitLab at gitlab.invalid:", "");
}

/// The container has another address for the name than the host: there, somebody with a certificate of their own answers.
#[test]
fn a_certificate_is_judged_by_what_a_container_is_shown() {
    let Some((registry, authority)) = Registry::with_tls() else { return };
    let secrets = tempfile::tempdir().unwrap();
    let between = Impostor::start("127.0.0.2", registry.port, &Certificate::make(secrets.path()));
    let configured = |address: &str| {
        format!(
            "[job]\nnetwork = 'host'\nca_file = '{}'\ndefault_image = 'localhost:{}/base:1'\n\
             extra_hosts = {{ 'localhost' = '{address}' }}",
            authority.display(),
            registry.port
        )
    };
    let host = Host::configured(&configured("127.0.0.2"));
    let (code, report) = doctor(&host, &["--only", "network"]);
    assert_eq!(code, 1, "{report:#}");
    let place = format!("the certificate of the registry at localhost:{}", registry.port);
    let found = expect(&report, "trust", "error", &place, "[job] ca_file in windlass.toml");
    assert!(found["what"].as_str().unwrap().contains("something between answers containers"), "{found:#}");
    assert!(between.callers() >= 2, "one looks whether it is there, and one asks");

    host.configure(&configured("127.0.0.1"));
    let (code, report) = doctor(&host, &["--only", "network"]);
    assert_eq!((code, findings(&report, "warning")), (0, vec![]), "{report:#}");
}

#[test]
fn a_registry_has_to_be_trusted_with_what_jobs_get() {
    let Some((registry, authority)) = Registry::with_tls() else { return };
    let image = format!("default_image = '{}'", registry.image("base:1"));
    let host = Host::configured(&format!("[job]\nnetwork = 'host'\n{image}"));
    let look = || doctor(&host, &["--only", "network"]);
    let (code, report) = look();
    assert_eq!(code, 1, "{report:#}");
    let place = format!("the registry at 127.0.0.1:{}", registry.port);
    expect(&report, "reach", "ok", &place, "");
    let found = expect(&report, "trust", "error", &place, "[job] ca_file in windlass.toml");
    assert!(found["meaning"].as_str().unwrap().contains("no image of it is pulled"), "{found:#}");

    host.configure(&format!("[job]\nnetwork = 'host'\nca_file = '{}'\n{image}", authority.display()));
    let (code, report) = look();
    assert_eq!((code, findings(&report, "error")), (0, vec![]), "{report:#}");
    expect(&report, "reach", "ok", &place, "");
    assert!(findings(&report, "warning").is_empty(), "{report:#}");

    // One that wants a login says 401, and one that podman is told to trust blindly is asked for no certificate.
    let Some(insecure) = Registry::with_passwords() else { return };
    let conf = insecure.registries_conf();
    host.configure(&format!(
        "[job]\nnetwork = 'host'\ndefault_image = '{}'\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'",
        insecure.image("base:1"),
        conf.display()
    ));
    let (code, report) = look();
    assert_eq!((code, findings(&report, "warning")), (0, vec![]), "{report:#}");
    expect(&report, "reach", "ok", &format!("the registry at 127.0.0.1:{}", insecure.port), "");
}

#[test]
fn where_only_a_proxy_leads_out_it_is_the_proxy_that_a_container_has_to_reach() {
    let Some((registry, authority)) = Registry::with_tls() else { return };
    let proxy = Tunnel::start();
    let (port, url) = (proxy.port, proxy.url());
    let host = Host::configured(&format!(
        "[job]\nnetwork = 'host'\nca_file = '{}'\ndefault_image = '{}'\nenvironment = {{ HTTPS_PROXY = '{url}' }}",
        authority.display(),
        registry.image("base:1")
    ));
    let look = || doctor(&host, &["--only", "network"]);
    let (code, report) = look();
    assert_eq!((code, findings(&report, "warning")), (0, vec![]), "{report:#}");
    let through = format!("the registry at 127.0.0.1:{port} (the proxy of [job] environment)");
    expect(&report, "reach", "ok", &through, "");
    // One that only knocks, and one that goes through, both in a container.
    assert_eq!((proxy.callers(), proxy.led_to()), (2, vec![format!("127.0.0.1:{}", registry.port)]));

    drop(proxy);
    let (code, report) = look();
    assert_eq!(code, 1, "{report:#}");
    let found = expect(&report, "reach", "error", &through, "correct the proxy in [job] environment");
    assert!(found["what"].as_str().unwrap().contains("is not reached"), "{found:#}");
}

#[test]
fn token_webhooks_and_clock_are_checked_with_gitlab() {
    let (chain, diamond) = Chain::diamond("");
    let host = &chain.host;
    let look = || doctor(host, &["--only", "gitlab", "--only", "webhooks", "--only", "clock"]);
    let (code, report) = look();
    assert_eq!((code, findings(&report, "error")), (0, vec![]), "{report:#}");
    expect(&report, "token-role", "ok", "Maintainer in all 4 project(s)", "");
    expect(&report, "webhook-url", "ok", "is reached from here", "");
    expect(&report, "webhooks", "ok", "4 webhook(s) are as they should be", "");
    expect(&report, "clock", "ok", "GitLab's", "");

    chain.gitlab.set_clock_ahead(90_000);
    expect(&look().1, "clock", "error", "s behind GitLab's", "timedatectl set-ntp true");
    chain.gitlab.set_clock_ahead(30_000);
    expect(&look().1, "clock", "warning", "s behind GitLab's", "chronyd");
    chain.gitlab.set_clock_ahead(0);

    chain.gitlab.token(&json!({"token": TOKEN, "roles": {"images/app": 30}}));
    expect(&look().1, "token-role", "error", "1 of 4 project(s): images/app", "Maintainer");
    chain.gitlab.token(&json!({"token": TOKEN, "scopes": ["read_api"]}));
    expect(&look().1, "token-scope", "error", "api is missing", "scope api");
    let day = |days: i64| {
        let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        then.strftime("%Y-%m-%d").to_string()
    };
    chain.gitlab.token(&json!({"token": TOKEN, "expires_at": day(7)}));
    expect(&look().1, "token-end", "warning", "expires in ", "token_file");
    chain.gitlab.token(&json!({"token": TOKEN, "expires_at": day(-1)}));
    let (code, report) = look();
    assert_eq!(code, 1);
    expect(&report, "token", "error", "Token is expired", "[gitlab] token_file");
    chain.gitlab.token(&json!({"token": TOKEN}));

    // GitLab switches a webhook off whose receiver is away.
    host.end_daemon(Signal::SIGTERM);
    for _ in 0..6 {
        let pipeline = chain.gitlab.pipeline(diamond.base, &json!({}));
        chain.gitlab.bring(pipeline, "success");
    }
    chain.gitlab.settle();
    let (code, report) = look();
    assert_eq!(code, 1);
    expect(&report, "webhooks", "error", "images/base (temporarily_disabled)", "windlass chain sync");
    expect(&report, "webhook-url", "error", "is not reached from here", "whether windlassd runs");
    host.start_daemon();
}

#[test]
fn an_image_is_built_in_a_job() {
    let host = Host::start();
    let image = host.image(&Image::buildah());
    let (code, report) = doctor(&host, &["--only", "build", "--build-image", &image]);
    assert_eq!(code, 0, "{report:#}");
    expect(&report, "build", "ok", "built an image. Storage for building images", "");
    let (code, report) = doctor(&host, &["--only", "build", "--build-image", &host.image(&Image::busybox())]);
    assert_eq!(code, 1);
    expect(&report, "build", "error", "has neither buildah nor podman", "windlass try --image");
}

#[test]
fn help_teaches() {
    let output = Command::new(env!("CARGO_BIN_EXE_windlass")).args(["doctor", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    for words in
        ["exit code is 0 without an error, 1 with one", "Examples:", "sudo windlass doctor --quick", "- webhooks:"]
    {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
}
