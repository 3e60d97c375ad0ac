//! The same jobs through a real gitlab-runner (17.9 or newer), where one is on PATH.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::coordinator::{Coordinator, Entry, GitlabRunner};
use support::host::SharedHost;
use support::wait::seconds;
use support::{Host, Image, Job, git, until};

static HOST: SharedHost = SharedHost::new("");

const ENTRY: Entry = Entry { name: "test", token: "glrt-test-token-1", profile: None };

#[test]
fn a_job_is_green_with_its_whole_log_and_a_failed_one_is_red_with_its_own_exit_code() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let (host, coordinator) = (HOST.get(), Coordinator::start());
    let image = host.image(&Image::busybox());
    let green = Job::new(&image)
        .script(&["echo hello > f", "cat f", "seq 1 20000"])
        .after_script(&["cat f", "echo after script"]);
    // bash has the script evaluated in another way than busybox's shell.
    let reds = [image.clone(), host.image(&Image::git())]
        .map(|image| Job::new(&image).script(&["echo before", "(exit 42)", "echo never"]));
    coordinator.queue(ENTRY.token, &green);
    reds.iter().for_each(|red| coordinator.queue(ENTRY.token, red));
    let mut runner = GitlabRunner::start(&host, &coordinator, &[ENTRY], "test", 3);
    let done = coordinator.wait_for(green.id);
    assert_eq!(done.result().unwrap()["state"], "success", "{}\n{}", done.log(), runner.log());
    for text in ["hello", "after script", "windlass", "Container windlass-"] {
        assert!(done.log().contains(text), "the log lacks {text:?}:\n{}", done.log());
    }
    let numbers: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert!(done.log().contains(&numbers), "the log lacks some of the output");
    for red in &reds {
        let done = coordinator.wait_for(red.id);
        let result = done.result().unwrap();
        assert_eq!(
            (&result["state"], &result["failure_reason"], &result["exit_code"]),
            (&"failed".into(), &"script_failure".into(), &42.into()),
            "{}",
            done.log()
        );
        assert!(!done.log().contains("\nnever"));
    }
    runner.wait();
    until("all leases are gone", seconds(20), || {
        [&green, &reds[0], &reds[1]].iter().all(|job| host.lease_of_job(job.id).is_none())
    });
}

#[test]
fn a_canceled_job_runs_its_trap_and_then_after_script() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let (host, coordinator) = (HOST.get(), Coordinator::start());
    let job = Job::new(&host.image(&Image::busybox()))
        .script(&[
            "trap 'echo trap ran; exit 1' TERM",
            "echo begun",
            "i=0; while :; do i=$((i + 1)); echo tick $i; sleep 0.2; done",
        ])
        .after_script(&["echo after ran", "ps | grep '[s]leep' || echo nothing left"])
        .cancel_when("tick 2");
    coordinator.queue(ENTRY.token, &job);
    let mut runner = GitlabRunner::start(&host, &coordinator, &[ENTRY], "test", 1);
    let done = coordinator.wait_for(job.id);
    assert_eq!(done.result().unwrap()["state"], "failed", "{}", done.log());
    for text in ["trap ran", "after ran", "nothing left"] {
        assert!(done.log().contains(text), "the log lacks {text:?}:\n{}", done.log());
    }
    runner.wait();
    until("the lease is gone", seconds(20), || host.lease_of_job(job.id).is_none());
}

#[test]
fn a_job_that_times_out_is_ended_with_everything_in_it() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let (host, coordinator) = (HOST.get(), Coordinator::start());
    let job = Job::new(&host.image(&Image::busybox())).script(&["echo begun", "sleep 1000"]).timeout(seconds(8));
    coordinator.queue(ENTRY.token, &job);
    let mut runner = GitlabRunner::start(&host, &coordinator, &[ENTRY], "test", 1);
    let done = coordinator.wait_for(job.id);
    let result = done.result().unwrap();
    assert_eq!(
        (&result["state"], &result["failure_reason"]),
        (&"failed".into(), &"job_execution_timeout".into()),
        "{}",
        done.log()
    );
    runner.wait();
    until("the lease is gone", seconds(20), || host.lease_of_job(job.id).is_none());
}

#[test]
fn an_image_that_is_not_there_fails_the_job_at_once() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let (host, coordinator) = (HOST.get(), Coordinator::start());
    let job = Job::new("localhost/windlass/not-there:1");
    coordinator.queue(ENTRY.token, &job);
    let mut runner = GitlabRunner::start(&host, &coordinator, &[ENTRY], "test", 1);
    let done = coordinator.wait_for(job.id);
    assert_eq!(done.result().unwrap()["failure_reason"], "script_failure", "{}", done.log());
    assert_eq!(done.log().matches("is not on this host").count(), 1, "{}", done.log());
    runner.wait();
}

#[test]
fn two_runners_with_two_profiles_work_at_once() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let entries = [
        Entry { name: "big", token: "glrt-test-token-big", profile: Some("big") },
        Entry { name: "small", token: "glrt-test-token-small", profile: Some("small") },
    ];
    let host = Host::configured("[profile.big]\nslots = 1\n[profile.small]\nslots = 1");
    let coordinator = Coordinator::start();
    let image = host.image(&Image::busybox());
    let wait = "until [ -e /builds/go ]; do sleep 0.1; done";
    let jobs = [Job::new(&image).script(&["echo begun", wait]), Job::new(&image).script(&["echo begun", wait])];
    let mut runners: Vec<_> = entries
        .iter()
        .zip(&jobs)
        .map(|(entry, job)| {
            coordinator.queue(entry.token, job);
            GitlabRunner::start(&host, &coordinator, &entries, entry.name, 1)
        })
        .collect();
    for (entry, job) in entries.iter().zip(&jobs) {
        let running = |lease: &serde_json::Value| lease["stage"] == "build_script" && lease["profile"] == entry.name;
        until("both jobs run at once", seconds(60), || host.lease_of_job(job.id).as_ref().is_some_and(running));
    }
    for job in &jobs {
        let container = host.lease_of_job(job.id).unwrap()["container"].as_str().unwrap().to_owned();
        assert!(host.podman(&["exec", &container, "touch", "/builds/go"]).status.success());
    }
    for job in &jobs {
        let done = coordinator.wait_for(job.id);
        assert_eq!(done.result().unwrap()["state"], "success", "{}", done.log());
    }
    for runner in &mut runners {
        runner.wait();
    }
}

#[test]
fn a_runner_that_is_killed_leaves_nothing() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let (host, coordinator) = (HOST.get(), Coordinator::start());
    let job = Job::new(&host.image(&Image::busybox())).script(&["echo begun", "sleep 1000"]);
    coordinator.queue(ENTRY.token, &job);
    let mut runner = GitlabRunner::start(&host, &coordinator, &[ENTRY], "test", 1);
    until("the job runs", seconds(60), || {
        host.lease_of_job(job.id).is_some_and(|lease| lease["stage"] == "build_script")
    });
    let container = host.lease_of_job(job.id).unwrap()["container"].as_str().unwrap().to_owned();
    runner.kill();
    until("nothing is left of the job", seconds(10), || {
        host.lease_of_job(job.id).is_none() && !host.podman(&["container", "exists", &container]).status.success()
    });
}

#[test]
fn a_repository_is_cloned_and_its_files_are_there() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let (host, coordinator) = (Host::configured("[job]\nnetwork = \"host\""), Coordinator::start());
    let (_daemon, repository) = git::repository(&host);
    let sha = repository.sha.clone();
    let mut job = Job::new(&host.image(&Image::git().user("app"))).script(&["cat README", "git log --oneline"]);
    job.repository = Some(repository);
    coordinator.queue(ENTRY.token, &job);
    let mut runner = GitlabRunner::start(&host, &coordinator, &[ENTRY], "test", 1);
    let done = coordinator.wait_for(job.id);
    assert_eq!(done.result().unwrap()["state"], "success", "{}", done.log());
    for text in ["the file of the repository", &sha[..7]] {
        assert!(done.log().contains(text), "the log lacks {text:?}:\n{}", done.log());
    }
    runner.wait();
}

#[test]
fn images_without_gitlab_runner_or_git_have_a_repository_artifacts_and_a_cache_and_with_a_helper_they_need_neither() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let (host, coordinator) = (Host::start(), Coordinator::start());
    let git = host.image(&Image::git());
    host.configure(&format!(
        "[job]\nnetwork = 'host'\n[job.helper]\nmode = 'image'\nimage = '{git}'\n[profile.inject.job.helper]\nmode = 'inject'"
    ));
    host.crash_daemon();
    let (_daemon, repository) = git::repository(&host);
    let inject = Entry { name: "inject", token: "glrt-test-token-2", profile: Some("inject") };
    let (bare, own) = (host.image(&Image::busybox().user("app")), host.image(&Image::git().user("app")));
    for (entry, image, place) in [(&ENTRY, bare, "no git"), (&inject, own, "/usr/bin/git")] {
        let script =
            ["command -v git || echo no git", "cat README", "mkdir -p out v", "date >out/f", "echo x >v/c", "id -un"];
        let cache = serde_json::json!([{"key": "k", "paths": ["v/"], "policy": "pull-push", "when": "on_success"}]);
        let mut job = Job::new(&image).script(&script).with("cache", cache);
        (job.repository, job.artifacts) = (Some(repository.clone()), true);
        coordinator.queue(entry.token, &job);
        let mut runner = GitlabRunner::start(&host, &coordinator, std::slice::from_ref(entry), entry.name, 1);
        let done = coordinator.wait_for(job.id);
        assert_eq!(done.result().unwrap()["state"], "success", "{}", done.log());
        for text in ["the file of the repository", "\napp\n", "Created cache", "Uploading artifacts", "... 201"] {
            assert!(done.log().contains(text), "the log lacks {text:?}:\n{}", done.log());
        }
        assert!(done.log().contains(&format!("\n{place}\n")), "the log lacks {place:?}:\n{}", done.log());
        // It is the runner's own, so nothing is to be said about its version.
        assert!(!done.log().contains("of version") && !done.log().contains("no gitlab-runner"), "{}", done.log());
        runner.wait();
    }
    let uploads = coordinator.requests().into_iter().filter(|request| request.path.contains("/artifacts")).count();
    assert!(uploads >= 2, "{uploads} artifacts came");
}
