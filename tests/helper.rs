//! The helper: predefined stages in a container of their own, and the runner's program in it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::job::Repository;
use support::{Host, Image, Job, Runner, State};

/// A host whose helper has git, while its jobs' images have not.
fn host(more: &str) -> Host {
    let host = Host::start();
    let image = host.image(&Image::git());
    host.configure(&format!("[job.helper]\nmode = 'image'\nimage = '{image}'\n{more}"));
    host.crash_daemon();
    host
}

#[test]
fn predefined_stages_run_in_the_helper_and_share_builds_and_cache_with_the_job() {
    for scope in ["project", "none"] {
        helper_and_job_share(&host(&format!("[lanes]\nscope = '{scope}'")), scope == "project");
    }
}

fn helper_and_job_share(host: &Host, kept: bool) {
    let runner = Runner::new(host);
    let job = Job::new(&host.image(&Image::busybox().user("app")));
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let fetch = "command -v git; mkdir -p /builds/group/project /cache/x && echo fetched >/builds/group/project/file\n";
    attempt.run_lines("get_sources", fetch).wait().expect_code(0).expect_text("/git");
    // As user app, who did not make it.
    let build = "command -v git || echo no git; cat /builds/group/project/file; echo built >>/builds/group/project/file; touch /cache/x/y; id -u\n";
    let built = attempt.run_lines("build_script", build).wait();
    built.expect_code(0).expect_text("no git\nfetched\n1234\n");
    let after = attempt.run_lines("after_script", "id -u\n").wait();
    after.expect_code(0).expect_text("1234");
    let upload = "id -u; cat /builds/group/project/file; ls /cache/x\n";
    attempt.run_lines("upload_artifacts_on_success", upload).wait().expect_text("0\nfetched\nbuilt\ny\n");
    let lease = attempt.lease();
    let work = host.dir().join("state/work").join(&lease[..12]);
    let lane = host.dir().join("state/lanes/gitlab.example.com/7-unprotected/builds-0/files/group/project/file");
    assert_eq!((work.join("builds").is_dir(), lane.exists()), (!kept, kept));
    attempt.finish();
    host.wait_until_gone(&lease);
    assert!(!work.exists(), "its files go with the job");
    assert_eq!(lane.exists(), kept);
}

#[test]
fn builds_belong_to_the_job_alone() {
    use std::os::unix::fs::MetadataExt;
    let host = host("");
    if !host.account.is_root() {
        return;
    }
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let about = host.dir().join("state/work").join(&attempt.lease()[..12]).metadata().unwrap();
    assert!(about.gid() >= 1_000_000_000 && about.mode() & 0o777 == 0o710, "{:o} of {}", about.mode(), about.gid());
    attempt.finish();
}

#[test]
fn a_rootless_helper_shares_with_a_rootless_job() {
    let Some(host) = Host::rootless("") else { return };
    let image = host.image(&Image::git());
    host.configure(&format!("[job.helper]\nmode = 'image'\nimage = '{image}'"));
    host.crash_daemon();
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox().user("app"))));
    attempt.make_ready();
    attempt
        .run_lines("get_sources", "umask; mkdir -p /builds/g/p && echo x >/builds/g/p/f\n")
        .wait()
        .expect_text("0000");
    attempt.run_lines("build_script", "echo y >>/builds/g/p/f && cat /builds/g/p/f\n").wait().expect_text("x\ny\n");
    let lease = attempt.lease();
    attempt.finish();
    host.wait_until_gone(&lease);
    assert!(!host.dir().join("state/work").join(&lease[..12]).exists());
}

/// Two jobs with the archive that `make` writes: the first has it loaded.
fn with_archive(extension: &str, make: impl FnOnce(&Host, &Path)) {
    let host = Host::start();
    let archives = host.dir().join("archives");
    std::fs::create_dir(&archives).unwrap();
    let arch = if std::env::consts::ARCH == "aarch64" { "arm64" } else { std::env::consts::ARCH };
    make(&host, &archives.join(format!("prebuilt-alpine-{arch}.{extension}")));
    host.configure(&format!("[job.helper]\narchives = '{}'", archives.display()));
    host.crash_daemon();
    let runner = Runner::new(&host);
    let job = || Job::new(&host.image(&Image::busybox())).script(&["command -v git || echo no git here"]);
    let first = runner.play(&job());
    first.expect(State::Success).expect_log("Loading the helper image").expect_log("no git here");
    let second = runner.play(&job());
    second.expect(State::Success);
    assert!(!second.log().contains("Loading the helper image"), "{}", second.log());
    for name in
        String::from_utf8_lossy(&host.podman(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).stdout).lines()
    {
        if name.starts_with("localhost/windlass/helper:") {
            host.podman(&["rmi", "--force", name]);
        }
    }
}

#[test]
fn the_archive_that_comes_with_gitlab_runner_is_loaded_once() {
    with_archive("tar.xz", |_, archive| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/images.sh");
        let made = Command::new("sh").args(["-c", "\"$0\" git | xz -0 >\"$1\""]).arg(&script).arg(archive).status();
        assert!(made.unwrap().success());
    });
}

#[test]
fn the_archive_of_newer_runners_is_an_image_with_its_settings() {
    with_archive("docker.tar.zst", |host, archive| {
        // With a name of its own, as the one of the package has.
        let (source, name) = (host.image(&Image::git()), "localhost/windlass-test/helper:x86_64-v1");
        let plain = archive.with_extension("");
        assert!(host.podman(&["tag", &source, name]).status.success());
        let save = ["save", "--quiet", "--format", "docker-archive", "--output", plain.to_str().unwrap(), name];
        let save = host.podman(&save);
        assert!(save.status.success(), "{}", String::from_utf8_lossy(&save.stderr));
        host.podman(&["untag", &source, name]);
        let packed = Command::new("zstd").args(["--quiet", "--rm", "-1", "-o"]).arg(archive).arg(&plain).status();
        assert!(packed.unwrap().success());
    });
}

#[test]
fn an_entrypoint_reads_the_jobs_variables_and_files_are_paths() {
    let host = Host::start();
    let entrypoint = ["/bin/sh", "-c", "echo \"entered with $COLOR, $KEY, $CI_JOB_TOKEN\"; exec \"$@\"", "entry"];
    let image = host.image(&Image::busybox().entrypoint(&entrypoint));
    let job = Job::new(&image).variable("COLOR", "green").file("KEY", "k3y-content");
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job);
    attempt.make_ready();
    let finished = attempt.run_lines("build_script", "echo script\n").wait();
    finished.expect_code(0).expect_text(&format!("entered with green, /builds/group/project.tmp/KEY, {}", job.token()));
    let lease = attempt.lease();
    for container in host.containers(&format!("io.windlass.lease={}", &lease[..12])) {
        let inspected = host.podman(&["inspect", &container]);
        let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
        assert!(!text.contains(&job.token()) && !text.contains("k3y-content"), "{text}");
    }
    assert!(!host.log().contains(&job.token()) && !host.log().contains("k3y-content"));
    attempt.finish();
}

#[test]
fn a_read_only_container_has_builds_and_temporary_files_that_can_be_written() {
    let host = Host::configured(
        "[job]\nread_only = true\nno_new_privileges = true\ncap_drop = ['ALL']\ncap_add = ['CHOWN', 'SETUID', 'SETGID', 'KILL']",
    );
    let image = host.image(&Image::busybox().user("app"));
    let job = Job::new(&image).script(&[
        "touch /etc/x 2>/dev/null && echo writable || echo read-only",
        "touch /tmp/x /builds/x /cache/x && echo places",
        "grep NoNewPrivs /proc/self/status",
    ]);
    let outcome = Runner::new(&host).play(&job);
    outcome.expect(State::Success).expect_log("\nread-only\n").expect_log("\nplaces\n").expect_log("NoNewPrivs:\t1");
}

/// A program of this text, to be mounted into containers.
fn program(host: &Host, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = host.dir().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// A job whose repository would have to be fetched.
fn cloning(image: &str) -> Job {
    let repository = Repository { url: "https://gitlab.example.com/group/project.git".into(), sha: "0".repeat(40) };
    Job { repository: Some(repository), ..Job::new(image) }
}

#[test]
fn the_job_log_says_which_tools_the_predefined_stages_lack_and_when_gitlab_runner_is_of_another_version() {
    let host = Host::start();
    // An image each: what one has is looked at once.
    let [bare, git, other] =
        ["bare", "git", "other"].map(|kind| host.image(&Image::busybox().env(&format!("KIND={kind}"))));
    let git_alone = program(&host, "git", "exit 0");
    let old_runner = program(&host, "old-runner", "echo 'Version:      17.9.0'");
    let old = format!("'{git_alone}:/usr/bin/git:ro', '{old_runner}:/usr/bin/gitlab-runner:ro'");
    host.configure(&format!(
        "[job.helper]\nmode = 'inject'\n[profile.git.job]\nvolumes = ['{git_alone}:/usr/bin/git:ro']\n\
         [profile.old.job]\nvolumes = [{old}]\n\
         [profile.helper.job]\nvolumes = [{old}]\n[profile.helper.job.helper]\nmode = 'image'\nimage = '{other}'"
    ));
    host.crash_daemon();
    let runner = Runner::new(&host);
    let remarks = |job: &Job| {
        let mut attempt = runner.attempt(job);
        attempt.configure().expect_code(0);
        let prepared = attempt.prepare().wait();
        prepared.expect_code(0);
        attempt.finish();
        let text = prepared.text();
        let about = |line: &&str| line.starts_with("Warning: ") || line.starts_with("Note: ");
        text.lines().filter(about).collect::<Vec<_>>().join("\n")
    };
    let here = "the job's image (no helper image is set up)";
    assert_eq!(
        remarks(&cloning(&bare)),
        format!(
            "Warning: {here} has no git: the repository can't be fetched\n\
             Warning: {here} has no gitlab-runner: caches and artifacts are left out"
        )
    );
    // What was found is known by now; a job that fetches nothing needs no git.
    let left_out = format!("Warning: {here} has no gitlab-runner: caches and artifacts are left out");
    assert_eq!(remarks(&Job::new(&bare)), left_out);
    let without_lfs = |place: &str| format!("Note: {place} has no git-lfs: files in Git LFS stay pointers\n");
    assert_eq!(remarks(&cloning(&git).profile("git")), without_lfs(here) + &left_out);
    for (profile, image, place) in [("old", &other, here), ("helper", &bare, "the helper image")] {
        let version = format!(
            "Warning: gitlab-runner in {place} is of version 17.9.0, the runner of 19.4.0: caches and artifacts may fail"
        );
        assert_eq!(remarks(&cloning(image).profile(profile)), without_lfs(place) + &version);
    }
}

/// A program that passes for gitlab-runner, of the version that the tests' jobs name.
fn fake_runner(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fixtures/gitlab_runner.rs");
    let program = dir.join("gitlab-runner");
    let made = Command::new("rustc")
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"])
        .arg(&program)
        .arg(&source)
        .output()
        .expect("rustc can be started");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    program
}

#[test]
fn the_runners_own_program_is_at_hand_in_predefined_stages_whether_there_is_a_helper_or_not() {
    let host = Host::start();
    let [job, helper] = ["job", "helper"].map(|kind| host.image(&Image::busybox().env(&format!("KIND={kind}"))));
    host.configure(&format!(
        "[job.helper]\nmode = 'inject'\n[profile.helper.job.helper]\nmode = 'image'\nimage = '{helper}'"
    ));
    host.crash_daemon();
    let (runner, program) = (Runner::new(&host), fake_runner(host.dir()));
    for (profile, mounted) in [(None, false), (None, true), (Some("helper"), true)] {
        let mut wanted = Job::new(&job);
        wanted.profile = profile.map(str::to_owned);
        let mut attempt = runner.attempt(&wanted);
        attempt.configure().expect_code(0);
        let prepare = if mounted { attempt.prepare_by(&program) } else { attempt.prepare() };
        let prepared = prepare.wait();
        prepared.expect_code(0);
        assert_eq!(!prepared.text().contains("no gitlab-runner"), mounted, "{}", prepared.text());
        assert!(!prepared.text().contains("of version"), "{}", prepared.text());
        let stage = attempt.run_lines("upload_artifacts_on_success", "gitlab-runner --version\n").wait();
        assert_eq!(stage.text().contains("Version:      19.4.0"), mounted, "{}", stage.text());
        assert_eq!(stage.code == Some(0), mounted, "{}", stage.text());
        attempt.finish();
    }
}
