//! A page that stays open: what changes in it and what does not, and what it costs.

use std::io::{Read, Write};
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::chain::Chain;
use crate::support::client;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::{Host, Image, Job, Runner, until, wait::seconds};

/// Empties all parts of the page, which is live, and waits until the script has filled them again with what the server tells.
#[track_caller]
pub fn retold(browser: &Browser) {
    let filled = "return Array.from(document.querySelectorAll('[data-part]'), (part) => part.childElementCount > 0)";
    let before = browser.run(filled);
    assert!(before.as_array().unwrap().contains(&json!(true)), "there is nothing to be told");
    browser.run("document.querySelectorAll('[data-part]').forEach((part) => part.replaceChildren())");
    browser.hide(true);
    browser.hide(false);
    until("the parts are there again", seconds(20), || browser.run(filled) == before);
}

/// Somebody else's open page.
fn viewer(page: PageAt) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", page.0)).unwrap();
    stream.set_read_timeout(Some(seconds(20))).unwrap();
    write!(stream, "GET /live/now HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    stream
}

/// Whether one more may be told of changes: 200, or 503.
fn place(page: PageAt) -> u16 {
    client::ask(page.0, "HEAD", "/live/now", &[], b"").unwrap().status
}

#[test]
fn what_is_selected_or_pressed_stays_while_the_rest_of_a_part_changes_and_so_does_the_focus() {
    let page = PageAt(free_port());
    let host = Host::configured(&format!("slots = 2\n{}", page.settings()));
    let image = host.image(&Image::busybox());
    let runner = Runner::new(&host);
    let mut first = runner.attempt(&Job::new(&image));
    first.make_ready();
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();
    browser.until_text("#slot-default-0", "between stages");
    let select = "window.tile = document.querySelector('#slot-default-0'); window.link = tile.querySelector('a'); link.focus();\
                  getSelection().selectAllChildren(tile.querySelector('h3'))";
    browser.run(select);
    let state = || {
        browser
            .run("return [getSelection().toString(), document.activeElement === window.link, window.tile.isConnected]")
    };
    let stage = first.run_lines("build_script", "echo begun\nwhile ! test -e /tmp/end; do sleep 0.1; done\n");
    stage.wait_for_output("begun");
    let mut second = runner.attempt(&Job::new(&image));
    second.make_ready();
    // Both tiles are of the same part.
    browser.until_text("#slot-default-1", &second.job.id.to_string());
    assert_eq!(state(), json!(["group/project", true, true]));
    assert!(!browser.text("#slot-default-0").contains("build_script"), "{}", browser.text("#slot-default-0"));
    browser.until_text("#live", "but for what is selected");
    browser.run("getSelection().removeAllRanges()");
    browser.until_text("#slot-default-0", "build_script");
    assert_eq!(state(), json!(["", true, true]), "the tile and the focus are the same still");
    browser.until_text("#live", "live");

    // A link that is pressed is there when it is let go.
    browser.run(
        "window.pressed = document.querySelector('#slot-default-1 a');\
         pressed.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}))",
    );
    second.finish();
    until("the daemon has no such job any more", seconds(20), || page.api("now")["slots"][1]["job"].is_null());
    let lease = first.lease();
    let container = host.container(&lease).unwrap();
    assert!(host.podman(&["exec", &container, "touch", "/tmp/end"]).status.success());
    stage.wait().expect_code(0);
    // Of the same part, which so has come.
    browser.until_text("#slot-default-0", "between stages");
    let third = runner.attempt(&Job::new(&image).project(8, "other/project"));
    let told = third.config();
    told.wait().expect_code(0);
    third.cleanup().wait().expect_code(0);
    assert_eq!(browser.run("return window.pressed.isConnected"), true);
    browser.run("window.dispatchEvent(new PointerEvent('pointerup'))");
    browser.until_text("#slot-default-1", "free");
    first.finish();
}

#[test]
fn a_page_that_is_told_the_same_again_changes_nothing_and_says_nothing() {
    let page = PageAt(free_port());
    let (_chain, _) = Chain::diamond(&page.settings());
    let browser = Browser::start();
    for path in ["/", "/chain", "/disk", "/jobs", "/images"] {
        browser.open(&page.url(path));
        browser.until_live();
        // The first parts are those of the page itself, written in another way.
        retold(&browser);
        browser.run(
            "window.touched = [];\
             new MutationObserver((all) => all.forEach(({target}) => {\
               const element = target.nodeType === Node.ELEMENT_NODE ? target : target.parentElement;\
               if (!element.closest('time, #live')) touched.push(element.outerHTML);\
             })).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});\
             window.heard = 0; const parse = JSON.parse;\
             JSON.parse = (text) => { const value = parse(text); if ('html' in value) heard += 1; return value; }",
        );
        browser.hide(true);
        browser.hide(false);
        let count = browser.count("[data-part]");
        until("all parts have come again", seconds(20), || {
            browser.run("return heard").as_u64().unwrap() >= u64::try_from(count).unwrap()
        });
        let touched = browser.run("return touched");
        // What is used now, and what is free, may have changed meanwhile.
        let is_figure = |text: &Value| text.as_str().unwrap().contains("iB");
        assert!(touched.as_array().unwrap().iter().all(is_figure), "{path}: {touched:#}");
    }
}

#[test]
fn it_is_said_that_nothing_comes_when_that_lasts() {
    let page = PageAt(free_port());
    let host = Host::configured(&page.settings());
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();
    let began = browser.run(
        "new MutationObserver(() => { if (document.querySelector('#live').textContent.startsWith('not')) window.said ??= performance.now(); })\
           .observe(document.querySelector('#live'), {childList: true});\
         return performance.now()",
    );
    host.end_daemon(Signal::SIGTERM);
    browser.until_text("#live", "not connected, trying again");
    let after = browser.run("return window.said").as_f64().unwrap() - began.as_f64().unwrap();
    assert!(after >= 5000.0, "after {after} ms");
    host.start_daemon();
    browser.until_live();
}

#[test]
fn a_hidden_page_gives_its_place_away_and_a_refused_one_asks_for_little_and_less_and_less_often() {
    let page = PageAt(free_port());
    let _host = Host::configured(&page.settings());
    let browser = Browser::start();
    browser.open(&page.url("/"));
    browser.until_live();
    let mut others: Vec<TcpStream> = (0..127).map(|_| viewer(page)).collect();
    assert_eq!(place(page), 503);
    browser.hide(true);
    until("its place is free", seconds(20), || place(page) == 200);
    others.push(viewer(page));
    browser.run("performance.clearResourceTimings()");
    browser.hide(false);
    browser.until_text("#live", "not connected, trying again");
    let asked = || {
        let script = "return performance.getEntriesByType('resource').filter((one) => one.initiatorType === 'fetch').map((one) => [one.name, one.startTime, one.decodedBodySize])";
        browser.run(script).as_array().unwrap().clone()
    };
    until("it has asked again and again", seconds(30), || asked().len() >= 3);
    let asked = asked();
    let live = page.url("/live/now");
    assert!(asked.iter().all(|one| one[0] == live && one[2] == 0), "{asked:?}");
    let at = |index: usize| asked[index][1].as_f64().unwrap();
    assert!(at(2) - at(1) > at(1) - at(0) - 200.0, "{asked:?}");
    assert!(at(2) - at(0) >= 3000.0, "{asked:?}");
    drop(others);
    browser.until_live();
}

#[test]
fn more_pages_than_a_browser_has_connections_can_be_open() {
    let page = PageAt(free_port());
    let _host = Host::configured(&page.settings());
    let browser = Browser::start();
    for _ in 0..8 {
        browser.open(&page.url("/"));
        browser.until_live();
        browser.tab();
    }
    browser.open(&page.url("/disk"));
    browser.until_live();
    assert_eq!(page.get("/", &[]).status, 200);
}

#[test]
fn ages_go_by_the_servers_clock_whatever_the_browsers_says() {
    let page = PageAt(free_port());
    let _host = Host::configured(&page.settings());
    for minutes in [10, -10] {
        let browser = Browser::start();
        browser.before_pages(&format!("const now = Date.now; Date.now = () => now() + {minutes} * 60000;"));
        browser.open(&page.url("/"));
        let script = "return Array.from(document.querySelectorAll('#summary dd time')).at(-1).textContent";
        let started = || browser.run(script).as_str().unwrap().to_owned();
        let is_right = |text: &str| {
            let seconds = (1..300).map(windlass::words::rough);
            seconds.map(|words| format!("{words} ago")).any(|words| words == text)
        };
        browser.until_live();
        let before = started();
        until("it goes on", seconds(10), || started() != before);
        assert!(is_right(&started()), "{minutes}: {}", started());
        browser.run(
            "const time = Object.assign(document.createElement('time'), {id: 'later'}); time.dataset.toCome = '';\
             time.dateTime = new Date(Date.parse(document.querySelector('#summary time').dateTime) + 4 * 86400000 + 1800000).toISOString();\
             document.querySelector('footer').append(time)",
        );
        browser.until_text("#later", "in 4days");
    }
}

#[test]
fn ages_are_right_before_the_first_word_of_the_server() {
    let page = PageAt(free_port());
    let _host = Host::configured(&page.settings());
    let browser = Browser::start();
    browser.before_pages(
        "const now = Date.now; Date.now = () => now() + 600000; window.EventSource = class { addEventListener() {} close() {} }",
    );
    browser.open(&page.url("/"));
    let script = "return Array.from(document.querySelectorAll('#summary dd time')).at(-1).textContent";
    let started = || browser.run(script).as_str().unwrap().to_owned();
    let is_right = |text: &str| (1..300).any(|seconds| format!("{} ago", windlass::words::rough(seconds)) == text);
    until("it is right", seconds(10), || is_right(&started()));
}

#[test]
fn an_open_page_of_a_project_that_leaves_the_chain_says_so() {
    let page = PageAt(free_port());
    let (chain, diamond) = Chain::diamond(&page.settings());
    let browser = Browser::start();
    browser.open(&page.url(&format!("/chain/{}", diamond.app)));
    browser.until_live();
    assert_eq!(browser.text("#gone"), "");
    chain.gitlab.remove_project(diamond.app);
    chain.sync();
    browser.until_text("#gone", "This is not in the image chain any more.");
    assert!(browser.text("#summary").contains("fresh"), "what was known last stays");
}
