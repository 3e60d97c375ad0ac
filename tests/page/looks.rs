//! How the page looks and feels: to people with a phone, a keyboard or a screen reader, and with names that mean harm.

use fantoccini::key::Key;
use serde_json::json;

use super::live::retold;
use super::past;
use crate::support::browser::Browser;
use crate::support::chain::{Chain, write_secret};
use crate::support::gitlab::FakeGitlab;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::{Host, Image, Job, Runner, State, until, wait::seconds};

/// A chain with something in every state that is easily had, a job that runs and a lane.
fn busy(page: PageAt) -> (Chain, Vec<String>) {
    let (chain, diamond) = Chain::diamond(&page.settings());
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let ruby = chain.started(diamond.ruby, 0);
    chain.gitlab.bring(ruby, "failed");
    chain.until_words("images/app", "blocked by");
    let app = format!("/chain/{}", diamond.app);
    (chain, ["/", "/chain", &app, "/disk", "/jobs", "/images", "/nowhere"].map(str::to_owned).to_vec())
}

/// Whether the page that is open is fit for screen readers and weak eyes, in light and in dark.
#[track_caller]
pub fn expect_fit(browser: &Browser, path: &str) {
    for dark in [false, true] {
        browser.dark(dark);
        let wrong = browser.run(include_str!("accessibility.js"));
        assert_eq!(wrong, json!([]), "{path}, dark: {dark}");
    }
    browser.dark(false);
}

/// Whether the page that is open fits a phone, which is as wide as the browser.
#[track_caller]
pub fn expect_narrow(browser: &Browser, path: &str) {
    let wide = browser.run("return document.scrollingElement.scrollWidth");
    assert!(wide.as_u64().unwrap() <= 360, "{path} is {wide} pixels wide");
    let small = browser.run(
        "return Array.from(document.querySelectorAll('main p, main td, main a')).filter((element) => element.checkVisibility() && parseFloat(getComputedStyle(element).fontSize) < 12).length",
    );
    assert_eq!(small, 0, "{path}");
}

/// Whether all that the page has asked for is the page's own, and nothing was refused to it.
#[track_caller]
fn expect_own(browser: &Browser, page: PageAt, path: &str) {
    let names = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
    let names = names.as_array().unwrap();
    assert!(names.iter().any(|name| name.as_str().unwrap().contains("/assets/style.css")), "{path}: {names:?}");
    assert!(names.iter().all(|name| name.as_str().unwrap().starts_with(&page.url("/"))), "{path}: {names:?}");
    assert_eq!(browser.violations(), Vec::<String>::new(), "{path}");
}

#[test]
fn the_way_in_is_fit_for_everybody_and_for_a_phone_and_so_is_the_word_that_it_was_wrong() {
    let page = PageAt(free_port());
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("page-token");
    write_secret(file.clone(), "the-token-of-the-page");
    let _host = Host::configured(&format!("{}token_file = '{}'\n", page.settings(), file.display()));
    let browser = Browser::start();
    browser.open(&page.url("/login"));
    for path in ["/login", "/login, after a wrong token"] {
        expect_fit(&browser, path);
        expect_own(&browser, page, path);
        browser.size((360, 740));
        expect_narrow(&browser, path);
        browser.size((1280, 900));
        browser.fill("#token", "wrong");
        browser.click("form.login button");
        browser.until_text("[role=alert]", "This is not the token.");
    }
}

#[test]
fn every_page_is_fit_for_screen_readers_and_weak_eyes_in_light_and_dark_and_for_a_phone() {
    let page = PageAt(free_port());
    let (chain, paths) = busy(page);
    let image = chain.host.image(&Image::busybox());
    let runner = Runner::new(&chain.host);
    let mut job = runner.attempt(&Job::new(&image));
    job.make_ready();
    let browser = Browser::start();
    for path in &paths {
        browser.open(&page.url(path));
        expect_fit(&browser, path);
        expect_own(&browser, page, path);
    }
    let foreign = "document.body.append(Object.assign(new Image(), {src: 'http://elsewhere.invalid/x.png', alt: ''}));";
    browser.run(foreign);
    until("what is refused is seen", seconds(10), || !browser.violations().is_empty());
    // The checks see what is wrong where something is.
    let broken = "document.querySelector('nav a').style.color = getComputedStyle(document.body).backgroundColor; \
                  document.querySelector('h1').remove();";
    browser.run(broken);
    let wrong = browser.run(include_str!("accessibility.js"));
    assert!(wrong.as_array().unwrap().len() >= 2, "{wrong}");
    browser.size((360, 740));
    for path in &paths {
        browser.open(&page.url(path));
        expect_narrow(&browser, path);
    }
    job.finish();
}

#[test]
fn the_keyboard_alone_leads_everywhere_and_the_focus_stays_while_the_page_changes() {
    let page = PageAt(free_port());
    let (chain, diamond) = Chain::diamond(&page.settings());
    let browser = Browser::start();
    browser.open(&page.url("/chain"));
    browser.until_live();
    browser.press(Key::Tab);
    assert_eq!(browser.run("return document.activeElement.textContent"), "Skip to the content");
    let seen = browser
        .run("const box = document.activeElement.getBoundingClientRect(); return box.left >= 0 && box.width > 0");
    assert_eq!(seen, true, "what has the focus is seen");
    browser.press(Key::Enter);
    assert_eq!(browser.run("return document.activeElement.id"), "content");
    browser.tab_to("#graph a.node[aria-label^='images/ruby:']");
    let marked = browser.run("return getComputedStyle(document.activeElement.querySelector('.box')).strokeWidth");
    assert_eq!(marked, "4px");
    // The graph is replaced below the focus.
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    chain.started(diamond.ruby, 0);
    browser.until_text("#graph a[aria-label^='images/ruby:']", "running");
    let focus = browser.run("return document.activeElement.getAttribute('aria-label')");
    assert!(focus.as_str().unwrap().starts_with("images/ruby: running"), "{focus}");
    browser.press(Key::Enter);
    browser.until_text("h1", "images/ruby");
    browser.tab_to("nav a[href='/']");
    browser.press(Key::Enter);
    browser.until_text("h1", "Now");
}

#[test]
fn the_keyboard_alone_logs_in_unfolds_tables_and_logs_out() {
    const TOKEN: &str = "the-token-of-the-page";
    let page = PageAt(free_port());
    let secrets = tempfile::tempdir().unwrap();
    let file = secrets.path().join("page-token");
    write_secret(file.clone(), TOKEN);
    let host = Host::configured(&format!("{}token_file = '{}'\n", page.settings(), file.display()));
    // The record begins with the first job.
    let image = host.image(&Image::busybox());
    Runner::new(&host).play(&Job::new(&image)).expect(State::Success);
    until("it is on record", seconds(20), || !host.json(&["jobs"]).as_array().unwrap().is_empty());
    let disk = past::Disk { path: host.state_dir().display().to_string(), bytes: 100 << 30, free: 50 << 30 };
    past::record(&host, &[disk]);
    let browser = Browser::start();
    browser.open(&page.url("/jobs"));
    browser.until_text("h1", "Log in");
    browser.tab_to("#token");
    browser.press_all(TOKEN);
    browser.press(Key::Enter);
    browser.until_text("h1", "Jobs of the past days");
    browser.until_live();
    let unfold = |part: &str| {
        browser.tab_to(&format!("{part} details summary"));
        browser.press(Key::Enter);
        until("it is unfolded", seconds(10), || browser.count(&format!("{part} details[open] table")) > 0);
        // The table itself can be scrolled.
        browser.tab_to(&format!("{part} details[open] .scroll"));
    };
    unfold("#outcomes");
    browser.run("document.activeElement.blur()");
    browser.tab_to("nav a[href='/disk']");
    browser.press(Key::Enter);
    browser.until_text("h1", "Disk");
    unfold("#history");
    browser.run("document.activeElement.blur()");
    browser.tab_to("header form button");
    browser.press(Key::Enter);
    browser.until_text("h1", "Log in");
}

#[test]
fn names_that_mean_harm_are_nothing_but_names() {
    let page = PageAt(free_port());
    let gitlab = FakeGitlab::start();
    let hostile = "<img src=x onerror=document.title='taken'>";
    let base = gitlab.project("images/<script>", &[("Containerfile", &format!("FROM docker.io/{hostile}\n"))]);
    let other = gitlab.project("images/\"><b>bold", &[(".gitlab-deps", "images/<script>\n")]);
    for project in [base, other] {
        gitlab.pipeline(project, &json!({"to": "success", "quiet": true}));
    }
    let chain = Chain::of(gitlab, &page.settings());
    let image = chain.host.image(&Image::busybox());
    let runner = Runner::new(&chain.host);
    let mut job = runner.attempt(&Job::new(&image).project(9, "<script>document.title='taken'</script>"));
    job.make_ready();
    let browser = Browser::start();
    for path in ["/", "/chain", &format!("/chain/{base}"), &format!("/chain/{other}"), "/disk", "/images"] {
        browser.open(&page.url(path));
        browser.until_live();
        let expect_names_alone = |how: &str| {
            let counts = browser.run(
                "return [document.scripts.length, document.querySelectorAll('main img, main b, main script').length]",
            );
            assert_eq!(counts, json!([1, 0]), "{path}, {how}");
            let title = browser.run("return document.title");
            assert!(title.as_str().unwrap().ends_with("· Windlass"), "{path}, {how}: {title}");
        };
        expect_names_alone("as the server wrote it");
        retold(&browser);
        expect_names_alone("as the script has put it there");
    }
    browser.open(&page.url("/chain?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E"));
    assert_eq!(browser.run("return document.scripts.length"), 1);
    assert_eq!(browser.run("return document.querySelector('input[name=q]').value"), "\"><script>alert(1)</script>");
    browser.open(&page.url("/chain"));
    assert!(browser.text("#projects").contains("images/<script>"));
    retold(&browser);
    assert!(browser.text("#projects").contains("images/<script>"));
    job.finish();
}

#[test]
fn the_script_says_ages_as_the_server_does() {
    let page = PageAt(free_port());
    let _host = Host::configured(&page.settings());
    let browser = Browser::start();
    browser.open(&page.url("/disk"));
    browser.until_live();
    // Half a unit before the next words, so that the test has time.
    let ages = [20, 60 + 20, 3600 + 90, 86_400 + 1800, 2 * 86_400 + 5400, 40 * 86_400 + 7200];
    for seconds in ages {
        browser.run(&format!(
            "const time = document.createElement('time');\
             time.id = 'age-{seconds}'; time.dateTime = new Date(Date.now() - {seconds}000).toISOString();\
             document.querySelector('footer').append(time)"
        ));
    }
    for age in ages {
        let said =
            |text: &str| (age..age + 20).any(|seconds| text == format!("{} ago", windlass::words::rough(seconds)));
        until("the script has said it", seconds(10), || said(&browser.text(&format!("#age-{age}"))));
    }
}
