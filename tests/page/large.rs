//! A chain of a thousand projects.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;
use crate::support::page::PageAt;
use crate::support::processes::resident_kib;
use crate::support::registry::free_port;
use crate::support::wait::{seconds, until};

/// Ten bases, and a hundred on each, all fresh; and GitLab's ids of them.
fn thousand(toml: &str) -> (Chain, Vec<u64>) {
    let gitlab = FakeGitlab::start();
    let project = |index: usize| {
        let deps = if index < 10 { String::new() } else { format!("images/p{:04}\n", index % 10) };
        json!({"path": format!("images/p{index:04}"), "files": {".gitlab-deps": deps}})
    };
    let ids = gitlab.projects(&Value::Array((0..1000).map(project).collect()));
    for id in &ids {
        gitlab.pipeline(*id, &json!({"to": "success", "quiet": true, "created_at": "2026-05-12T15:20:00.000Z", "finished_at": "2026-05-12T15:26:29.000Z"}));
    }
    let chain = Chain::of(gitlab, &format!("[chain]\nmax_running = 3\n{toml}"));
    until("all are fresh", seconds(60), || {
        let status = chain.status();
        status["projects"].as_array().unwrap().iter().filter(|project| project["state"] == "fresh").count() == 1000
    });
    (chain, ids)
}

#[test]
fn a_thousand_projects_open_on_what_is_not_fresh_and_are_all_to_be_found() {
    let page = PageAt(free_port());
    let (chain, ids) = thousand(&page.settings());
    let browser = Browser::start();
    browser.open(&page.url("/chain"));
    browser.until_text("#graph", "All 1000 projects are fresh.");
    browser.until_live();
    let pipeline = chain.gitlab.pipeline(ids[3], &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    browser.until_text("#graph", "Shown: 99 of 1000 projects, those that are not fresh.");
    assert_eq!(browser.count("#graph svg a.node"), 99);
    let opened = Instant::now();
    let reply = page.get("/chain?show=all", &[]);
    assert!(reply.status == 200 && opened.elapsed() < Duration::from_secs(2), "{:?}", opened.elapsed());
    assert!(reply.text().contains("Too many for a picture") && reply.text().contains("images/p0999"));
    // A base with its hundred: the nearest of them, in time.
    let opened = Instant::now();
    browser.open(&page.url(&format!("/chain/{}", ids[3])));
    assert_eq!(browser.count("#graph svg a.node"), 100);
    assert!(opened.elapsed() < Duration::from_secs(5), "{:?}", opened.elapsed());
    browser.open(&page.url("/chain?q=P0123"));
    assert!(browser.text("#projects").contains("images/p0123") && !browser.text("#projects").contains("images/p0124"));
}

/// Opens a page that is told of all projects, and reads no more than the status of the answer.
fn viewer(socket: &Path, method: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(seconds(20))).unwrap();
    write!(stream, "{method} /live/chain?show=all HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    (stream, String::from_utf8_lossy(&head[9..]).into_owned())
}

#[test]
fn viewers_that_take_nothing_are_cut_off_and_the_daemon_holds_little_for_them() {
    const VIEWERS: usize = 128;
    let (chain, ids) = thousand("");
    let socket = chain.host.run_dir().join("page.sock");
    let (mut first, _) = viewer(&socket, "GET");
    // All of it is rendered once.
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains("images/p0999") {
        let mut some = vec![0; 1 << 16];
        let count = first.read(&mut some).unwrap();
        read.extend_from_slice(&some[..count]);
    }
    drop(first);
    let resident = || resident_kib(chain.host.daemon_pid());
    let before = resident();
    let slow: Vec<(UnixStream, String)> = (0..VIEWERS).map(|_| viewer(&socket, "GET")).collect();
    assert!(slow.iter().all(|(_, status)| status == "200"));
    assert_eq!(viewer(&socket, "HEAD").1, "503");
    let pipeline = chain.gitlab.pipeline(ids[3], &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let mut most = before;
    until("they are cut off", seconds(60), || {
        most = most.max(resident());
        viewer(&socket, "HEAD").1 == "200"
    });
    until("all places are free", seconds(20), || {
        let opened: Vec<(UnixStream, String)> = (0..VIEWERS).map(|_| viewer(&socket, "GET")).collect();
        opened.iter().all(|(_, status)| status == "200")
    });
    let grown = most.saturating_sub(before) / 1024;
    eprintln!("the daemon grew by {grown} MiB, from {} MiB", before / 1024);
    assert!(grown < 64, "{grown} MiB");
}
