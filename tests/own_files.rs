//! What is the service's is closed to jobs: its state, its runtime directory, its tokens and secrets. Looked at as a job that has got out of its
//! container would, with the ids that it has on the host, and from inside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Host, Image, Job, Runner};
use windlass::protocol::daemon::shim_file;

/// A number that the job's image has for its user.
const APP: u32 = 1234;
/// What stands in each secret.
const SECRET: &str = "glpat-that-is-the-services-own";

/// The id on the host of an id in a process's user namespace.
fn on_host(pid: i32, map: &str, inside: u32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/{map}")).unwrap();
    let numbers = |line: &str| line.split_whitespace().map(|word| word.parse().unwrap()).collect::<Vec<u32>>();
    let range = text.lines().map(numbers).find(|range| (range[0]..range[0] + range[2]).contains(&inside));
    let range = range.unwrap_or_else(|| panic!("{inside} is not in {text}"));
    range[1] + (inside - range[0])
}

/// All that is at and below a path; links are not followed.
fn walk(path: &Path, found: &mut Vec<PathBuf>) {
    found.push(path.to_owned());
    if path.symlink_metadata().is_ok_and(|about| about.is_dir()) {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| walk(&entry.path(), found));
    }
}

/// What of this somebody with these ids may `-readable` (list, of a directory) or `-writable`, who knows where everything is.
fn open_to(uid: u32, gid: u32, what: &str, paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups", "find"]).args(paths);
    command.args(["-maxdepth", "0", "!", "-type", "l", what]);
    let output = command.current_dir("/").output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}

/// A file with a secret, of the service's user alone.
fn secret(host: &Host, path: &Path) -> PathBuf {
    fs::write(path, SECRET).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    host.account.own(path).unwrap();
    path.to_owned()
}

fn closed(host: &Host) {
    // They are read at the start, and are where an administrator might have put them: beside the state, open as a directory can be.
    let secrets = host.dir().join("secrets");
    fs::create_dir(&secrets).unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o755)).unwrap();
    let [gitlab, page] = ["gitlab-token", "page-token"].map(|name| secret(host, &secrets.join(name)));
    host.configure(&format!(
        "[gitlab]\nurl = 'http://127.0.0.1:1'\ntoken_file = '{}'\n[page]\ntoken_file = '{}'\n",
        gitlab.display(),
        page.display()
    ));
    host.crash_daemon();
    let runner = Runner::new(host);
    let image = host.image(&Image::busybox().user("app"));
    runner.play(&Job::new(&image));
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo started\nuntil [ -e /builds/go ]; do sleep 0.05; done\n");
    call.wait_for_output("started");
    let lease = attempt.lease();
    let (state, run) = (host.state_dir(), host.run_dir());
    let mut all = Vec::new();
    [&state, &run, &gitlab, &page].into_iter().for_each(|place| walk(place, &mut all));

    // From outside, with the ids of a process in the container.
    let pid = host.processes(&lease)[0].pid;
    let own = state.join("lanes/gitlab.example.com/7-unprotected");
    let is_its_own = |path: &Path| {
        let parts = ["builds-0/files", "builds-1/files", "cache/files", "storage/files"];
        // What is mounted into its container, and the socket of the shims, which asks who calls.
        parts.iter().any(|part| path.starts_with(own.join(part)))
            || path.starts_with(state.join("work").join(&lease[..12]))
            || path == host.socket()
    };
    let is_everybodys = |path: &Path| {
        // Mounted into containers too: the runner's program, and how to build images.
        path.starts_with(state.join("bin"))
            || path.starts_with(state.join("mounted"))
            // How long shims wait for a daemon; names alone; and a lock on nothing.
            || path == shim_file(&host.socket())
            || path == run
            || path == run.join("windlassd.lock")
    };
    assert_eq!(fs::metadata(run.join("windlassd.lock")).unwrap().len(), 0);
    for inside in [0, APP] {
        let (uid, gid) = (on_host(pid, "uid_map", inside), on_host(pid, "gid_map", inside));
        assert!(uid != 0 && uid != host.account.uid().as_raw(), "{inside} is {uid}");
        let read = open_to(uid, gid, "-readable", &all);
        let wrong: Vec<&PathBuf> = read.iter().filter(|path| !is_its_own(path) && !is_everybodys(path)).collect();
        assert!(wrong.is_empty(), "{inside} ({uid}) in the container may read {wrong:#?}");
        let written = open_to(uid, gid, "-writable", &all);
        let wrong: Vec<&PathBuf> = written.iter().filter(|path| !is_its_own(path)).collect();
        assert!(wrong.is_empty(), "{inside} ({uid}) in the container may write {wrong:#?}");
        if inside == 0 {
            assert!(read.iter().any(|path| path.starts_with(&own)), "it gets at its own: {read:#?}");
        }
    }
    // The service itself reads them, so the look above had something to find.
    assert!(fs::read_to_string(&gitlab).unwrap().contains(SECRET) && state.join("history.db").exists());

    // From inside, as both: there are no such paths, and no socket of the daemon's.
    let container = host.container(&lease).unwrap();
    for user in ["0", &APP.to_string()] {
        for path in [&gitlab, &page, &state.join("history.db"), &run.join("windlass.sock"), &state, &run] {
            let path = path.to_str().unwrap();
            let there = host.podman(&["exec", "--user", user, &container, "ls", "-d", path]);
            assert!(!there.status.success(), "{user} sees {path}");
        }
        let search = format!("grep -rls {SECRET} /builds /cache /etc /run /tmp /var /proc/[0-9]*/environ; true");
        let found = host.podman(&["exec", "--user", user, &container, "sh", "-c", &search]);
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{user} finds the secret");
    }
    call.terminate();
    call.wait();
    attempt.finish();
    host.configure("");
}

#[test]
fn a_job_can_open_nothing_of_a_rootful_service() {
    let host = Host::start();
    if !host.account.is_root() {
        return eprintln!("SKIPPED: it is about root's podman");
    }
    closed(&host);
}

#[test]
fn a_job_can_open_nothing_of_a_rootless_service() {
    if !nix::unistd::getuid().is_root() {
        return eprintln!("SKIPPED: only root can look with the ids of a job");
    }
    let Some(host) = Host::rootless("") else { return };
    closed(&host);
}
