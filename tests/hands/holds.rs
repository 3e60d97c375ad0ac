//! `windlass hold`: a failed job is kept, for as long as it was asked for and no secret longer than the job.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::wait::seconds;
use crate::support::{Host, Image, Job, Runner, State, until, value};
use crate::{shell, text, windlass};

fn hold(host: &Host, arguments: &[&str]) {
    let output = windlass(host, "hold", arguments);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

/// The states of all that is held or waited for.
fn held(host: &Host) -> Vec<String> {
    let rows = host.json(&["hold", "--list"]);
    rows.as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect()
}

fn wait_until_held(host: &Host, job: u64) -> Value {
    value("the job is held and its slot free", seconds(20), || {
        let status = host.status();
        let lease = host.lease_of_job(job).filter(|lease| lease["state"] == "held")?;
        status["slots"].as_array().unwrap().iter().all(|slot| slot["lease"].is_null()).then_some(lease)
    })
}

fn wait_until_gone(host: &Host, job: u64) {
    until("the job is gone", seconds(20), || host.lease_of_job(job).is_none());
}

/// What has to hold of holds everywhere.
fn holds(host: &Host) {
    let image = host.image(&Image::busybox());
    let runner = Runner::new(host);
    let failing = || {
        Job::new(&image).file("KEY_FILE", "s3cret-file").secret("SECRET", "s3cret-w0rd").script(&[
            "echo kept > left-behind",
            // As gitlab-runner does.
            "mkdir -p $CI_PROJECT_DIR.tmp",
            "echo $KEY_FILE > $CI_PROJECT_DIR.tmp/KEY_FILE",
            "(exit 9)",
        ])
    };
    hold(host, &["group/project", "--for", "10m"]);
    runner.play(&Job::new(&image)).expect(State::Success);
    assert_eq!(held(host), ["waiting"], "a job that succeeds is not held");
    let job = failing();
    let id = job.id.to_string();
    let outcome = runner.play_to_be_held(&job);
    outcome.expect(State::script_failure(9)).expect_log(&format!("windlass shell {id}")).expect_log("is kept until");
    let lease = wait_until_held(host, job.id);
    assert!(lease["held_until"].is_string() && lease["slot"].is_null(), "{lease}");
    let shown = text(&windlass(host, "status", &[]));
    assert!(shown.contains("held") && shown.contains(&format!("windlass shell {id}")), "{shown}");
    assert_eq!(shell(host, &[&id, "--", "cat", "left-behind"], "", 0), "kept\n");
    let search =
        "cat /proc/*/environ; for place in /builds /tmp; do [ ! -d $place ] || grep -r s3cret $place; done; true";
    let secrets = shell(host, &[&id, "--user", "0", "--", "sh", "-c", search], "", 0);
    assert!(!secrets.contains("s3cret"), "{secrets}");
    assert!(!host.run_dir().join("leases").join(&outcome.leases[0]).join("auth.json").exists());
    // Others run meanwhile, and find another build directory.
    runner.play(&Job::new(&image).script(&["test ! -e left-behind"])).expect(State::Success);
    // A purge takes nothing of it, and the next daemon goes on with it.
    windlass(host, "cache", &["purge", "--all"]);
    host.crash_daemon();
    let lease = wait_until_held(host, job.id);
    assert_eq!(lease["state"], "held");
    assert_eq!(shell(host, &[&id, "--", "cat", "left-behind"], "", 0), "kept\n");
    // gitlab-runner may clean up twice.
    assert_eq!(held(host), ["held"]);
    let released = windlass(host, "release", &[&id]);
    assert!(text(&released).contains(&format!("released: job {id}")), "{}", text(&released));
    wait_until_gone(host, job.id);
    assert!(held(host).is_empty());
    // The next failure of a project is nobody's.
    let job = failing();
    runner.play(&job).expect(State::script_failure(9));
    wait_until_gone(host, job.id);
}

#[test]
fn a_failed_job_is_held_until_it_is_released() {
    holds(&Host::start());
}

#[test]
fn a_failed_job_is_held_where_stages_come_by_podman_exec() {
    holds(&Host::configured("[job]\nexec = \"podman\""));
}

#[test]
fn a_failed_job_is_held_without_privileges() {
    let Some(host) = Host::rootless("") else { return };
    holds(&host);
}

#[test]
fn a_job_is_held_where_nothing_else_is_kept_and_its_variables_are_removed() {
    let host = Host::configured("[lanes]\nscope = 'none'");
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    hold(&host, &["7"]);
    let job =
        Job::new(&image).script(&["mkdir -p $CI_PROJECT_DIR.tmp", "echo s3cret > $CI_PROJECT_DIR.tmp/more", "exit 1"]);
    runner.play_to_be_held(&job).expect(State::script_failure(1));
    wait_until_held(&host, job.id);
    let id = job.id.to_string();
    until("the directory is gone", seconds(20), || {
        shell(&host, &[&id, "--", "sh", "-c", "test -e /builds/group/project.tmp; echo $?"], "", 0) == "1\n"
    });
    assert_eq!(windlass(&host, "release", &["group/project"]).status.code(), Some(0));
    wait_until_gone(&host, job.id);
}

#[test]
fn a_hold_ends_with_its_time_also_while_the_daemon_is_away() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let fail = |time: &str| {
        hold(&host, &["group/project", "--for", time]);
        let job = Job::new(&image).script(&["exit 1"]);
        runner.play_to_be_held(&job).expect(State::script_failure(1));
        job
    };
    let job = fail("8s");
    wait_until_held(&host, job.id);
    wait_until_gone(&host, job.id);
    let job = fail("8s");
    wait_until_held(&host, job.id);
    host.end_daemon(Signal::SIGKILL);
    let since = std::time::Instant::now();
    until("its time is over", seconds(20), || since.elapsed() > seconds(9));
    host.start_daemon();
    wait_until_gone(&host, job.id);
    assert!(host.log().contains("the time of its hold is over"));
}

#[test]
fn a_wish_outlasts_the_daemon_and_is_for_the_job_that_was_named() {
    let host = Host::start();
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let (other, named) = (Job::new(&image).script(&["exit 1"]), Job::new(&image).script(&["exit 1"]));
    hold(&host, &["gitlab.example.com/group/project", "--job", &named.id.to_string()]);
    host.crash_daemon();
    runner.play(&other).expect(State::script_failure(1));
    wait_until_gone(&host, other.id);
    runner.play_to_be_held(&named).expect(State::script_failure(1));
    wait_until_held(&host, named.id);
    // One who drains the host does not wait for it.
    let drained = windlass(&host, "drain", &["--wait"]);
    assert_eq!(drained.status.code(), Some(0), "{}", text(&drained));
    assert_eq!(windlass(&host, "undrain", &[]).status.code(), Some(0));
    windlass(&host, "release", &[&named.id.to_string()]);
    wait_until_gone(&host, named.id);
}

#[test]
fn a_canceled_job_is_not_held_and_the_next_one_is_waited_for() {
    let host = Host::start();
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox())).script(&["echo started", "sleep 1000"]).cancel_when("started");
    hold(&host, &["group/project"]);
    runner.play(&job);
    wait_until_gone(&host, job.id);
    assert_eq!(held(&host), ["waiting"]);
    assert_eq!(windlass(&host, "release", &["group/project"]).status.code(), Some(0));
    assert!(held(&host).is_empty());
    let nothing = windlass(&host, "release", &["group/project"]);
    assert!(nothing.status.code() == Some(1) && text(&nothing).contains("nothing is held"), "{}", text(&nothing));
}

#[test]
fn the_log_says_who_has_a_job_held_and_who_has_released_it() {
    let host = Host::start();
    let runner = Runner::new(&host);
    hold(&host, &["group/project", "--for", "10m"]);
    let rows = host.json(&["hold", "--list"]);
    let by = rows[0]["by"].as_str().unwrap().to_owned();
    assert!(by.contains(&format!("uid {}", host.account.uid())), "{by}");
    let said = |words: &str| {
        let log = host.log();
        let line = log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("no {words:?}:\n{log}"));
        assert!(line.contains(&by), "{by} is missing: {line}");
    };
    said("the next job of group/project that fails will be held for 10m");
    let job = Job::new(&host.image(&Image::busybox())).script(&["exit 1"]);
    runner.play_to_be_held(&job).expect(State::script_failure(1));
    wait_until_held(&host, job.id);
    said(&format!("job {} is held until ", job.id));
    assert_eq!(windlass(&host, "release", &[&job.id.to_string()]).status.code(), Some(0));
    wait_until_gone(&host, job.id);
    said(&format!("job {} is released", job.id));
}

#[test]
fn no_more_is_held_and_no_longer_than_the_configuration_allows() {
    let host = Host::configured("[hold]\nmax_held = 1\nmax_time = '1h'");
    for (arguments, words) in
        [(["group/project", "--for", "2h"], "max_time"), (["group/project", "--for", "0s"], "max_time")]
    {
        let refused = windlass(&host, "hold", &arguments);
        assert!(refused.status.code() == Some(1) && text(&refused).contains(words), "{}", text(&refused));
    }
    hold(&host, &["group/project"]);
    let refused = windlass(&host, "hold", &["group/other"]);
    assert!(refused.status.code() == Some(1) && text(&refused).contains("max_held"), "{}", text(&refused));
    let runner = Runner::new(&host);
    let job = Job::new(&host.image(&Image::busybox())).script(&["exit 1"]);
    runner.play_to_be_held(&job).expect(State::script_failure(1));
    wait_until_held(&host, job.id);
    let refused = windlass(&host, "hold", &["group/other"]);
    assert!(refused.status.code() == Some(1) && text(&refused).contains("max_held"), "{}", text(&refused));
    // Jobs that run come first: where the disk is too full for them, what is held goes.
    host.reload("[hold]\nmax_held = 1\n[purge]\nmin_free = '100%'");
    until("the reload is in effect", seconds(20), || host.log().contains("purge.min_free"));
    let next = Job::new(&host.image(&Image::busybox()));
    runner.play(&next).expect(State::Success).expect_log("Released failed jobs that were held");
    wait_until_gone(&host, job.id);
}
