//! A chain of a thousand projects.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::wait::{seconds, until};

#[test]
fn a_thousand_projects_open_on_what_is_not_fresh_and_are_all_to_be_found() {
    let page = PageAt(free_port());
    let gitlab = FakeGitlab::start();
    // Ten bases, and a hundred on each.
    let project = |index: usize| {
        let deps = if index < 10 { String::new() } else { format!("images/p{:04}\n", index % 10) };
        json!({"path": format!("images/p{index:04}"), "files": {".gitlab-deps": deps}})
    };
    let ids = gitlab.projects(&Value::Array((0..1000).map(project).collect()));
    for id in &ids {
        gitlab.pipeline(*id, &json!({"to": "success", "quiet": true, "created_at": "2026-05-12T15:20:00.000Z", "finished_at": "2026-05-12T15:26:29.000Z"}));
    }
    let chain = Chain::of(gitlab, &format!("[chain]\nmax_running = 3\n{}", page.settings()));
    until("all are fresh", seconds(60), || {
        let status = chain.status();
        status["projects"].as_array().unwrap().iter().filter(|project| project["state"] == "fresh").count() == 1000
    });
    let browser = Browser::start();
    browser.open(&page.url("/chain"));
    browser.until_text("#graph", "All 1000 projects are fresh.");
    browser.until_live();
    let pipeline = chain.gitlab.pipeline(ids[3], &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    browser.until_text(
        "#graph",
        "Shown: 99 of 1000 projects, those that are not fresh or whose files were not understood.",
    );
    assert_eq!(browser.count("#graph svg a.node"), 99);
    // Why most of them are not built yet, in the table, on their own pages, and to programs.
    let (why, before) = ("due, and held back: 3 of 3 pipelines run (max_running)", ", and 95 are before it");
    browser.until_text("#projects", &format!("{why}{before}"));
    let chain_of_page = page.api("chain");
    let held = chain_of_page["projects"].as_array().unwrap().iter().filter(|project| project["state"] == "held");
    let held: Vec<&Value> = held.collect();
    assert!(
        held.len() == 96 && held.iter().all(|project| project["words"].as_str().unwrap().starts_with(why)),
        "{held:#?}"
    );
    browser.open(&page.url(&format!("/chain/{}", held[0]["id"])));
    browser.until_text("#summary", why);
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
