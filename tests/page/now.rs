//! What goes on now, while it goes on.

use serde_json::json;

use crate::support::browser::Browser;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
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
