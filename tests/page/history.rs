//! What was, as a real browser shows what a real daemon has on record: jobs, disks, images from elsewhere.

use serde_json::{Value, json};

use super::api::check_all;
use super::live::retold;
use super::looks::{expect_fit, expect_narrow};
use super::pictures::record_past;
use crate::support::browser::Browser;
use crate::support::chain::Chain;
use crate::support::gitlab::FakeGitlab;
use crate::support::page::PageAt;
use crate::support::pushed::Pushed;
use crate::support::registry::{Registry, free_port};
use crate::support::wait::{seconds, until};
use crate::support::{Host, Image, Job, Runner, State};

/// What is rendered anew at a slower pace is read at most every 15 seconds, and sent as often.
const SLOW: std::time::Duration = seconds(60);

/// How much the names of a plot's pieces say of something, over all days: "11-26: succeeded 2" says two.
fn sum(browser: &Browser, plot: &str, name: &str) -> u64 {
    let titles = browser.run(&format!(
        "return Array.from(document.querySelectorAll('#{plot} svg.plot .piece title'), (title) => title.textContent)"
    ));
    let of = |title: &Value| {
        let (_, rest) = title.as_str().unwrap().split_once(": ").unwrap();
        rest.strip_prefix(name).map_or(0, |count| count.trim().parse().unwrap())
    };
    titles.as_array().unwrap().iter().map(of).sum()
}

/// The cells of a table that are not empty, by the words of its head; the head of a row is not among them.
fn cells(browser: &Browser, table: &str, head: &str) -> Vec<String> {
    let found = browser.run(&format!(
        "const table = document.querySelector('{table}');\
         const column = Array.from(table.tHead.rows[0].cells).findIndex((cell) => cell.textContent.includes({head:?}));\
         return Array.from(table.querySelectorAll('tbody tr'), (row) => row.cells[column].textContent).filter(Boolean)"
    ));
    found.as_array().unwrap().iter().map(|cell| cell.as_str().unwrap().to_owned()).collect()
}

/// Opens whatever is folded.
fn unfold(browser: &Browser) {
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })");
}

#[test]
fn jobs_pulls_and_purges_are_seen_over_a_restart_and_a_further_job_while_the_page_is_open() {
    let Some(registry) = Registry::open() else { return };
    let page = PageAt(free_port());
    let host = Host::configured(&format!(
        "{}[job]\npull_policy = 'if-not-present'\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'",
        page.settings(),
        registry.registries_conf().display()
    ));
    let source = host.image(&Image::busybox().env(&format!("MARK=h{}", registry.port)));
    let image = registry.image("group/image:1");
    let push = ["push", "--quiet", "--tls-verify=false", &source, &image];
    assert!(host.storage.command().args(push).output().unwrap().status.success());
    host.podman(&["rmi", "--force", &source]);
    let runner = Runner::new(&host);
    runner.play(&Job::new(&image)).expect(State::Success);
    let other = Job::new(&image).script(&["exit 3"]).project(8, "other/project");
    runner.play(&other).expect(State::script_failure(3));
    until("both are on record", seconds(20), || host.json(&["jobs"]).as_array().unwrap().len() == 2);
    assert!(!host.json(&["cache", "purge", "--all"]).as_array().unwrap().is_empty());
    let green = Job::new(&image).script(&["head -c 3145728 /dev/zero > big"]);
    runner.play(&green).expect(State::Success);
    until("it is on record", seconds(20), || host.json(&["jobs"]).as_array().unwrap().len() == 3);
    host.crash_daemon();

    let browser = Browser::start();
    browser.open(&page.url("/jobs"));
    assert_eq!((sum(&browser, "outcomes", "succeeded"), sum(&browser, "outcomes", "failed")), (2, 1));
    assert_eq!((sum(&browser, "pulls", "pulled"), sum(&browser, "pulls", "failed")), (1, 0));
    let drawn = browser.run(
        "return Array.from(document.querySelectorAll('.piece'), (piece) => piece.getBoundingClientRect()).filter((box) => box.width > 5 && box.height > 5).length",
    );
    assert!(drawn.as_u64().unwrap() >= 4, "both outcomes, a stage and the pull: {drawn}");
    unfold(&browser);
    assert_eq!(cells(&browser, "#outcomes table", "succeeded"), ["2"]);
    assert!(cells(&browser, "#stages table", "build_script").iter().any(|cell| cell.contains('s')));
    assert_eq!(cells(&browser, "#pulls table", "pulled"), ["1"]);
    assert!(cells(&browser, "#pulls table", "Bytes")[0].contains('B'));
    assert!(browser.text("#stages .legend").contains("build_script"));

    // Weeks of a busy host beside it.
    record_past(page, &host);
    host.crash_daemon();
    filled_disk(&browser, page, &image);
    for path in ["/jobs", "/disk"] {
        browser.open(&page.url(path));
        unfold(&browser);
        expect_fit(&browser, path);
    }
    browser.size((360, 740));
    for path in ["/jobs", "/disk"] {
        browser.open(&page.url(path));
        unfold(&browser);
        expect_narrow(&browser, path);
    }
    browser.size((1280, 900));

    // What is described is true of lists that are not empty, too.
    check_all(page, None);
    let (jobs, disk) = (page.api("jobs"), page.api("disk"));
    let lists = [
        &jobs["outcomes"],
        &jobs["stages"],
        &jobs["pulls"],
        &disk["projects"],
        &disk["images"],
        &disk["past"]["purges"],
        &disk["past"]["file_systems"][0]["free"],
    ];
    for list in lists {
        assert!(!list.as_array().unwrap().is_empty(), "{jobs:#} {disk:#}");
    }

    // A further job, while somebody looks.
    browser.open(&page.url("/jobs"));
    browser.until_live();
    unfold(&browser);
    let before = sum(&browser, "outcomes", "succeeded");
    browser.run("window.untouched = true");
    runner.play(&Job::new(&image)).expect(State::Success);
    until("the page counts it", SLOW, || sum(&browser, "outcomes", "succeeded") == before + 1);
    assert_eq!(browser.run("return window.untouched"), true, "the page was loaded anew");
    assert_eq!(browser.count("#outcomes details[open]"), 1, "what was unfolded stays so");
    host.podman(&["rmi", &image]);
}

/// The page of the disks, of a host that has purged and fills up.
fn filled_disk(browser: &Browser, page: PageAt, image: &str) {
    browser.open(&page.url("/disk"));
    assert!(browser.text("#space").contains(" free of "), "{}", browser.text("#space"));
    let lanes = browser.text("#lanes");
    assert!(lanes.contains("group/project") && lanes.contains("builds-0"), "{lanes}");
    // Three megabytes were written, and a little more is there.
    assert!(cells(browser, "#lanes table", "Size").iter().any(|size| size.starts_with("3.") && size.ends_with("MiB")));
    assert!(browser.text("#images").contains(image), "{}", browser.text("#images"));
    let purged: Vec<String> = cells(browser, "#purges table", "By the rule");
    assert!(
        purged.iter().any(|rule| rule == "asked for") && purged.iter().any(|rule| rule == "max_size"),
        "{purged:?}"
    );
    let purges = browser.text("#purges");
    assert!(purges.contains("other/project") && purges.contains("images/rails"), "{purges}");
    let forecast = browser.text("#history p");
    assert!(forecast.contains("fills by") && forecast.contains("the limit is reached on 2"), "{forecast}");
    browser.until_live();
    retold(browser);
    let how_long = |text: &str| text.split(", in ").nth(1).and_then(|rest| Some(rest.split_once('.')?.0.to_owned()));
    let told = how_long(&browser.text("#history p"));
    assert!(told.is_some() && told == how_long(&forecast), "the script says it too: {forecast}");
    assert!(browser.count("#history svg.plot .line") >= 1);
}

#[test]
fn an_image_from_elsewhere_that_moved_is_seen_with_its_verdict_and_its_last_move() {
    let Some(registry) = Registry::open() else { return };
    let page = PageAt(free_port());
    Pushed::of(&["one"]).push(&registry, "bases/debian", "stable");
    let gitlab = FakeGitlab::start();
    let name = format!("127.0.0.1:{}/bases/debian:stable", registry.port);
    let base = gitlab.project("images/base", &[("Containerfile", &format!("FROM {name}\n"))]);
    let times = json!({"to": "success", "quiet": true, "created_at": "2026-05-12T15:20:00.000Z", "finished_at": "2026-05-12T15:26:29.000Z"});
    gitlab.pipeline(base, &times);
    let chain = Chain::of(
        gitlab,
        &format!(
            "{}[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'\n[chain.watch]\nenabled = true\nplatform = 'linux/amd64'\nevery = '1s'\n",
            page.settings(),
            registry.registries_conf().display()
        ),
    );
    let browser = Browser::start();
    let open = |wanted: &str| {
        until(&format!("the page says {wanted:?}"), SLOW, || {
            browser.open(&page.url("/images"));
            browser.text("#external").contains(wanted)
        });
    };
    open("too young to say");
    assert!(browser.text("#external").contains(&name), "{}", browser.text("#external"));
    // Verdict and last move.
    let told = || {
        let row = browser.run(
            "const row = Array.from(document.querySelectorAll('#external tbody tr')).find((row) => row.cells[0].textContent.includes('bases/debian'));\
             return Array.from(row.cells, (cell) => cell.textContent)",
        );
        (row[2].as_str().unwrap().to_owned(), row[3].as_str().unwrap().to_owned())
    };
    assert!(told().1.starts_with("none since "), "{:?}", told());
    Pushed::of(&["two"]).push(&registry, "bases/debian", "stable");
    let pipeline = chain.started(base, 0);
    chain.gitlab.bring(pipeline, "success");
    // While somebody looks.
    browser.until_live();
    browser.run("window.untouched = true");
    until("the page says that it moved, and its verdict is another", SLOW, || {
        let (verdict, last_move) = told();
        verdict.ends_with(" ok") && !last_move.contains("none") && last_move.ends_with(" ago")
    });
    assert_eq!(browser.run("return window.untouched"), true, "the page was loaded anew");
    assert!(browser.text("#external").contains("built on by images/base"), "{}", browser.text("#external"));
    expect_fit(&browser, "/images");
    let found = page.api("images")["findings"].clone();
    let has_age = |finding: &&Value| finding["age"]["moved_at"].is_string() && finding["age"]["digest"].is_string();
    assert!(found.as_array().unwrap().iter().any(|finding| has_age(&finding)), "{found:#}");
    check_all(page, Some(base));
    browser.size((360, 740));
    browser.open(&page.url("/images"));
    expect_narrow(&browser, "/images");
}
