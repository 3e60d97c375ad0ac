//! What goes on now, while it goes on.

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::page::PageAt;
use crate::support::registry::{Registry, free_port};
use crate::support::{Host, Image, Job, Runner, until, wait::seconds};

#[test]
fn a_job_is_seen_from_its_begin_to_its_end_and_another_with_what_it_waits_for() {
    let page = PageAt(free_port());
    let settings = format!("slots = 1\n{}[job]\nmemory = '256 MiB'\n", page.settings());
    let host = Host::configured(&settings);
    let image = host.image(&Image::busybox());
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();
    browser.until_text("#slot-default-0", "free");
    let runner = Runner::new(&host);
    let mut first = runner.attempt(&Job::new(&image));
    first.make_ready();
    browser.until_text("#slot-default-0", "between stages");
    let stage = first.run_lines("build_script", "echo begun\nwhile ! test -e /tmp/end; do sleep 0.1; done\n");
    stage.wait_for_output("begun");
    browser.until_text("#slot-default-0", "build_script");
    let tile = browser.text("#slot-default-0");
    assert!(tile.contains("group/project") && tile.contains("running") && tile.contains(" ago"), "{tile}");
    let link = browser.run("return document.querySelector('#slot-default-0 a').href");
    assert!(link.as_str().unwrap().ends_with(&format!("/group/project/-/jobs/{}", first.job.id)), "{link}");
    // What it uses, by its cgroup, against its limit.
    browser.until_text("#slot-default-0", "Memory");
    browser.until_text("#slot-default-0", "CPUs");
    assert!(browser.text("#slot-default-0").contains("of 256.0 MiB"), "{}", browser.text("#slot-default-0"));
    let second = runner.attempt(&Job::new(&image));
    let waiting = second.config();
    browser.until_text("#waiting", "a slot of profile default: all 1 are in use");
    assert!(browser.text("#waiting").contains(&second.job.id.to_string()));
    waiting.terminate();
    waiting.wait_for(seconds(10));
    second.cleanup().wait().expect_code(0);
    browser.until_text("#waiting", "No job waits");
    let lease = first.lease();
    let container = host.container(&lease).unwrap();
    assert!(host.podman(&["exec", &container, "touch", "/tmp/end"]).status.success());
    stage.wait().expect_code(0);
    first.finish();
    browser.until_text("#slot-default-0", "free");
}

/// The words of the steps that a job of a slot waits for, by the API.
fn steps(page: PageAt) -> Vec<String> {
    let now = page.api("now");
    let steps = now["slots"][0]["job"]["steps"].as_array().cloned().unwrap_or_default();
    steps.iter().map(|step| step["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_job_that_is_prepared_shows_what_it_waits_for() {
    let Some(registry) = Registry::open() else { return };
    let page = PageAt(free_port());
    let conf = registry.registries_conf().display().to_string();
    let host = Host::configured(&format!(
        "slots = 1\n{}[job]\npull_policy = 'if-not-present'\nwait_for_services = '10m'\n\
         [podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{conf}'\n",
        page.settings()
    ));
    let late = "while ! test -e /tmp/up; do sleep 0.1; done; exec httpd -f -p 8080 -h /tmp";
    let service = host.image(&Image::busybox().expose(8080).cmd(&["sh", "-c", late]));
    // Layers that the host does not have under another name.
    let source = host.image(&Image::busybox().env(&format!("MARK=n{}", registry.port)));
    let image = registry.image("group/image:1");
    let push = ["push", "--quiet", "--tls-verify=false", &source, &image];
    assert!(host.storage.command().args(push).status().unwrap().success());
    host.podman(&["rmi", "--force", &source]);
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();
    let runner = Runner::new(&host);
    let services = json!([{"name": service, "alias": "late"}]);
    let mut attempt = runner.attempt(&Job::new(&image).with("services", services));
    attempt.configure().expect_code(0);

    let stopped = registry.stopped();
    let prepare = attempt.prepare();
    let pulling = format!("pulling image {image}");
    until("it pulls", seconds(60), || steps(page) == std::slice::from_ref(&pulling));
    browser.until_text("#slot-default-0", &pulling);
    let tile = browser.text("#slot-default-0");
    assert!(tile.contains("preparing") && tile.contains(", begun "), "{tile}");
    let socket = host.socket().display().to_string();
    let status = host.windlass(&["status", "--socket", &socket]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(&format!("job {} is {pulling}, for ", attempt.job.id)), "{status}");
    super::api::check_all(page, None);

    drop(stopped);
    until("its service is awaited", seconds(120), || steps(page) == ["waiting for service late to be ready"]);
    browser.until_text("#slot-default-0", "waiting for service late to be ready");
    assert_eq!(steps(page), ["waiting for service late to be ready"]);
    let lease = format!("label=io.windlass.lease={}", &attempt.lease()[..12]);
    let of_job = |role: &str| {
        let role = format!("label=io.windlass.role={role}");
        let found = host.podman(&["ps", "--quiet", "--filter", &lease, "--filter", &role]);
        String::from_utf8_lossy(&found.stdout).trim().to_owned()
    };
    assert!(host.podman(&["exec", &of_job("service"), "touch", "/tmp/up"]).status.success());
    prepare.wait().expect_code(0);
    browser.until_text("#slot-default-0", "between stages");
    assert_eq!(steps(page), Vec::<String>::new());
    let stage = attempt.run_lines("build_script", "echo begun\nwhile ! test -e /tmp/end; do sleep 0.1; done\n");
    stage.wait_for_output("begun");
    browser.until_text("#slot-default-0", "build_script");
    assert!(host.podman(&["exec", &of_job("job"), "touch", "/tmp/end"]).status.success());
    stage.wait().expect_code(0);
    attempt.finish();
    host.podman(&["rmi", &image]);
}

#[test]
fn what_a_job_used_at_most_is_known_though_nobody_looked() {
    let page = PageAt(free_port());
    let host = Host::configured(&format!("slots = 1\n{}[job]\nmemory = '256 MiB'\n", page.settings()));
    let runner = Runner::new(&host);
    let mut attempt = runner.attempt(&Job::new(&host.image(&Image::busybox())));
    attempt.make_ready();
    let busy = "end=$(( $(date +%s) + 10 ))\nwhile [ $(date +%s) -lt $end ]; do :; done\n";
    let rest = "echo burnt\nwhile ! test -e /tmp/end; do sleep 0.5; done\n";
    let stage = attempt.run_lines("build_script", &format!("{busy}{rest}"));
    stage.wait_for_output("burnt");
    // Longer than a look goes back.
    let job = || page.api("now")["slots"][0]["job"].clone();
    until("it rests", seconds(20), || job()["cpus"].as_f64().is_some_and(|cpus| cpus < 0.2));
    let found = job();
    assert!(found["cpus_peak"].as_f64().is_some_and(|peak| peak > 0.25), "{found:#}");
    let peak = || found["memory_peak"].as_u64();
    assert!(found["memory"].as_u64().is_none_or(|now| peak().is_some_and(|peak| peak >= now)), "{found:#}");
    let container = host.container(&attempt.lease()).unwrap();
    assert!(host.podman(&["exec", &container, "touch", "/tmp/end"]).status.success());
    stage.wait().expect_code(0);
    attempt.finish();
}

#[test]
fn a_drained_host_and_its_limits_that_cant_be_had_are_said() {
    let page = PageAt(free_port());
    let host = Host::configured(&format!("slots = 2\n{}", page.settings()));
    let text = || page.get("/", &[]).text();
    assert!(!text().contains("Drained"));
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();
    browser.run("window.untouched = true");
    // The last restart, and the next one.
    let started = || {
        let time = browser.run("return Array.from(document.querySelectorAll('#summary dd time')).at(-1).dateTime");
        time.as_str().unwrap().to_owned()
    };
    assert_eq!(json!(started()), page.api("now")["started_at"]);
    assert!(browser.text("#summary").contains(", started "), "{}", browser.text("#summary"));
    let before = started();
    until("a second is over, so that the next start is at another", seconds(5), || {
        jiff::Timestamp::now().as_second() > before.parse::<jiff::Timestamp>().unwrap().as_second() + 1
    });
    host.crash_daemon();
    until("the page says when the daemon was started again", seconds(20), || started() != before);
    let socket = host.socket().display().to_string();
    assert!(host.windlass(&["drain", "--socket", &socket]).status.success());
    until("the page says so", seconds(5), || text().contains("Drained"));
    assert!(page.api("now")["drained_since"].is_string());
    browser.until_text("#summary", "Drained");
    assert!(host.windlass(&["undrain", "--socket", &socket]).status.success());
    until("the page has it no more", seconds(20), || !browser.text("#summary").contains("Drained"));
    assert_eq!(browser.run("return window.untouched"), true, "the page was loaded anew");
}
