//! What jobs keep for each other, and what they don't.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::wait::seconds;
use support::{Host, Image, Job, Outcome, Runner, State, until};

/// The directory of a project's lanes, of refs that are not protected.
fn home(host: &Host, project: u64) -> PathBuf {
    host.dir().join(format!("state/lanes/gitlab.example.com/{project}-unprotected"))
}

fn record(host: &Host, lane: &str) -> Value {
    serde_json::from_slice(&fs::read(home(host, 7).join(lane).join("lane.json")).unwrap()).unwrap()
}

/// A job that says what it finds in /builds and /cache, and leaves something there.
fn finder(image: &str) -> Job {
    Job::new(image).script(&[
        "echo builds: $(cat /builds/kept 2>/dev/null || echo none), cache: $(cat /cache/kept 2>/dev/null || echo none).",
        "echo $CI_JOB_ID >/builds/kept",
        "echo $CI_JOB_ID >/cache/kept",
    ])
}

fn found(outcome: &Outcome, builds: Option<&Job>, cache: Option<&Job>) {
    let id = |job: Option<&Job>| job.map_or("none".to_owned(), |job| job.id.to_string());
    outcome.expect(State::Success).expect_log(&format!("builds: {}, cache: {}.", id(builds), id(cache)));
}

fn what_a_job_leaves_the_next_one_finds_and_nobody_else(host: &Host) {
    let image = host.image(&Image::busybox());
    let runner = Runner::new(host);
    let first = finder(&image);
    let outcome = runner.play(&first);
    found(&outcome, None, None);
    outcome.expect_log("Build directory 0 is new");
    let second = finder(&image);
    let outcome = runner.play(&second);
    found(&outcome, Some(&first), Some(&first));
    outcome.expect_log("Build directory 0 was used ");
    found(&runner.play(&finder(&image).project(8, "other/project")), None, None);
    let protected = Job { protected: Some(true), ..finder(&image) };
    found(&runner.play(&protected), None, None);
    let elsewhere = json!({"repo_url": "https://gitlab-ci-token:x@other.example.com/group/project.git", "ref": "main",
        "sha": "0".repeat(40), "ref_type": "branch", "refspecs": [], "depth": 0, "protected": false});
    let elsewhere = finder(&image).with("git_info", elsewhere);
    found(&runner.play(&elsewhere), None, None);
    // Each goes on with its own.
    found(&runner.play(&Job { id: protected.id + 500, ..protected.clone() }), Some(&protected), Some(&protected));
    found(&runner.play(&Job { id: elsewhere.id + 500, ..elsewhere.clone() }), Some(&elsewhere), Some(&elsewhere));
    found(&runner.play(&finder(&image)), Some(&second), Some(&second));
}

#[test]
fn a_projects_jobs_share_its_lanes_and_no_other_project_sees_them() {
    what_a_job_leaves_the_next_one_finds_and_nobody_else(&Host::start());
}

#[test]
fn so_they_do_on_a_rootless_host() {
    let Some(host) = Host::rootless("") else { return };
    what_a_job_leaves_the_next_one_finds_and_nobody_else(&host);
    // What any id of the jobs' user namespace made can be measured and removed.
    let runner = Runner::new(&host);
    let make = "mkdir -m 700 /builds/closed; dd if=/dev/zero of=/builds/closed/big bs=1M count=2 2>/dev/null; chown -R 4321:4321 /builds/closed";
    runner.play(&Job::new(&host.image(&Image::busybox())).script(&[make])).expect(State::Success);
    until("it is measured", seconds(20), || record(&host, "builds-0")["size"]["bytes"].as_u64() > Some(2 << 20));
    let removed = host.json(&["cache", "purge", "--all"]);
    assert!(removed.as_array().unwrap().len() >= 8, "{removed}");
    until("it is removed", seconds(20), || is_empty(&host.dir().join("state/lanes/.trash")));
    assert!(!home(&host, 7).exists());
}

#[test]
fn jobs_at_once_have_build_directories_of_their_own_and_one_cache() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let (one, two) = (finder(&image), finder(&image));
    let mut first = runner.attempt(&one);
    first.make_ready();
    let call = first.run_lines("build_script", "echo 0 >/builds/kept; echo first >/cache/kept").wait_for(seconds(20));
    assert_eq!(call.code, Some(0), "{}", call.text());
    let outcome = runner.play(&two);
    outcome.expect(State::Success).expect_log("builds: none, cache: first.").expect_log("Build directory 1 is new");
    let lease = first.lease();
    first.finish();
    host.wait_until_gone(&lease);
    // The lowest is taken, with what was left there.
    let third = finder(&image);
    runner.play(&third).expect(State::Success).expect_log(&format!("builds: 0, cache: {}.", two.id));
    assert!(home(&host, 7).join("builds-1/files/kept").exists());
}

#[test]
fn a_job_that_follows_on_the_heels_of_another_waits_for_its_clone() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let first = finder(&image);
    let mut attempt = runner.attempt(&first);
    attempt.make_ready();
    let call = attempt.run_lines("build_script", "echo here >/builds/kept").wait_for(seconds(20));
    assert_eq!(call.code, Some(0));
    assert_eq!(attempt.cleanup().wait_for(seconds(20)).code, Some(0));
    // The first is being taken down now.
    runner.play(&finder(&image)).expect(State::Success).expect_log("builds: here,");
    assert!(!home(&host, 7).join("builds-1").exists());
}

#[test]
fn a_pipeline_begins_with_nothing_where_that_is_wanted() {
    let host = Host::configured("[lanes]\nscope = 'pipeline'");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let of = |pipeline: u64| {
        let info =
            json!({"name": "test", "project_id": 7, "project_full_path": "group/project", "pipeline_id": pipeline});
        finder(&image).with("job_info", info)
    };
    let first = of(100);
    found(&runner.play(&first), None, None);
    found(&runner.play(&of(101)), None, None);
    found(&runner.play(&of(100)), Some(&first), Some(&first));
    let outcome = runner.play(&of(0));
    found(&outcome, None, None);
    outcome.expect_log("Nothing is kept of this job: which pipeline it is of is not known");
}

#[test]
fn nothing_is_kept_where_that_is_wanted() {
    for toml in ["[lanes]\nscope = 'none'", "[lanes]\nscope = 'none'\n[job]\nread_only = true"] {
        let host = Host::configured(toml);
        let image = host.image(&Image::busybox());
        let runner = Runner::new(&host);
        for _ in 0..2 {
            found(&runner.play(&finder(&image)), None, None);
        }
        let left = fs::read_dir(host.dir().join("state/work")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "directories of jobs that are over");
    }
}

#[test]
fn secrets_go_with_the_job_wherever_it_ends() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let project = home(&host, 7).join("builds-0/files/group/project");
    let job = || Job::new(&host.image(&Image::busybox())).file("SECRET", "hunter2");
    let make = "mkdir -p /builds/group/project.tmp /builds/group/project/.git; cd /builds/group; \
                echo hunter2 >project.tmp/SECRET; touch project/.git/index.lock project/kept";
    // Ended in the middle of a stage.
    let mut attempt = runner.attempt(&job());
    attempt.make_ready();
    let lease = attempt.lease();
    let stage = attempt.run_lines("build_script", &format!("{make}; echo made; sleep 1000"));
    until("the secret is there", seconds(20), || project.with_extension("tmp").join("SECRET").exists());
    runner.kill();
    host.wait_until_gone(&lease);
    drop(stage);
    assert!(project.join("kept").exists());
    assert!(!project.with_extension("tmp").exists(), "the file variable is still there");
    assert!(!project.join(".git/index.lock").exists(), "the lock is still there");
    // The daemon is killed in the middle of a stage too, and learns of the job's end when it is back.
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&job());
    attempt.make_ready();
    let lease = attempt.lease();
    let stage = attempt.run_lines("build_script", &format!("{make}; echo made; sleep 1000"));
    until("the secret is there", seconds(20), || project.with_extension("tmp").join("SECRET").exists());
    host.end_daemon(Signal::SIGKILL);
    runner.kill();
    host.start_daemon();
    host.wait_until_gone(&lease);
    drop(stage);
    assert!(project.join("kept").exists() && !project.with_extension("tmp").exists());
}

#[test]
fn what_a_job_plants_leads_the_daemon_nowhere() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    // As the daemon would reach it through the job's links.
    let victim = host.dir().join("victim");
    fs::create_dir_all(victim.join("project.tmp")).unwrap();
    fs::create_dir_all(victim.join("project/.git")).unwrap();
    fs::write(victim.join("project.tmp/file"), "x").unwrap();
    fs::write(victim.join("project/.git/index.lock"), "x").unwrap();
    let path = victim.display();
    for plant in [
        format!("rm -rf /builds/group; ln -s {path} /builds/group"),
        format!(
            "rm -rf /builds/group/project*; ln -s {path}/project.tmp /builds/group/project.tmp; ln -s {path}/project /builds/group/project"
        ),
        format!(
            "rm -rf /builds/group/project; mkdir -p /builds/group/project; ln -s {path}/project/.git /builds/group/project/.git"
        ),
        "cd /builds; for i in $(seq 1 500); do mkdir a-long-name-for-a-directory; cd a-long-name-for-a-directory; done"
            .to_owned(),
        "mknod /builds/pipe p; chmod 000 /builds/pipe; mkdir -m 000 /builds/closed; touch '/builds/a\nname'".to_owned(),
    ] {
        let job = Job::new(&image).script(&[&plant]);
        let mut attempt = runner.attempt(&job);
        attempt.make_ready();
        attempt.run_lines("build_script", &plant).wait_for(seconds(30));
        let lease = attempt.lease();
        assert_eq!(attempt.cleanup().wait_for(seconds(20)).code, Some(0));
        host.wait_until_gone(&lease);
        drop(attempt);
        assert!(victim.join("project.tmp/file").exists() && victim.join("project/.git/index.lock").exists(), "{plant}");
    }
    assert!(host.log().contains("a directory above the project's is no directory"), "{}", host.log());
    // And the next job runs.
    runner.play(&finder(&image)).expect(State::Success);
    until("the lane is measured", seconds(20), || record(&host, "builds-0")["size"]["inodes"].as_u64() > Some(100));
}

#[test]
fn one_projects_files_are_out_of_anothers_reach() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let secret = Job::new(&image).script(&[
        "echo sesame >/builds/secret",
        "echo sesame >/cache/secret",
        "chmod 666 /cache/secret",
    ]);
    runner.play(&secret).expect(State::Success);
    let lanes = host.dir().join("state/lanes");
    let lanes = lanes.display();
    let spy = Job::new(&image).project(8, "other/project").script(&[
        // By links, by names above, by an archive, by a mount, and by a number of the other's files.
        &format!("ln -s {lanes}/gitlab.example.com/7-unprotected/builds-0/files/secret /builds/link"),
        "cat /builds/link 2>&1 || true",
        "ls /builds/.. /cache/../.. /builds/../../../../state/lanes 2>&1 || true",
        "cat /builds/../../7-unprotected/builds-0/files/secret 2>&1 || true",
        &format!("ln {lanes}/gitlab.example.com/7-unprotected/builds-0/files/secret /builds/hard 2>&1 || true"),
        "mkdir -p /tmp/m; mount --bind / /tmp/m 2>&1 || true",
        "mkdir -p /tmp/t/x; ln -s / /tmp/t/x/root; tar -C /tmp/t -cf /builds/evil.tar x; cd /builds; tar -xf evil.tar; cat x/root/cache/secret 2>&1 || true",
        "grep -r sesame /builds /cache /tmp 2>/dev/null | grep -v evil || echo nothing found",
    ]);
    let outcome = runner.play(&spy);
    outcome.expect(State::Success).expect_log("nothing found");
    assert!(!outcome.log().lines().any(|line| line.trim() == "sesame"), "{}", outcome.log());
    // On the host, only the daemon and the root of the project's own user namespace get past its directory.
    let about = fs::metadata(home(&host, 7)).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o710);
    if nix::unistd::geteuid().is_root() {
        assert_ne!(about.gid(), fs::metadata(home(&host, 8)).unwrap().gid(), "two projects have one range of ids");
        assert_eq!(about.uid(), 0);
    }
}

/// Plays two jobs with users who can't change each other's files, in turn.
fn users_in_turn(host: &Host) {
    let runner = Runner::new(host);
    let image = |user: &str| host.image(&Image::git().user(user));
    let script = [
        "cd /builds && mkdir -p group/project && cd group/project",
        "[ -d .git ] || git init --quiet .",
        "git -c user.name=x -c user.email=x@example.com commit --quiet --allow-empty -m next",
        "git log --oneline | wc -l",
        "mkdir -p closed && chmod 700 closed && echo x >closed/file",
        "rm -rf /cache/mine && mkdir /cache/mine && echo x >/cache/mine/archive && chmod 600 /cache/mine/archive",
    ];
    for (count, user) in [(1, "1234"), (2, "0"), (3, "app"), (4, "app"), (5, "33")] {
        let outcome = runner.play(&Job::new(&image(user)).script(&script));
        outcome.expect(State::Success).expect_log(&format!("\n{count}\n"));
        let given = outcome.log().contains("What is in build directory 0 was given to user");
        // The same user needs nothing, once it is known that all of it is that user's.
        assert_eq!(given, ![1, 4].contains(&count), "user {user}: {}", outcome.log());
        until("the lanes are measured", seconds(20), || {
            ["builds-0", "cache"].iter().all(|lane| record(host, lane)["measured"] == record(host, lane)["uses"])
        });
    }
}

#[test]
fn a_clone_is_worked_on_by_one_user_after_another() {
    users_in_turn(&Host::start());
}

#[test]
fn a_clone_is_worked_on_by_one_user_after_another_on_a_rootless_host() {
    let Some(host) = Host::rootless("") else { return };
    users_in_turn(&host);
}

#[test]
fn a_clone_is_worked_on_by_one_user_after_another_by_podman_exec() {
    users_in_turn(&Host::configured("[job]\nexec = 'podman'"));
}

#[test]
fn a_lane_stays_taken_while_the_daemon_is_away_and_free_when_the_host_was() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&finder(&image));
    attempt.make_ready();
    host.crash_daemon();
    runner.play(&finder(&image)).expect(State::Success).expect_log("Build directory 1 is new");
    attempt.finish();
    until("no lease is left", seconds(20), || host.status()["leases"].as_array().unwrap().is_empty());
    // A job had lane 0, and the host went down: nobody knows what is in it.
    host.end_daemon(Signal::SIGTERM);
    fs::write(home(&host, 7).join("builds-0/files/half-a-clone"), "x").unwrap();
    for lane in ["builds-0", "cache"] {
        let mut record = record(&host, lane);
        record["in_use"] = "another-boot".into();
        fs::write(home(&host, 7).join(lane).join("lane.json"), record.to_string()).unwrap();
    }
    host.start_daemon();
    runner.play(&finder(&image)).expect(State::Success).expect_log("Build directory 1 was used");
    assert!(!home(&host, 7).join("builds-0").exists());
    assert!(home(&host, 7).join("cache/files/kept").exists(), "an archive is whole or not there");
    until("the trash is empty", seconds(20), || is_empty(&host.dir().join("state/lanes/.trash")));
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn a_clone_that_two_jobs_could_not_use_goes() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let kept = home(&host, 7).join("builds-0/files/kept");
    let sources = |lines: &str, code: i32| {
        let mut attempt = runner.attempt(&finder(&image));
        attempt.make_ready();
        assert_eq!(attempt.run_lines("get_sources", lines).wait_for(seconds(20)).code, Some(code));
        // As gitlab-runner goes on after a failure: by then the daemon has heard of it.
        attempt.run_lines("cleanup_file_variables", "true").wait().expect_code(0);
        let lease = attempt.lease();
        attempt.finish();
        host.wait_until_gone(&lease);
    };
    sources("touch /builds/kept", 0);
    sources("exit 128", 1);
    sources("true", 0);
    sources("exit 128", 1);
    assert!(kept.exists(), "one failure in a row");
    sources("exit 128", 1);
    assert!(!kept.exists() && host.log().contains("2 jobs in a row could not get their sources"), "{}", host.log());
}

#[test]
fn what_is_not_ours_stays_where_it_is() {
    let host = Host::start();
    let lanes = host.dir().join("state/lanes");
    host.end_daemon(Signal::SIGTERM);
    let foreign = ["notes", "gitlab.example.com/7-unprotected/builds-0", "gitlab.example.com/mine/builds-0/files"];
    for directory in foreign {
        fs::create_dir_all(lanes.join(directory)).unwrap();
        fs::write(lanes.join(directory).join("file"), "x").unwrap();
    }
    fs::create_dir_all(lanes.join("gitlab.example.com/9-unprotected/.new-builds-0-1/files")).unwrap();
    fs::write(
        lanes.join("gitlab.example.com/9-unprotected/home.json"),
        json!({"instance": "gitlab.example.com", "project": 9, "project_path": "g/p", "protected": false, "ids": "x"})
            .to_string(),
    )
    .unwrap();
    host.start_daemon();
    assert!(foreign.iter().all(|directory| lanes.join(directory).join("file").exists()));
    assert!(host.log().contains("is no lane of ours and is left alone"), "{}", host.log());
    // Jobs keep out of its way.
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let first = finder(&image);
    runner.play(&first).expect(State::Success).expect_log("Build directory 1 is new");
    assert!(lanes.join(foreign[1]).join("file").exists());
    fs::create_dir_all(home(&host, 7).with_file_name("8-unprotected").join("cache")).unwrap();
    let outcome = runner.play(&finder(&image).project(8, "other/project"));
    found(&outcome, None, None);
    outcome.expect_log("Nothing is kept of this job");
    // A record that the host's power took with it makes no lane of ours a foreign one.
    host.end_daemon(Signal::SIGTERM);
    fs::write(home(&host, 7).join("builds-1/lane.json"), "").unwrap();
    host.start_daemon();
    let outcome = runner.play(&finder(&image));
    outcome.expect(State::Success).expect_log(&format!("builds: none, cache: {}.", first.id));
    assert!(lanes.join(foreign[1]).join("file").exists(), "in a home of ours by now, and none of ours all the same");
    // What a later release knows of a lane is left to it, and so is the lane.
    host.end_daemon(Signal::SIGTERM);
    let later = home(&host, 7).join("builds-1/lane.json");
    let record = json!({"version": 2, "uses": {"of": "another kind"}}).to_string();
    fs::write(&later, &record).unwrap();
    host.start_daemon();
    assert!(host.log().contains("builds-1/lane.json was written by a later release"), "{}", host.log());
    runner.play(&finder(&image)).expect(State::Success).expect_log("Build directory 2 is new");
    assert_eq!(fs::read_to_string(&later).unwrap(), record);
    until("what was in the making is gone", seconds(20), || {
        !lanes.join("gitlab.example.com/9-unprotected/.new-builds-0-1").exists() && is_empty(&lanes.join(".trash"))
    });
}
