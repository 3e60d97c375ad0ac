//! What doctor calls an error is on the page, while it is one.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::chain::{Chain, Diamond, TOKEN};
use crate::support::gitlab::FakeGitlab;
use crate::support::openmetrics::Figures;
use crate::support::page::PageAt;
use crate::support::receiver::Receiver;
use crate::support::registry::free_port;
use crate::support::{Host, Image, until, wait::seconds};

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

/// Settings with which the daemon goes on all its rounds all the time.
fn all_rounds(page: PageAt) -> String {
    let paces = "doctor_interval = '1s'\ndoctor_wide_interval = '1s'\ndoctor_build_interval = '1s'\n";
    format!("{}{paces}", page.settings())
}

/// Waits until a check is an error in these words, and none any more when it was mended.
fn until_error(page: PageAt, check: &str, words: &str) {
    until(&format!("{check}: {words}"), seconds(60), || {
        errors(page, &[check]).iter().any(|error| error["what"].as_str().unwrap().contains(words))
    });
}

fn until_mended(page: PageAt, check: &str) {
    until(&format!("{check} is mended"), seconds(60), || errors(page, &[check]).is_empty());
}

/// When something was looked at last.
fn looked_at(page: PageAt, subject: &str) -> Option<String> {
    let now = page.api("now");
    let looks = now["doctor"]["looks"].as_array()?;
    let look = looks.iter().find(|look| look["subjects"].as_array().unwrap().contains(&subject.into()))?;
    look["looked_at"].as_str().map(str::to_owned)
}

#[test]
fn a_token_that_lost_its_scope_or_role_and_a_webhook_that_is_off_are_shown_until_they_are_mended() {
    let page = PageAt(free_port());
    let receiver = Receiver::start();
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    let hook = format!("[webhook]\nurl = '{}'\n", receiver.url());
    let chain = Chain::of(gitlab, &format!("slots = 0\n{}{hook}", all_rounds(page)));
    until("the webhook is there", seconds(30), || chain.gitlab.hooks(diamond.app).len() == 1);
    until("GitLab was looked at", seconds(30), || looked_at(page, "GitLab").is_some());
    assert_eq!(errors(page, &["token", "token-scope", "token-role", "webhooks", "clock"]), Vec::<Value>::new());
    assert_eq!(looked_at(page, "Network, from inside a container"), None, "it has no podman");
    assert_eq!(looked_at(page, "Building images in a job"), None);
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();

    chain.gitlab.token(&json!({"token": TOKEN, "scopes": ["read_api"]}));
    browser.until_text("#doctor", "api is missing");
    browser.until_text("#summary", "GitLab ");
    chain.gitlab.token(&json!({"token": TOKEN, "role": 30}));
    until_error(page, "token-role", "4 of 4 project(s)");
    chain.gitlab.token(&json!({"token": TOKEN}));
    until_mended(page, "token-role");
    until_mended(page, "token-scope");
    until("the browser has heard of it", seconds(20), || !browser.text("#doctor").contains("api is missing"));

    receiver.answer(500);
    for _ in 0..4 {
        chain.gitlab.pipeline(diamond.app, &json!({"to": "pending"}));
    }
    browser.until_text("#doctor", "GitLab has switched off the webhook of images/app");
    assert!(Figures::of(&chain.host).get("windlass_doctor_errors") >= 1.0);
    receiver.answer(200);
    let hook = &chain.gitlab.hooks(diamond.app)[0]["id"];
    let test = format!("/projects/{}/hooks/{hook}/test/pipeline_events", diamond.app);
    assert_eq!(chain.gitlab.api("POST", &test, &Value::Null).status, 201);
    until_mended(page, "webhooks");
}

#[test]
fn what_a_container_of_a_job_cant_reach_or_do_is_shown_and_a_round_hinders_no_end() {
    let page = PageAt(free_port());
    let settings =
        |registry: &str| format!("{}[job]\nnetwork = 'host'\ndefault_image = '{registry}/image:1'\n", all_rounds(page));
    let host = Host::configured(&settings("registry.nowhere.invalid"));
    until_error(page, "dns", "registry.nowhere.invalid");
    host.reload(&settings("localhost"));
    until_mended(page, "dns");
    // An image is built when there is one to build in.
    assert_eq!(errors(page, &["build", "container"]), Vec::<Value>::new());
    host.image(&Image::buildah());
    let is_built = || host.json(&["jobs"]).as_array().unwrap().iter().any(|job| job["outcome"] == "success");
    until("a job has built an image", seconds(120), is_built);
    let at = looked_at(page, "Building images in a job");
    until("that is known", seconds(60), || looked_at(page, "Building images in a job") != at);
    assert_eq!(errors(page, &["build"]), Vec::<Value>::new());

    // A daemon ends at once in the middle of a round, and the next one clears up what is left of it.
    let own = |pid: i32| format!("localhost/windlass/doctor:{pid}");
    let is_there = |pid: i32| host.podman(&["image", "exists", &own(pid)]).status.success();
    let before = host.daemon_pid();
    until("a container is being made", seconds(60), || is_there(before));
    assert_eq!(host.end_daemon(Signal::SIGKILL), None);
    host.start_daemon();
    until("its image is gone", seconds(60), || !is_there(before));
    let current = host.daemon_pid();
    until("a container is being made", seconds(60), || is_there(current));
    let since = Instant::now();
    assert_eq!(host.end_daemon(Signal::SIGTERM), Some(0));
    assert!(since.elapsed() < seconds(8), "{:?}", since.elapsed());
    host.start_daemon();
    until("its image is gone too", seconds(60), || !is_there(current));
    let last = host.daemon_pid();
    host.end_daemon(Signal::SIGTERM);
    host.podman(&["image", "rm", "--force", &own(last)]);
}

#[test]
fn a_round_of_a_thousand_projects_costs_gitlab_a_bounded_number_of_requests() {
    let page = PageAt(free_port());
    let gitlab = FakeGitlab::start();
    let project = |index: usize| json!({"path": format!("images/p{index:04}"), "files": {}});
    let ids = gitlab.projects(&Value::Array((0..1000).map(project).collect()));
    let settings = page.settings();
    let chain = Chain::of(gitlab, &format!("slots = 0\n{settings}doctor_wide_interval = '8s'\n"));
    until("the webhooks are there", seconds(120), || chain.gitlab.hooks(ids[999]).len() == 1);
    let looked = || looked_at(page, "Webhooks");
    until("GitLab was looked at", seconds(30), || looked().is_some());
    let before = looked();
    until("it was looked at again", seconds(30), || looked() != before);
    chain.gitlab.forget_requests();
    let before = looked();
    until("it was looked at once more", seconds(30), || looked() != before);
    let requests = chain.gitlab.requests().len();
    assert!((200..=260).contains(&requests), "{requests}");
}
