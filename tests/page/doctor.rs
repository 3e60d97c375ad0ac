//! What doctor calls an error is on the page, while it is one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::support::browser::Browser;
use crate::support::openmetrics::Figures;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::{Host, until, wait::seconds};

/// The errors of these checks.
fn errors(page: PageAt, checks: &[&str]) -> Vec<Value> {
    let now = page.api("now");
    let all = now["doctor"]["errors"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|error| checks.contains(&error["check"].as_str().unwrap())).collect()
}

#[test]
fn what_doctor_calls_an_error_is_shown_until_it_is_mended() {
    let page = PageAt(free_port());
    let settings = "doctor_interval = '1s'\n[socket]\nallowed_users = ['nobody']\n";
    let host = Host::configured(&format!("{}{settings}", page.settings()));
    let found = || errors(page, &["socket-caller", "config"]);
    let looked = || page.api("now")["doctor"]["looked_at"].is_string();
    until("doctor has looked", seconds(20), looked);
    assert_eq!(found(), Vec::<Value>::new());
    // What else is wrong with the machine that the tests run on.
    let others = Figures::of(&host).get("windlass_doctor_errors");
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();
    assert!(!browser.text("#doctor").contains("can't connect"), "{}", browser.text("#doctor"));

    fs::set_permissions(host.socket(), Permissions::from_mode(0o600)).unwrap();
    browser.until_text("#doctor", "user nobody can't connect");
    browser.until_text("#doctor", "systemctl restart windlass.socket");
    assert!(browser.text("#doctor").contains("each job of gitlab-runner's under this user fails"));
    assert!(browser.text("#summary").contains(" error"), "{}", browser.text("#summary"));
    let status = host.windlass(&["status", "--socket", &host.socket().display().to_string()]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(status.contains("\ndoctor: user nobody can't connect") && status.contains("mend: "), "{status}");
    let error = found().remove(0);
    assert_eq!((&error["subject"], &error["check"]), (&"Socket".into(), &"socket-caller".into()));
    assert!(error["remedy"].as_str().unwrap().contains("windlass-callers"), "{error:#}");
    assert_eq!(Figures::of(&host).get("windlass_doctor_errors"), others + 1.0);

    // A file that has become wrong is said at once, and not only at the next start, which would fail.
    let good = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), format!("{good}\n[jobs]\n")).unwrap();
    browser.until_text("#doctor", "windlassd goes on with what it has");
    until("both are there", seconds(20), || found().len() == 2);

    fs::write(host.config(), good).unwrap();
    fs::set_permissions(host.socket(), Permissions::from_mode(0o666)).unwrap();
    until("neither is there any more", seconds(20), || found().is_empty());
    until("the browser has heard of it", seconds(20), || !browser.text("#doctor").contains("can't connect"));
    until("nor in the figures", seconds(20), || Figures::of(&host).get("windlass_doctor_errors") == others);
}
