//! verify_jobs: GitLab is asked whether a job is what it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use support::coordinator::{Coordinator, Entry, GitlabRunner};
use support::{Host, Image, Job, Runner};

fn host(gitlab: &Coordinator) -> Host {
    Host::configured(&format!("[gitlab]\nurl = '{}'\nverify_jobs = true", gitlab.url()))
}

/// What config answers to a job, and what it says.
fn configured(runner: &Runner<'_>, job: &Job) -> (bool, String) {
    let mut attempt = runner.attempt(job);
    let finished = attempt.configure();
    let taken = finished.code == Some(0);
    let said = finished.text();
    if taken {
        attempt.finish();
    }
    (taken, said)
}

#[test]
fn a_job_gets_a_slot_when_gitlab_knows_it_and_none_when_it_is_another() {
    let gitlab = Coordinator::start();
    let host = host(&gitlab);
    let runner = Runner::new(&host);
    let mine = Job::new(&host.image(&Image::busybox()));
    let (taken, said) = configured(&runner, &mine);
    assert!(!taken && said.contains("is not known as a running one") && said.contains("401"), "{said}");
    gitlab.runs(&mine);
    let (taken, said) = configured(&runner, &mine);
    assert!(taken, "{said}");
    // The token of one job with the project of another.
    for claimed in [mine.clone().project(8, "group/project"), mine.clone().project(7, "infra/builder")] {
        let (taken, said) = configured(&runner, &claimed);
        assert!(!taken && said.contains("GitLab says that its token is of project"), "{said}");
    }
    assert!(!host.log().contains(&mine.token()));
}

#[test]
fn a_gitlab_that_is_away_for_a_moment_is_asked_again() {
    let gitlab = Coordinator::start();
    let host = host(&gitlab);
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox()));
    gitlab.runs(&job);
    gitlab.fail_next(2);
    let (taken, said) = configured(&runner, &job);
    assert!(taken, "{said}");
    gitlab.fail_next(100);
    let (taken, said) = configured(&runner, &job);
    assert!(!taken && said.contains("can't be verified") && said.contains("503"), "{said}");
}

#[test]
fn a_real_gitlab_runners_job_is_verified_with_its_own_token() {
    if !GitlabRunner::is_installed() {
        return;
    }
    let gitlab = Coordinator::start();
    let host = host(&gitlab);
    let job = Job::new(&host.image(&Image::busybox())).script(&["echo verified"]);
    let entry = Entry { name: "test", token: "glrt-test-token-1", profile: None };
    gitlab.queue(entry.token, &job);
    let mut runner = GitlabRunner::start(&host, &gitlab, &[entry], "test", 1);
    let done = gitlab.wait_for(job.id);
    assert_eq!(done.result().unwrap()["state"], "success", "{}\n{}", done.log(), runner.log());
    assert!(gitlab.requests().iter().any(|request| request.method == "GET" && request.path == "/api/v4/job"));
    runner.wait();
}
