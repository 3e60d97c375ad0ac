//! Who may look, and what the page gives nobody a chance to do.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::browser::Browser;
use crate::support::client::{self, Reply};
use crate::support::page::PageAt;
use crate::support::prefix::Prefix;
use crate::support::registry::free_port;
use crate::support::wait::{seconds, until};
use crate::support::{Host, Image, Job, Runner, State};

const TOKEN: &str = "the-token-of-the-page";

fn token_file(dir: &Path) -> String {
    let path = dir.join("page-token");
    fs::write(&path, TOKEN).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

fn log_in(page: PageAt, path: &str, token: &str, headers: &[(&str, &str)]) -> Reply {
    let headers = [&[("Content-Type", "application/x-www-form-urlencoded")], headers].concat();
    client::ask(page.0, "POST", path, &headers, format!("token={token}").as_bytes()).unwrap()
}

#[test]
fn by_default_it_is_at_a_socket_that_only_the_daemons_user_may_open() {
    let host = Host::start();
    let path = host.run_dir().join("page.sock");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 ") && text.contains("<title>Now · Windlass</title>"), "{text}");
    // One that was killed leaves its socket, and the next one takes its place.
    host.crash_daemon();
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn every_answer_is_guarded_and_only_own_names_are_answered() {
    let page = PageAt(free_port());
    let _host = Host::configured(&format!("{}hosts = ['ci.example.com']\n", page.settings()));
    for path in ["/", "/disk", "/jobs", "/api/v1/now", "/nowhere", "/assets/style.css", "/login", "/live/nowhere"] {
        let reply = page.get(path, &[]);
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(
            (reply.header("x-content-type-options"), reply.header("referrer-policy")),
            ("nosniff", "no-referrer")
        );
    }
    // Nothing inline that the policy would refuse, nothing from elsewhere.
    let text = page.get("/", &[]).text();
    assert!(!text.contains(" style=") && !text.contains(" onclick") && !text.contains("src=\"http"), "{text}");
    let raw = |host: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", page.0)).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!((raw("evil.example.com"), raw("evil.example.com:80")), ("421".to_owned(), "421".to_owned()));
    assert_eq!((raw("ci.example.com"), raw("localhost:9253")), ("200".to_owned(), "200".to_owned()));
    for method in ["POST", "PUT", "DELETE"] {
        assert_eq!(client::ask(page.0, method, "/chain", &[], b"").unwrap().status, 405);
    }
    // Kept for as long as the browser likes, since another one is called otherwise.
    let style = text.split("href=\"").find(|part| part.starts_with("/assets/style.css")).unwrap();
    let asset = page.get(style.split('"').next().unwrap(), &[]);
    assert!(asset.header("cache-control").contains("immutable"), "{asset:?}");
    assert_eq!(page.get("/assets/style.css", &[("If-None-Match", asset.header("etag"))]).status, 304);
    assert_eq!(page.get("/", &[]).header("cache-control"), "no-store");
}

#[test]
fn with_a_token_nobody_looks_who_has_not_logged_in() {
    let page = PageAt(free_port());
    let secrets = tempfile::tempdir().unwrap();
    let file = token_file(secrets.path());
    let host = Host::configured(&format!("{}token_file = '{file}'\nbase_path = '/ci/windlass'\n", page.settings()));
    let own = ("Sec-Fetch-Site", "none");
    let reply = page.get("/ci/windlass/chain/17", &[own]);
    assert_eq!((reply.status, reply.header("location")), (303, "/ci/windlass/login?next=%2Fchain%2F17"));
    assert_eq!(page.get("/ci/windlass/nowhere", &[own]).header("location"), "/ci/windlass/login");
    // From another site a browser brings no cookie: it goes a step within this one first.
    for from in [&[("Sec-Fetch-Site", "cross-site")][..], &[]] {
        let reply = page.get("/ci/windlass/chain?q=a;b", from);
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"));
        let step = "content=\"0; url=/ci/windlass/login?next=%2Fchain%3Fshow%3D%26q%3Da%253Bb\"";
        assert!(reply.text().contains(step), "{}", reply.text());
    }
    assert_eq!((page.get("/api/v1/now", &[]).status, page.get("/live/now", &[]).status), (401, 401));
    assert_eq!(page.get("/assets/style.css", &[]).status, 200);
    assert_eq!(page.get("/api/v1/now", &[("Authorization", &format!("Bearer {TOKEN}"))]).status, 200);
    assert_eq!(log_in(page, "/login", "wrong", &[]).status, 403);
    // Behind a proxy with TLS, which may take the path off or not.
    for path in ["/login", "/ci/windlass/login"] {
        let reply = log_in(page, path, TOKEN, &[("X-Forwarded-Proto", "https")]);
        assert_eq!((reply.status, reply.header("location")), (303, "/ci/windlass/"));
        let cookie = reply.header("set-cookie");
        for wanted in ["; Path=/ci/windlass;", "; HttpOnly", "; SameSite=Strict", "; Secure"] {
            assert!(cookie.contains(wanted), "{cookie}");
        }
    }
    let cookie = log_in(page, "/login", TOKEN, &[]).header("set-cookie").to_owned();
    assert!(!cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(page.get("/ci/windlass/", &[("Cookie", cookie)]).status, 200);
    // Whoever has logged in gets on, and nobody to another place.
    for (next, place) in
        [("%2Fchain%2F17", "/chain/17"), ("%2F%2Fevil.example.com", "/"), ("https:%2F%2Fevil.example.com", "/")]
    {
        let reply = page.get(&format!("/login?next={next}"), &[("Cookie", cookie)]);
        assert_eq!((reply.status, reply.header("location")), (303, &*format!("/ci/windlass{place}")), "{next}");
        let reply = log_in(page, "/login", &format!("{TOKEN}&next={next}"), &[]);
        assert_eq!((reply.status, reply.header("location")), (303, &*format!("/ci/windlass{place}")), "{next}");
    }
    // A session outlasts a restart, and another token ends it.
    host.crash_daemon();
    assert_eq!(page.get("/api/v1/now", &[("Cookie", cookie)]).status, 200);
    let text = page.get("/", &[("Cookie", cookie)]).text();
    assert!(
        text.contains("href=\"/ci/windlass/disk\"") && text.contains("data-live=\"/ci/windlass/live/now\""),
        "{text}"
    );
    fs::write(&file, "another-token-of-the-page").unwrap();
    host.crash_daemon();
    assert_eq!(page.get("/api/v1/now", &[("Cookie", cookie)]).status, 401);
    // Whoever sends wrong ones on and on is told to wait; nobody's right one is refused for that, not even of the same sender.
    let statuses: Vec<u16> = (0..12).map(|_| log_in(page, "/login", "wrong", &[]).status).collect();
    assert_eq!((statuses[0], statuses[11]), (403, 429), "{statuses:?}");
    let wrong = ("Authorization", "Bearer wrong-token-of-the-page");
    let reply = page.get("/api/v1/now", &[wrong]);
    assert_eq!(reply.status, 429);
    assert!(reply.json()["error"].as_str().unwrap().contains("this token is wrong"), "{}", reply.text());
    let wait: u64 = reply.header("retry-after").parse().unwrap();
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!((page.get("/", &[wrong]).status, page.get("/live/now", &[wrong]).status), (429, 429));
    let other = ("X-Forwarded-For", "192.0.2.7");
    assert_eq!(page.get("/api/v1/now", &[wrong, other]).status, 401, "another, whom the proxy names");
    let token = ("Authorization", "Bearer another-token-of-the-page");
    assert_eq!((page.get("/api/v1/now", &[token]).status, page.get("/api/v1/now", &[token, other]).status), (200, 200));
    assert_eq!(log_in(page, "/login", "another-token-of-the-page", &[]).status, 303);
}

#[test]
fn people_log_in_look_and_log_out_behind_a_proxy() {
    let page = PageAt(free_port());
    let secrets = tempfile::tempdir().unwrap();
    let file = token_file(secrets.path());
    let host = Host::configured(&format!("{}token_file = '{file}'\nbase_path = '/ci'\n", page.settings()));
    let proxy = Prefix::start("/ci", page.0);
    let browser = Browser::start();
    browser.open(&proxy.url("/ci/disk"));
    assert!(browser.url().ends_with("/ci/login?next=%2Fdisk"), "{}", browser.url());
    browser.fill("#token", "wrong");
    browser.click("form.login button");
    browser.until_text("[role=alert]", "This is not the token.");
    browser.fill("#token", TOKEN);
    browser.click("form.login button");
    browser.until_live();
    assert!(browser.url().ends_with("/ci/disk"), "the link that was followed: {}", browser.url());
    assert_eq!(browser.run("return document.cookie"), "", "a script sees no session");
    // A link in another site's page, from which a browser sends no cookie of this kind.
    browser.open(&format!("data:text/html,<a href='{}'>the jobs</a>", proxy.url("/ci/jobs")));
    browser.click("a");
    browser.until_live();
    assert!(browser.url().ends_with("/ci/jobs"), "{}", browser.url());
    browser.click("nav a[href='/ci/']");
    browser.until_live();
    // What happens reaches the open page through it, also from the daemon that comes after this one.
    let drain = |verb: &str| host.windlass(&[verb, "--socket", host.socket().to_str().unwrap()]);
    assert!(drain("drain").status.success());
    browser.until_text("main", "Drained");
    host.crash_daemon();
    assert!(drain("undrain").status.success());
    until("the page knows it", seconds(40), || !browser.text("main").contains("Drained"));
    browser.until_live();
    assert_eq!(browser.run("return performance.getEntriesByType('navigation')[0].type"), "navigate");
    browser.click("header form button");
    browser.until_text("h1", "Log in");
    browser.open(&format!("data:text/html,<a href='{}'>the disk</a>", proxy.url("/ci/disk")));
    browser.click("a");
    browser.until_text("h1", "Log in");
    assert!(browser.url().ends_with("/ci/login?next=%2Fdisk"), "{}", browser.url());
}

#[test]
fn with_a_token_that_could_be_guessed_or_read_there_is_no_page_and_jobs_go_on() {
    let host = Host::start();
    let page = PageAt(free_port());
    let secrets = tempfile::tempdir().unwrap();
    let file = token_file(secrets.path());
    let settings = format!("{}token_file = '{file}'\n", page.settings());
    let starts = |words: &str| {
        host.end_daemon(nix::sys::signal::Signal::SIGTERM);
        host.configure(&settings);
        host.start_daemon();
        let warnings = host.status()["daemon"]["warnings"].to_string();
        assert!(warnings.contains("there is no page: ") && warnings.contains(words), "{warnings}");
        assert!(page.try_get("/").is_err(), "it is served to nobody");
    };
    fs::write(&file, "short").unwrap();
    starts("could be guessed");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    starts("chmod 0600");
    let image = host.image(&Image::busybox());
    Runner::new(&host).play(&Job::new(&image).script(&["echo hello"])).expect(State::Success);
}

#[test]
fn pages_that_stay_open_are_bounded_and_do_not_hold_up_the_end() {
    let page = PageAt(free_port());
    let host = Host::configured(&page.settings());
    let open: Vec<std::net::TcpStream> = (0..140)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", page.0)).unwrap();
            write!(stream, "GET /live/now HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            stream
        })
        .collect();
    let begins: Vec<String> = open
        .iter()
        .map(|mut stream| {
            stream.set_read_timeout(Some(seconds(20))).unwrap();
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            String::from_utf8_lossy(&head).into_owned()
        })
        .collect();
    let count = |status: &str| begins.iter().filter(|begin| begin.ends_with(status)).count();
    assert_eq!((count("200"), count("503")), (128, 12), "{begins:?}");
    let began = std::time::Instant::now();
    assert_eq!(host.end_daemon(nix::sys::signal::Signal::SIGTERM), Some(0));
    assert!(began.elapsed() < seconds(8), "{:?}", began.elapsed());
    drop(open);
    host.start_daemon();
    until("there is room again", seconds(10), || page.try_get("/").is_ok_and(|reply| reply.status == 200));
}
