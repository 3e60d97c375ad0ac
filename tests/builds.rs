//! Jobs that build images.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use support::registry::Registry;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, State, until};

const CONTEXT: [&str; 2] = [
    "mkdir -p /tmp/context && cd /tmp/context && cp /usr/share/base/busybox .",
    r#"printf '%s\n' 'FROM scratch' 'COPY busybox /bin/busybox' 'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox --install -s /bin; echo built >/made; chown 33:33 /made"]' 'CMD ["/bin/sh"]' >Containerfile"#,
];

/// A host whose jobs reach a registry on its loopback, and know that it has no TLS.
fn host(registry: &Registry, more: &str) -> Host {
    let conf = registry.registries_conf().display().to_string();
    Host::configured(&format!(
        "[job]\nnetwork = 'host'\npull_policy = 'if-not-present'\nvolumes = ['{conf}:/etc/containers/registries.conf:ro']\n{more}\n\
         [podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ))
}

/// With what GitLab gives each job whose project has a registry.
fn with_registry(job: Job, registry: &Registry) -> Job {
    let (host, image) = (registry.image(""), registry.image("group/project"));
    job.variable("CI_REGISTRY", host.trim_end_matches('/'))
        .variable("CI_REGISTRY_IMAGE", &image)
        .variable("CI_REGISTRY_USER", "tester")
        .secret("CI_REGISTRY_PASSWORD", "secret")
        .secret(
            "DOCKER_AUTH_CONFIG",
            &serde_json::json!({"auths": {host.trim_end_matches('/'): {"auth": "dGVzdGVyOnNlY3JldA=="}}}).to_string(),
        )
}

/// The job of docs/jobs.md, line by line; `tag` is of this test.
fn build_and_push(image: &str, registry: &Registry, tag: &str) -> Job {
    let page = include_str!("../docs/jobs.md");
    let (_, job) = page.split_once("\nbuild:\n").unwrap();
    let (_, script) = job.split_once("\n  script:\n").unwrap();
    let lines = script.lines().map_while(|line| line.strip_prefix("    - "));
    let lines: Vec<String> = lines.map(|line| line.replace(":latest", &format!(":{tag}"))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let ["echo", "buildah", "buildah"] =
        lines.iter().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>()[..]
    else {
        panic!("docs/jobs.md has another job: {lines:?}")
    };
    with_registry(Job::new(image), registry).script(&[&CONTEXT[..], &lines].concat())
}

#[test]
fn a_job_builds_and_pushes_an_image_that_the_next_job_runs() {
    let Some(registry) = Registry::with_passwords() else { return };
    let host = host(&registry, "");
    let runner = Runner::new(&host);
    let mut image = Image::buildah();
    for (user, tag) in [("0", "root"), ("1234", "app")] {
        if user != "0" {
            if !nix::unistd::geteuid().is_root() {
                eprintln!("SKIPPED: only root can make programs with file capabilities");
                continue;
            }
            image = image.user(user);
        }
        let builder = build_and_push(&host.image(&image), &registry, tag);
        let built = runner.play(&builder);
        built.expect(State::Success).expect_log("Storage for building images (").expect_log("goes with the job");
        let name = registry.image(&format!("group/project:{tag}"));
        let run = with_registry(Job::new(&name), &registry).script(&["cat /made", "ls -n /made | awk '{print $3}'"]);
        runner
            .play(&run)
            .expect(State::Success)
            .expect_log("Pulled image")
            .expect_log("\nbuilt\n")
            .expect_log("\n33\n");
        host.podman(&["rmi", &name]);
    }
    let home = host.dir().join("state/lanes/gitlab.example.com/7-unprotected");
    assert!(home.join("cache").exists() && !home.join("storage").exists(), "no layers are kept");
}

#[test]
fn podman_builds_and_pushes_too_also_where_no_program_gets_new_privileges() {
    let Some(registry) = Registry::with_passwords() else { return };
    let host = host(&registry, "[profile.strict.job]\nno_new_privileges = true");
    let runner = Runner::new(&host);
    let image = host.image(&Image::buildah());
    for (profile, bit) in [("default", 0), ("strict", 1)] {
        let name = registry.image(&format!("group/project:podman-{profile}"));
        let lines = [
            "grep NoNewPrivs /proc/self/status",
            "echo \"$CI_REGISTRY_PASSWORD\" | podman login -u \"$CI_REGISTRY_USER\" --password-stdin \"$CI_REGISTRY\"",
            &format!("podman build --tag {name} ."),
            &format!("podman push {name}"),
        ];
        let builder = with_registry(Job::new(&image), &registry).script(&[&CONTEXT[..], &lines].concat());
        let built = runner.play(&if profile == "default" { builder } else { builder.profile(profile) });
        built.expect(State::Success).expect_log(&format!("\nNoNewPrivs:\t{bit}\n"));
        let run = with_registry(Job::new(&name), &registry).script(&["cat /made"]);
        runner.play(&run).expect(State::Success).expect_log("Pulled image").expect_log("\nbuilt\n");
        host.podman(&["rmi", &name]);
    }
}

#[test]
fn a_rootless_host_builds_images_too() {
    let Some(host) = Host::rootless("[job]\nbuild_storage = 'project'") else { return };
    let image = host.image(&Image::buildah());
    let builder = || Job::new(&image).script(&[&CONTEXT[..], &["buildah bud --layers -t localhost/x ."]].concat());
    let runner = Runner::new(&host);
    let first = runner.play(&builder());
    first.expect(State::Success).expect_log("is kept for the project");
    assert!(!first.log().contains("Using cache"), "{}", first.log());
    runner.play(&builder()).expect(State::Success).expect_log("Using cache");
}

#[test]
fn a_rootless_hosts_jobs_build_and_push_as_root_and_as_a_user_of_the_image() {
    let Some(registry) = Registry::with_passwords() else { return };
    let Some(host) = Host::rootless("[job]\nnetwork = 'host'\npull_policy = 'if-not-present'") else { return };
    let runner = Runner::new(&host);
    let mut image = Image::buildah();
    for user in ["0", "1234"] {
        if user != "0" {
            if !nix::unistd::geteuid().is_root() {
                eprintln!("SKIPPED: only root can make programs with file capabilities");
                continue;
            }
            image = image.user(user);
        }
        let tag = |tool: &str| format!("{tool}-{user}");
        let lines = ["buildah bud", "podman build"].map(|build| {
            let tool = build.split(' ').next().unwrap_or_default();
            let name = format!("\"$CI_REGISTRY_IMAGE:{}\"", tag(tool));
            format!(
                "echo \"$CI_REGISTRY_PASSWORD\" | {tool} login --tls-verify=false -u \"$CI_REGISTRY_USER\" --password-stdin \"$CI_REGISTRY\" && \
                 {build} -t {name} . && {tool} push --tls-verify=false {name}"
            )
        });
        let script = [&CONTEXT[..], &["id -u | sed 's/^/built by /'", &lines[0], &lines[1]]].concat();
        let builder = with_registry(Job::new(&host.image(&image)), &registry).script(&script);
        runner.play(&builder).expect(State::Success).expect_log(&format!("\nbuilt by {user}\n"));
        for tool in ["buildah", "podman"] {
            let name = registry.image(&format!("group/project:{}", tag(tool)));
            let run = with_registry(Job::new(&name), &registry).script(&["cat /made"]);
            runner.play(&run).expect(State::Success).expect_log("Pulled image").expect_log("\nbuilt\n");
            host.podman(&["rmi", &name]);
        }
    }
}

#[test]
fn layers_are_kept_for_the_project_and_held_by_one_job_at_a_time() {
    let host = Host::configured("[job]\nbuild_storage = 'project'");
    let image = host.image(&Image::buildah());
    let builder = || Job::new(&image).script(&[&CONTEXT[..], &["buildah bud --layers -t localhost/x ."]].concat());
    let runner = Runner::new(&host);
    let caches = |job: Job| {
        let outcome = runner.play(&job);
        outcome.expect(State::Success);
        outcome.log().contains("Using cache")
    };
    assert!(!caches(builder()), "nothing is there yet");
    assert!(caches(builder()), "the next job of the project finds it");
    assert!(!caches(builder().project(8, "other/project")), "another project does not");
    let mut protected = builder();
    protected.protected = Some(true);
    assert!(!caches(protected), "nor does a job of a protected ref");
    // While one job has it, the next gets an empty one.
    let mut holder = runner.attempt(&builder());
    holder.make_ready();
    let lease = holder.lease();
    let second = runner.play(&builder());
    second
        .expect(State::Success)
        .expect_log("has the project's storage for building images; this job gets an empty one");
    assert!(!second.log().contains("Using cache"));
    // Also after a crash of the daemon.
    host.crash_daemon();
    runner.play(&builder()).expect_log("this job gets an empty one");
    holder.finish();
    host.wait_until_gone(&lease);
    assert!(caches(builder()));
}

#[test]
fn kept_layers_count_as_the_projects_and_go_first_when_nobody_has_used_them_for_the_longest() {
    let host = Host::configured(
        "[job]\nbuild_storage = 'project'\n[profile.plain.job]\nbuild_storage = 'none'\n\
         [purge]\ninterval = '1s'\nproject_max_size = '60 MiB'\nmin_free = '0%'\nmin_free_inodes = '0%'",
    );
    let (builder, plain) = (host.image(&Image::buildah()), host.image(&Image::busybox()));
    let runner = Runner::new(&host);
    let random = |file: &str, mib: u32| format!("dd if=/dev/urandom of={file} bs=1M count={mib} 2>/dev/null");
    let layer = [
        "mkdir -p /tmp/context && cd /tmp/context",
        &random("large", 40),
        "printf '%s\\n' 'FROM scratch' 'COPY large /large' >Containerfile && buildah bud --layers -t localhost/x .",
    ];
    runner.play(&Job::new(&builder).script(&layer)).expect(State::Success).expect_log("is kept for the project");
    let lanes = || host.json(&["cache", "list"]);
    let lane = |name: &str| lanes().as_array().unwrap().iter().find(|row| row["lane"] == name).cloned();
    let field = |name: &str, field: &str| lane(name).map_or(Value::Null, |row| row[field].clone());
    until("the layers are measured", seconds(20), || field("storage", "bytes").is_u64());
    let bytes = field("storage", "bytes").as_u64().unwrap();
    assert!((40 << 20..55 << 20).contains(&bytes), "{}", lanes());
    assert_eq!(field("storage", "goes_by"), Value::Null, "{}", lanes());
    // Neither the layers nor these files are too much without the other.
    until("the layers are older than what comes now", seconds(20), || field("storage", "age_s").as_u64() >= Some(2));
    runner.play(&Job::new(&plain).profile("plain").script(&[&random("/builds/large", 30)])).expect(State::Success);
    until("the layers are gone", seconds(20), || lane("storage").is_none());
    let log = host.log();
    let mut purged = log.lines().filter(|line| line.contains("purged what="));
    let line = purged.next().unwrap();
    assert!(line.contains("/7-unprotected/storage\"") && line.contains("rule=\"project_max_size\""), "{line}");
    assert_eq!((purged.next(), lane("builds-0").is_some()), (None, true), "that was enough: {log}");
}

#[test]
fn files_of_other_ids_are_removed_and_made_anew() {
    let host = Host::configured("[job]\nbuild_storage = 'project'");
    let image = host.image(&Image::busybox().user("app"));
    let runner = Runner::new(&host);
    let look = "ls /.windlass-storage /builds | grep -c new || true";
    let job = || Job::new(&image).script(&[look, "touch /.windlass-storage/new /builds/new", "env"]);
    runner
        .play(&job())
        .expect(State::Success)
        .expect_log("\n0\n")
        .expect_log("BUILDAH_ISOLATION=chroot")
        .expect_log("BUILDAH_NOPIVOT=true");
    runner.play(&job()).expect(State::Success).expect_log("\n2\n");
    // The project's range of ids was another's, or the administrator changed user_namespace.
    host.end_daemon(nix::sys::signal::Signal::SIGTERM);
    let file = host.dir().join("state/lanes/gitlab.example.com/7-unprotected/home.json");
    let mut home: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    home["ids"] = "others".into();
    std::fs::write(&file, home.to_string()).unwrap();
    host.start_daemon();
    runner.play(&job()).expect(State::Success).expect_log("\n0\n");
    runner.play(&job()).expect(State::Success).expect_log("\n2\n");
}

#[test]
fn a_host_without_overlay_says_so_and_copies() {
    let host = Host::configured("[job]\nbuild_driver = 'vfs'");
    let builder = Job::new(&host.image(&Image::buildah()))
        .script(&[&CONTEXT[..], &["buildah bud -t localhost/x .", "buildah info | grep GraphDriver"]].concat());
    let outcome = Runner::new(&host).play(&builder);
    outcome.expect(State::Success).expect_log("(vfs)").expect_log("\"GraphDriverName\": \"vfs\"");
}

#[test]
fn where_overlay_is_refused_and_no_device_is_given_the_storage_copies() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: it takes root to mount");
    }
    let dir = tempfile::tempdir().unwrap();
    // As below.
    let state = Overlaid::mount(dir.path());
    let host = Host::configured(&format!("state_dir = '{}'", state.0.display()));
    let builder = Job::new(&host.image(&Image::buildah()))
        .script(&[&CONTEXT[..], &["buildah bud -t localhost/x .", "buildah info | grep GraphDriver"]].concat());
    let outcome = Runner::new(&host).play(&builder);
    outcome
        .expect(State::Success)
        .expect_log("Storage for building images (vfs, because containers can't mount overlay on this host)")
        .expect_log("\"GraphDriverName\": \"vfs\"");
}

#[test]
fn where_overlay_is_refused_fuse_overlayfs_mounts_the_storage() {
    let has_parts = std::path::Path::new("/dev/fuse").exists() && support::storage::on_path("fuse-overlayfs");
    if !nix::unistd::geteuid().is_root() || !has_parts {
        return eprintln!("SKIPPED: it takes root to mount, /dev/fuse, and fuse-overlayfs for the image");
    }
    let dir = tempfile::tempdir().unwrap();
    // Overlay takes no directory of another overlay for what it writes, and so refuses a daemon in a container.
    let state = Overlaid::mount(dir.path());
    // Without udev it is root's alone, and then root of a user namespace can't open it.
    let is_everybodys = std::fs::metadata("/dev/fuse").is_ok_and(|about| about.permissions().mode() & 0o006 == 0o006);
    let namespace = if is_everybodys { "separate" } else { "host" };
    let host = Host::configured(&format!(
        "state_dir = '{}'\n[job]\ndevices = ['/dev/fuse']\n[podman]\nuser_namespace = '{namespace}'",
        state.0.display()
    ));
    // A step of the build fails that is not on such a mount.
    let look = r#"echo 'RUN ["/bin/busybox", "grep", "fuse.fuse-overlayfs", "/proc/self/mounts"]' >>Containerfile"#;
    let builder = Job::new(&host.image(&Image::buildah()))
        .script(&[&CONTEXT[..], &[look, "buildah bud -t localhost/x .", "buildah info | grep GraphDriver"]].concat());
    let outcome = Runner::new(&host).play(&builder);
    outcome
        .expect(State::Success)
        .expect_log("Storage for building images (fuse-overlayfs, because containers can't mount overlay on this host)")
        .expect_log("\"GraphDriverName\": \"overlay\"");
}

/// A directory of an overlay, until it is dropped.
struct Overlaid(std::path::PathBuf);

impl Overlaid {
    fn mount(below: &std::path::Path) -> Self {
        for name in ["lower", "upper", "work", "state"] {
            std::fs::create_dir(below.join(name)).unwrap();
        }
        let options = "lowerdir=lower,upperdir=upper,workdir=work";
        run(Command::new("mount").current_dir(below).args(["-t", "overlay", "overlay", "-o", options, "state"]));
        Self(below.join("state"))
    }
}

impl Drop for Overlaid {
    fn drop(&mut self) {
        run(Command::new("umount").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn without_storage_the_images_own_settings_count() {
    let host = Host::configured("[job]\nbuild_storage = 'none'");
    let job = Job::new(&host.image(&Image::busybox())).script(&["env | grep -c CONTAINERS_ || true"]);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success).expect_log("\n0\n");
    assert!(!outcome.log().contains("Storage for building images"));
}

#[test]
fn a_driver_that_lacks_its_device_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("windlass.toml");
    std::fs::write(&file, "[job]\nbuild_driver = 'fuse-overlayfs'\n").unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_windlass")).arg("check").arg(&file).output().unwrap();
    assert_eq!(check.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&check.stdout).contains("devices = [\"/dev/fuse\"]"));
}
