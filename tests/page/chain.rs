//! The chain, while it moves.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::chain::{Chain, SECRET};
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::wait::{seconds, until};

/// The state of a project's row.
fn state_of(browser: &Browser, path: &str) -> String {
    let script = format!(
        "const row = Array.from(document.querySelectorAll('#projects tbody tr')).find((row) => row.cells[0].textContent === {path:?});\
         return row ? row.cells[1].textContent + ' ' + row.cells[2].textContent : ''"
    );
    browser.run(&script).as_str().unwrap().to_owned()
}

fn until_state(browser: &Browser, path: &str, wanted: &str) {
    until(&format!("{path} is {wanted}"), seconds(20), || state_of(browser, path).contains(wanted));
}

#[test]
fn a_chain_is_seen_from_stale_over_blocked_to_fresh_and_over_a_restart() {
    let page = PageAt(free_port());
    let (chain, diamond) = Chain::diamond(&page.settings());
    let browser = Browser::start();
    browser.open(&page.url("/chain"));
    browser.until_live();
    assert_eq!(browser.count("#graph svg a.node"), 4);
    until_state(&browser, "images/app", "fresh");
    let title =
        || browser.run("return document.querySelector('#graph a[aria-label^=\"images/app:\"] title').textContent");
    assert_eq!(title(), "images/app: fresh; built last 2026-05-12 15:26 UTC");
    // From left to right.
    let left = |name: &str| {
        let found = browser.run(&format!(
            "return document.querySelector('#graph a[aria-label^=\"images/{name}:\"]').getBoundingClientRect().left"
        ));
        found.as_f64().unwrap()
    };
    assert!(left("base") < left("ruby") && left("ruby") < left("app"));
    browser.run("window.untouched = true");

    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let (ruby, node) = (chain.started(diamond.ruby, 0), chain.started(diamond.node, 0));
    chain.gitlab.bring(ruby, "running");
    until_state(&browser, "images/ruby", "running");
    until_state(&browser, "images/app", "waits for");
    browser.until_text("#rebuild", "and still runs");
    chain.gitlab.bring(ruby, "failed");
    chain.gitlab.bring(node, "success");
    until_state(&browser, "images/app", "blocked by images/ruby");
    assert!(browser.text("#graph a[aria-label^='images/app:']").contains("blocked"));
    let (title, wanted) = (title(), "blocked by images/ruby");
    let title = title.as_str().unwrap();
    assert!(title.contains(wanted) && title.ends_with("; built last 2026-05-12 15:26 UTC"), "{title}");

    // Its own page says what is in the way, and where that is.
    browser.open(&page.url(&format!("/chain/{}", diamond.app)));
    browser.until_live();
    browser.until_text("#summary .notice", "images/ruby is in the way: failed");
    let link = browser.run("return document.querySelector('#summary .notice a:nth-of-type(2)').href");
    assert!(link.as_str().unwrap().ends_with(&format!("/images/ruby/-/pipelines/{ruby}")), "{link}");
    browser.click("#summary .notice a");
    browser.until_text("#starts", "images/base succeeded");
    browser.until_text("#events", "failed");
    assert_eq!(browser.count("#graph svg a.node"), 3, "base, ruby and app, and not node");
    browser.until_live();
    browser.run("window.untouched = true");

    // The daemon is away, and something happens meanwhile.
    chain.host.end_daemon(Signal::SIGTERM);
    browser.until_text("#live", "not connected");
    chain.gitlab.retry(ruby);
    chain.gitlab.bring(ruby, "success");
    chain.host.start_daemon();
    browser.until_live();
    browser.until_text("#summary .state", "fresh");
    assert_eq!(browser.run("return window.untouched"), true, "the page was loaded anew");

    browser.open(&page.url("/chain"));
    browser.until_live();
    let app = chain.started(diamond.app, 0);
    chain.gitlab.bring(app, "success");
    until_state(&browser, "images/app", "fresh");
    // When each was built last, and why.
    let built = "return Array.from(document.querySelectorAll('#projects tbody tr'), (row) => row.cells[5].textContent)";
    let built = browser.run(built);
    assert_eq!(
        built,
        json!([
            "images/ruby, images/node succeeded",
            "not started by the chain: push",
            "images/base succeeded",
            "images/base succeeded"
        ])
    );
    browser.until_text("#rebuild", "the slowest link");
    assert_eq!(browser.count("#rebuild svg .bar"), 4, "{}", browser.text("#rebuild"));
    let scripts = browser.run("return document.scripts.length");
    assert_eq!(scripts, 1);
}

#[test]
fn an_open_page_of_a_project_shows_events_that_change_no_state_and_what_became_of_them() {
    let page = PageAt(free_port());
    let (chain, diamond) = Chain::diamond(&page.settings());
    let event = |pipeline: u64, branch: &str, status: &str| {
        let body = json!({
            "object_kind": "pipeline",
            "object_attributes": {"id": pipeline, "ref": branch, "tag": false, "source": "push", "status": status},
            "project": {"id": diamond.ruby, "path_with_namespace": "images/ruby"},
        });
        let reply = chain.call(&[("X-Gitlab-Token", SECRET)], body.to_string().as_bytes());
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    let browser = Browser::start();
    browser.open(&page.url(&format!("/chain/{}", diamond.ruby)));
    browser.until_live();
    event(900_001, "feature", "running");
    browser.until_text("#events", "of another branch");
    // GitLab knows of no such pipeline: somebody looks, and all is as before.
    event(900_002, "main", "running");
    browser.until_text("#events", "900002");
    browser.until_text("#events", "looked");
    assert!(browser.text("#summary .state").contains("fresh"));
}

#[test]
fn without_scripts_everything_is_there_and_leads_somewhere() {
    use crate::support::browser::Setup;
    let page = PageAt(free_port());
    let (_chain, diamond) = Chain::diamond(&page.settings());
    let browser = Browser::with(Setup { scripts: false, ..Setup::default() });
    browser.open(&page.url("/"));
    assert!(browser.text("#slots").contains("default/0") && browser.text("main").contains(" ago"));
    assert_eq!(browser.text("#live"), "", "nothing is promised that scripts would do");
    browser.click("nav a[href='/chain']");
    assert!(browser.text("#projects").contains("images/node"));
    browser.fill("input[name=q]", "RUBY");
    browser.click("form.filter button");
    // A form is on its way when the press is over.
    until("the answer is there", seconds(20), || {
        let shown = browser.text("#projects");
        shown.contains("images/ruby") && !shown.contains("images/node")
    });
    browser.click("#graph a.node");
    assert!(browser.url().ends_with(&format!("/chain/{}", diamond.ruby)), "{}", browser.url());
    assert!(browser.text("#edges").contains("images/app"));
    browser.click("nav a[href='/disk']");
    assert!(browser.text("#space").contains(" free of "));
}

#[test]
fn the_graph_is_a_file_too() {
    let (chain, _) = Chain::diamond("");
    let output = chain.run(&["graph", "--format", "svg"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("<svg xmlns") && text.matches("class=\"box\"").count() == 4, "{text}");
    let part = chain.run(&["graph", "--format", "svg", "--project", "images/ruby"]);
    assert_eq!(String::from_utf8(part.stdout).unwrap().matches("class=\"box\"").count(), 3);
}
