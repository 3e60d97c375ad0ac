//! What goes when, and what never does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::account::Account;
use support::lanes::{self, SmallDisk, count, home};
use support::registry::Registry;
use support::wait::seconds;
use support::{Host, Image, Job, Runner, State, until};

const DAY: u64 = 24 * 3600;

/// The lanes, as `PROJECT-ID/LANE`.
fn listed(host: &Host) -> BTreeSet<String> {
    let lanes = host.json(&["cache", "list"]);
    lanes
        .as_array()
        .unwrap()
        .iter()
        .map(|lane| format!("{}/{}", lane["project_id"], lane["lane"].as_str().unwrap()))
        .collect()
}

fn lane<'a>(rows: &'a Value, project: u64, lane: &str) -> &'a Value {
    let is_it = |row: &&Value| row["project_id"] == project && row["lane"] == lane;
    rows.as_array().unwrap().iter().find(is_it).unwrap_or_else(|| panic!("no {lane} of {project} in {rows}"))
}

/// The names of what a purge removed, in its order.
fn names(removed: &Value) -> Vec<String> {
    removed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn an_administrator_sees_what_is_kept_and_removes_what_is_chosen() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let write = "dd if=/dev/zero of=/builds/big bs=1M count=3 2>/dev/null";
    for (project, path) in [(7, "group/project"), (8, "other/project"), (9, "third/project")] {
        runner.play(&Job::new(&image).script(&[write]).project(project, path)).expect(State::Success);
    }
    until("all are measured", seconds(20), || {
        host.json(&["cache", "list"]).as_array().unwrap().iter().all(|lane| lane["bytes"].is_u64())
    });
    let rows = host.json(&["cache", "list"]);
    let builds = lane(&rows, 7, "builds-0");
    assert!(builds["bytes"].as_u64().unwrap() >= 3 << 20, "{builds}");
    assert_eq!(
        (&builds["project_path"], &builds["jobs"], &builds["goes_by"]),
        (&"group/project".into(), &json!([]), &Value::Null)
    );
    let table = host.windlass(&["cache", "list", "--socket", host.socket().to_str().unwrap()]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.starts_with("PROJECT") && table.contains("third/project  others  builds-0  3."), "{table}");
    // In use, then.
    let mut attempt = runner.attempt(&Job::new(&image).project(9, "third/project"));
    attempt.make_ready();
    let rows = host.json(&["cache", "list"]);
    assert_eq!(lane(&rows, 9, "builds-0")["jobs"], json!([attempt.job().id]));
    assert_eq!(host.json(&["cache", "purge"]), json!([]), "no rule is broken");
    assert_eq!(host.json(&["cache", "purge", "--older-than", "1h"]), json!([]));
    // A dry run removes nothing, and says what a run removes.
    let would = host.json(&["cache", "purge", "--dry-run", "--project", "Other/Project"]);
    assert_eq!(names(&would).len(), 2);
    assert_eq!(listed(&host).len(), 6);
    let did = host.json(&["cache", "purge", "--project", "other/project"]);
    assert_eq!(names(&did), names(&would));
    assert_eq!(did[0]["rule"], "asked for");
    assert_eq!(listed(&host), set(["7/builds-0", "7/cache", "9/builds-0", "9/cache"]));
    assert!(host.log().contains("purged what=\"gitlab.example.com/8-unprotected/"), "{}", host.log());
    let line = host
        .log()
        .lines()
        .find(|line| line.contains("purged what=\"gitlab.example.com/8-unprotected/builds-0\""))
        .unwrap()
        .to_owned();
    assert!(line.contains("size=3.") && line.contains("age=") && line.contains("rule=\"asked for\""), "{line}");
    let would = host.json(&["cache", "purge", "--dry-run", "--all"]);
    let did = host.json(&["cache", "purge", "--all"]);
    assert_eq!(names(&did), names(&would));
    assert_eq!(listed(&host), set(["9/builds-0", "9/cache"]), "what a job uses stays");
    attempt.run_lines("build_script", "cat /builds/big | wc -c").wait().expect_code(0).expect_text("3145728");
    attempt.finish();
    // A name that nothing is kept for is a mistake.
    let typo =
        host.windlass(&["cache", "purge", "--project", "tihrd/project", "--socket", host.socket().to_str().unwrap()]);
    assert!(
        !typo.status.success() && String::from_utf8_lossy(&typo.stderr).contains("nothing is kept here for a project")
    );
    until("the trash is empty", seconds(20), || lanes::trash_is_empty(&host));
}

#[test]
fn a_project_of_several_instances_has_to_be_named_with_its_own() {
    let host = Host::start();
    host.end_daemon(Signal::SIGTERM);
    lanes::make(&host, 7, "cache", DAY, 1 << 20);
    let other = lanes::directory(&host).join("other.example.com/7-unprotected");
    fs::create_dir_all(other.parent().unwrap()).unwrap();
    let copied = std::process::Command::new("cp").arg("-a").args([&home(&host, 7), &other]).status().unwrap();
    assert!(copied.success());
    let mut about: Value = serde_json::from_slice(&fs::read(other.join("home.json")).unwrap()).unwrap();
    about["instance"] = "other.example.com".into();
    fs::write(other.join("home.json"), about.to_string()).unwrap();
    host.start_daemon();
    let socket = host.socket().display().to_string();
    let refused = host.windlass(&["cache", "purge", "--project", "7", "--socket", &socket]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("gitlab.example.com/7 or other.example.com/7"), "{said}");
    let removed = host.json(&["cache", "purge", "--project", "other.example.com/made/by-hand-7"]);
    assert_eq!(names(&removed), ["other.example.com/7-unprotected/cache"]);
    assert!(home(&host, 7).exists());
}

#[test]
fn only_administrators_may_remove() {
    let account = match Account::rootless() {
        Ok(account @ Account::Other(_)) => account,
        Ok(Account::Own) => return eprintln!("SKIPPED: it takes root to be somebody else"),
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    let Account::Other(user) = &account else { return };
    let host = Host::configured(&format!("[socket]\nallowed_users = ['{}']", user.name));
    fs::set_permissions(host.run_dir(), PermissionsExt::from_mode(0o755)).unwrap();
    let windlass = host.dir().join("windlass");
    support::programs::copy_program(&host.programs.windlass, &windlass);
    let call = |arguments: &[&str]| {
        let socket = host.socket();
        account.command(&windlass).args(arguments).arg("--socket").arg(socket).output().unwrap()
    };
    assert!(call(&["cache", "list"]).status.success());
    assert!(call(&["cache", "purge", "--dry-run", "--all"]).status.success());
    let refused = call(&["cache", "purge", "--all"]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("only root and the daemon's own user"), "{refused:?}");
}

#[test]
fn what_is_old_or_too_much_goes_by_itself() {
    let host = Host::configured(
        "[purge]\ninterval = '1s'\nmax_age = '30d'\nmax_size = '100 MiB'\nproject_max_size = '60 MiB'\nmin_free = '0%'\nmin_free_inodes = '0%'",
    );
    host.end_daemon(Signal::SIGTERM);
    for (project, name, age, mib) in [
        (1, "builds-0", 40 * DAY, 1),
        (2, "builds-0", 20 * DAY, 50),
        (2, "builds-1", 10 * DAY, 50),
        (3, "cache", 5 * DAY, 40),
        (4, "cache", 4 * DAY, 30),
        (5, "builds-0", 3 * DAY, 1),
    ] {
        lanes::make(&host, project, name, age, mib << 20);
    }
    host.start_daemon();
    let left = set(["3/cache", "4/cache", "5/builds-0"]);
    until("only what may stay is left", seconds(30), || listed(&host) == left);
    let log = host.log();
    for (lane, rule) in [
        ("1-unprotected/builds-0", "max_age"),
        ("2-unprotected/builds-0", "project_max_size"),
        ("2-unprotected/builds-1", "max_size"),
    ] {
        let line = log
            .lines()
            .find(|line| line.contains("purged what=") && line.contains(lane))
            .unwrap_or_else(|| panic!("{lane}: {log}"));
        assert!(line.contains(&format!("rule=\"{rule}\"")), "{line}");
    }
    assert!(!home(&host, 1).exists() && !home(&host, 2).exists(), "nothing of them is left");
}

#[test]
fn a_list_says_by_which_rule_each_would_go() {
    let host = Host::configured("[purge]\ninterval = '1day'\nmin_free = '0%'\nmin_free_inodes = '0%'");
    // What the first pass would find comes after it.
    until("the first pass is over", seconds(20), || host.state_dir().join("lanes/clock.json").exists());
    host.end_daemon(Signal::SIGTERM);
    lanes::make(&host, 1, "cache", 40 * DAY, 1 << 20);
    lanes::make(&host, 2, "cache", 20 * DAY, 1 << 20);
    host.start_daemon();
    let rows = host.json(&["cache", "list"]);
    assert_eq!(lane(&rows, 1, "cache")["goes_by"], "max_age");
    assert_eq!(lane(&rows, 2, "cache")["goes_by"], Value::Null);
    let age = lane(&rows, 2, "cache")["age_s"].as_u64().unwrap();
    assert!((20 * DAY..20 * DAY + 60).contains(&age), "{age}");
    let older = host.json(&["cache", "purge", "--dry-run", "--older-than", "10d"]);
    assert_eq!(names(&older), ["gitlab.example.com/1-unprotected/cache", "gitlab.example.com/2-unprotected/cache"]);
}

#[test]
fn a_disk_that_jobs_fill_stays_usable() {
    let Some(disk) = SmallDisk::new(200) else { return };
    let host = Host::configured(&format!(
        "state_dir = '{}/state'\n[purge]\nmin_free = '80 MiB'\nmin_free_inodes = '10%'",
        disk.path().display()
    ));
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    // Ten projects with 30 MiB each, three times: far more than there is, and never more than fits at once.
    let mut made_room = 0;
    for round in 0..3 {
        for project in 0..10_u64 {
            let job = Job::new(&image).project(100 + project, &format!("group/project-{project}")).script(&[
                "rm -f /builds/file; dd if=/dev/urandom of=/builds/file bs=1M count=30 2>&1",
                "for i in $(seq 1 300); do echo x >/cache/$i; done",
                "sync",
            ]);
            let outcome = runner.play(&job);
            outcome.expect(State::Success);
            made_room += usize::from(outcome.log().contains("of what older jobs kept"));
            let (free, all) = disk.free();
            assert!(free > all / 20, "round {round}, project {project}: {free} of {all} bytes are free");
        }
    }
    // Several at once, none of which may lose what it uses.
    std::thread::scope(|scope| {
        for project in 0..3_u64 {
            let (host, image) = (&host, &image);
            scope.spawn(move || {
                let runner = Runner::new(host);
                for round in 0..3 {
                    let number = 200 + project * 10 + round;
                    let job = Job::new(image).project(number, &format!("group/at-once-{number}")).script(&[
                        "dd if=/dev/urandom of=/builds/file bs=1M count=20 2>&1",
                        "sync; md5sum /builds/file >/cache/sum; sleep 1; md5sum -c /cache/sum",
                    ]);
                    runner.play(&job).expect(State::Success);
                }
            });
        }
    });
    assert!(made_room > 0 || host.log().contains("rule=\"min_free\""), "{}", host.log());
    // What was used last is what is left.
    let left = listed(&host);
    assert!(!left.contains("100/builds-0") && left.iter().any(|lane| lane.starts_with('2')), "{left:?}");
    until("the trash is empty", seconds(30), || lanes::trash_is_empty(&host));
    drop(runner);
    drop(host);
}

#[test]
fn a_full_or_read_only_disk_is_named_and_fails_no_job_for_good() {
    let Some(disk) = SmallDisk::new(50) else { return };
    let host = Host::configured(&format!("state_dir = '{}/state'", disk.path().display()));
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let job = || Job::new(&image).script(&["echo done"]);
    runner.play(&job()).expect(State::Success);
    disk.remount("ro");
    let outcome = runner.play(&job());
    outcome.expect(State::system_failure()).expect_log("Read-only file system").expect_log("state/lanes");
    // A daemon that is restarted now can't do more, but it answers, and jobs that run go on.
    host.crash_daemon();
    runner.play(&job()).expect(State::system_failure()).expect_log("Read-only file system");
    disk.remount("rw");
    runner.play(&job()).expect(State::Success);
    // Full of somebody else's files, so nothing may be removed for it.
    let filler = disk.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let piece = vec![1; 64 << 10];
    while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    // An open file would keep its space.
    drop(file);
    for number in 0..20_000 {
        if fs::write(disk.path().join(format!("filler-{number}")), "x").is_err() {
            break;
        }
    }
    let outcome = runner.play(&job().project(8, "other/project"));
    // In the daemon's words, or in those of the job's own script, if the little that older jobs kept was enough to begin with.
    assert_ne!(outcome.state, State::Success);
    outcome.expect_log("No space left on device").expect_log("nothing is left that may be removed");
    until("what is short is said", seconds(20), || host.log().contains("nothing is left that may be removed"));
    let warnings = host.status()["daemon"]["warnings"].to_string();
    assert!(warnings.contains("are free on") && warnings.contains("should be"), "{warnings}");
    for entry in fs::read_dir(disk.path()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("filler") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    runner.play(&job().project(8, "other/project")).expect(State::Success);
    drop(runner);
    drop(host);
}

#[test]
fn a_purge_that_is_killed_goes_on_and_touches_nothing_else() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&image));
    attempt.make_ready();
    let fill = "for i in $(seq 1 50); do echo x >/builds/$i; echo x >/cache/$i; done";
    attempt.run_lines("build_script", fill).wait().expect_code(0);
    let foreign = lanes::directory(&host).join("gitlab.example.com/mine");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("file"), "x").unwrap();
    // Each round purges some hundreds of files in several lanes, and the daemon is killed somewhere in that.
    let (mut untouched, mut under_way, mut over) = (0, 0, 0);
    for round in 0..50_u64 {
        host.end_daemon(Signal::SIGKILL);
        for project in 20..24 {
            let files = lanes::make(&host, project, "builds-0", DAY, 1 << 20).join("files");
            for directory in 0..10 {
                fs::create_dir_all(files.join(format!("d{directory}"))).unwrap();
                for file in 0..20 {
                    fs::write(files.join(format!("d{directory}/{file}")), "x").unwrap();
                }
            }
        }
        host.start_daemon();
        let began = Instant::now();
        let mut purge = host.start_windlass(&["cache", "purge", "--all"]);
        // Up to 30 ms later, spread over all of it.
        let after = Duration::from_micros(round * 7919 % 30_000);
        while began.elapsed() < after {
            std::thread::yield_now();
        }
        host.end_daemon(Signal::SIGKILL);
        let _ = purge.wait();
        let there = (20..24).filter(|project| home(&host, *project).join("builds-0").exists()).count();
        match (there, lanes::trash_is_empty(&host)) {
            (4, true) => untouched += 1,
            (0, true) => over += 1,
            _ => under_way += 1,
        }
        for project in 20..24 {
            let lane = home(&host, project).join("builds-0");
            assert!(!lane.exists() || count(&lane.join("files")) == 200, "round {round}: half a lane in its place");
        }
        host.start_daemon();
        assert!(foreign.join("file").exists());
        assert_eq!(count(&home(&host, 7).join("builds-0/files")), 50, "round {round}");
        assert_eq!(count(&home(&host, 7).join("cache/files")), 50, "round {round}");
    }
    eprintln!("killed before it began {untouched} times, in the middle {under_way} times, after it {over} times");
    assert!(under_way >= 5, "{untouched} {under_way} {over}");
    attempt.run_lines("build_script", "ls /builds /cache | wc -l").wait().expect_code(0);
    attempt.finish();
    host.json(&["cache", "purge", "--all"]);
    until("nothing half-deleted is left", seconds(30), || lanes::trash_is_empty(&host));
}

#[test]
fn jobs_begin_as_quickly_while_a_hundred_thousand_files_are_removed() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let prepare = || {
        let mut attempt = runner.attempt(&Job::new(&image));
        assert_eq!(attempt.configure().code, Some(0));
        let prepared = attempt.prepare().wait();
        prepared.expect_code(0);
        let (took, lease) = (prepared.took, attempt.lease());
        attempt.finish();
        host.wait_until_gone(&lease);
        took
    };
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    prepare();
    let before = median((0..7).map(|_| prepare()).collect());
    host.end_daemon(Signal::SIGTERM);
    for project in 30..33 {
        let files = lanes::make(&host, project, "builds-0", DAY, 1 << 30).join("files");
        for directory in 0..1000 {
            let directory = files.join(format!("d{directory}"));
            fs::create_dir(&directory).unwrap();
            for file in 0..100 {
                fs::File::create(directory.join(file.to_string())).unwrap();
            }
        }
    }
    host.start_daemon();
    prepare();
    assert_eq!(names(&host.json(&["cache", "purge", "--project", "made/by-hand-30"])).len(), 1);
    host.json(&["cache", "purge", "--project", "31"]);
    host.json(&["cache", "purge", "--project", "32"]);
    let nice = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(16).map(str::to_owned))
    };
    let trash = lanes::directory(&host).join(".trash").display().to_string();
    let remover = support::processes::all().into_iter().find(|process| process.command.contains(&trash));
    let remover = remover.expect("a process removes what is in the trash").pid;
    assert_eq!(nice(remover).as_deref(), Some("19"));
    let class = std::process::Command::new("ionice").args(["-p", &remover.to_string()]).output().unwrap();
    assert!(String::from_utf8_lossy(&class.stdout).contains("idle"), "{class:?}");
    let mut during = Vec::new();
    while !lanes::trash_is_empty(&host) && during.len() < 50 {
        during.push(prepare());
    }
    assert!(!during.is_empty(), "the removal was over at once");
    let (jobs, during) = (during.len(), median(during));
    eprintln!("prepare took {before:.0?} before and {during:.0?} while files were removed ({jobs} jobs)");
    // Two processors that others use too: a job that waited for the removal would take many times as long.
    assert!(during < before * 2 + Duration::from_millis(50), "{during:?} instead of {before:?}");
    until("the trash is empty", seconds(60), || lanes::trash_is_empty(&host));
}

#[test]
fn a_dry_run_by_the_rules_says_what_a_run_removes() {
    let Some(registry) = Registry::open() else { return };
    let conf = registry.registries_conf().display().to_string();
    let purge = "interval = '1day'\nmax_age = '1s'\nimage_max_age = '1s'\nmin_free = '0%'\nmin_free_inodes = '0%'";
    let host = Host::configured(&format!(
        "[job]\nnetwork = 'host'\npull_policy = 'always'\n[purge]\n{purge}\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    until("the day's pass is over", seconds(20), || host.state_dir().join("lanes/clock.json").exists());
    let name = registry.image("dry:1");
    let local = host.image(&Image::busybox().env(&format!("DRY={}", std::process::id())));
    let to = format!("docker://{name}");
    let pushed = host.storage.command().args(["push", "--tls-verify=false", &local, &to]).output();
    assert!(pushed.unwrap().status.success());
    host.podman(&["rmi", "--force", &local]);
    let runner = Runner::new(&host);
    runner.play(&Job::new(&name)).expect(State::Success).expect_log("Pulled image");
    let goes = || {
        let rows = host.json(&["images", "list"]);
        let has = |row: &&Value| row["names"].as_array().unwrap().contains(&name.as_str().into());
        rows.as_array().unwrap().iter().find(has).map(|row| row["goes_by"].clone())
    };
    // The image was used when the job began, the lanes until it ended.
    let mut would = Value::Null;
    until("all of it is old enough", seconds(20), || {
        would = host.json(&["cache", "purge", "--dry-run"]);
        names(&would).len() == 3
    });
    assert_eq!(goes(), Some("image_max_age".into()), "a dry run removes nothing");
    let did = host.json(&["cache", "purge"]);
    assert_eq!(names(&did), names(&would));
    assert!(names(&would).contains(&name) && goes().is_none() && listed(&host).is_empty());
}

#[test]
fn directories_that_belong_to_no_lease_go() {
    let host = Host::start();
    host.end_daemon(Signal::SIGTERM);
    let work = host.state_dir().join("work");
    for name in ["0123456789ab/builds/x", "not-ours"] {
        fs::create_dir_all(work.join(name)).unwrap();
    }
    host.start_daemon();
    until("it is gone", seconds(20), || !work.join("0123456789ab").exists());
    assert!(work.join("not-ours").exists());
}

#[test]
fn images_that_no_job_uses_go_and_no_others() {
    let Some(registry) = Registry::with_passwords() else { return };
    let conf = registry.registries_conf().display().to_string();
    let purge = format!(
        "interval = '1s'\nimage_max_age = '30d'\nmin_free = '0%'\nmin_free_inodes = '0%'\npinned_images = ['{}*']",
        registry.image("pinned")
    );
    let host = Host::configured(&format!(
        "[job]\nnetwork = 'host'\npull_policy = 'if-not-present'\n[purge]\n{purge}\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'"
    ));
    let runner = Runner::new(&host);
    let login =
        json!({"auths": {registry.image("").trim_end_matches('/'): {"auth": "dGVzdGVyOnNlY3JldA=="}}}).to_string();
    // One that goes, one that is pinned, one that somebody else named too, one of which somebody has a container, one that was there.
    let named: Vec<String> =
        ["goes", "pinned", "named", "used"].map(|name| registry.image(&format!("{name}:1"))).into();
    for (number, name) in named.iter().enumerate() {
        let local = host.image(&Image::busybox().env(&format!("NUMBER={number}-{}", std::process::id())));
        let to = format!("docker://{name}");
        let pushed = host
            .storage
            .command()
            .args(["push", "--tls-verify=false", "--creds", "tester:secret", &local, &to])
            .output();
        assert!(pushed.unwrap().status.success(), "push {name}");
        host.podman(&["rmi", "--force", name, &local]);
        let job = Job::new(name).secret("DOCKER_AUTH_CONFIG", &login);
        runner.play(&job).expect(State::Success).expect_log("Pulled image");
    }
    let there = host.image(&Image::busybox().env(&format!("NUMBER=there-{}", std::process::id())));
    runner.play(&Job::new(&there)).expect(State::Success);
    host.podman(&["tag", &named[2], "localhost/somebodys/name:1"]);
    let container = format!("somebodys-{}", std::process::id());
    assert!(host.podman(&["create", "--name", &container, &named[3], "true"]).status.success());
    let rows = host.json(&["images", "list"]);
    let stays = |rows: &Value, name: &str| {
        let has = |row: &&Value| row["names"].as_array().unwrap().contains(&name.into());
        rows.as_array().unwrap().iter().find(has).unwrap_or_else(|| panic!("{name} is not in {rows}"))["stays"].clone()
    };
    assert_eq!(stays(&rows, &named[0]), Value::Null);
    assert_eq!(stays(&rows, &named[1]), "pinned");
    assert_eq!(stays(&rows, &named[2]), "not ours");
    assert_eq!(stays(&rows, &named[3]), "in use");
    assert_eq!(stays(&rows, &there), "not ours");
    // A month later.
    host.end_daemon(Signal::SIGTERM);
    let file = host.state_dir().join("images.json");
    let mut uses: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for image in uses["images"].as_object_mut().unwrap().values_mut() {
        image["last_use"] = (image["last_use"].as_u64().unwrap() - 40 * DAY).into();
    }
    fs::write(&file, uses.to_string()).unwrap();
    host.start_daemon();
    let exists = |name: &str| host.podman(&["image", "exists", name]).status.success();
    until("the image is gone", seconds(30), || !exists(&named[0]));
    // podman has removed it before it ends and the daemon can say so.
    let says = |line: &str| ["purged", &named[0], "image_max_age"].iter().all(|word| line.contains(word));
    until("the removal is in the log", seconds(10), || host.log().lines().any(says));
    assert!(named[1..].iter().all(|name| exists(name)) && exists(&there), "others went too");
    host.podman(&["rm", &container]);
    for name in named[1..].iter().chain(&["localhost/somebodys/name:1".to_owned(), there]) {
        host.podman(&["rmi", name]);
    }
}
