//! `windlass update watch`: units are looked at as soon as their images are built. The real feed, and one that is cut, forged and odd.

use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::boxed::in_a_box;
use crate::support::chain_alone::{ChainAlone, FEED_TOKEN};
use crate::support::feed::OddFeed;
use crate::support::gitlab::FakeGitlab;
use crate::support::installed::PATIENCE;
use crate::support::updater::{Does, Updater};
use crate::support::wait::{seconds, until};
use crate::{CHECK, LABEL};

const WATCH: &str = "windlass-update-watch.service";

#[test]
fn a_built_image_of_roots_containers_runs_at_once_and_nothing_is_lost_meanwhile() {
    in_a_box("feed::feed_of_root_in_the_box");
}

#[test]
fn a_built_image_of_a_users_containers_runs_at_once_and_nothing_is_lost_meanwhile() {
    in_a_box("feed::feed_of_a_user_in_the_box");
}

#[test]
fn a_feed_that_is_cut_forged_or_odd_causes_looks_and_nothing_else() {
    in_a_box("feed::odd_feeds_in_the_box");
}

#[test]
#[ignore = "runs in a box"]
fn feed_of_root_in_the_box() {
    feed(false);
}

#[test]
#[ignore = "runs in a box"]
fn feed_of_a_user_in_the_box() {
    feed(true);
}

/// A host with two services, of which one runs what the project images/app builds.
struct Watching {
    host: Updater,
    app: String,
    side: String,
}

impl Watching {
    fn new(rootless: bool) -> Option<Self> {
        let host = Updater::new(rootless)?;
        let (app, side) = (host.registry.image("images/app/web:latest"), host.registry.image("images/apple:latest"));
        for (name, image) in [("web", &app), ("side", &side)] {
            host.push(image, Does::Well, 0);
            host.service(name, image, &format!("{LABEL} {CHECK}"));
        }
        Some(Self { host, app, side })
    }

    fn listen(&self, url: &str) {
        let token = self.host.secret("feed-token", FEED_TOKEN);
        self.host.configure(&format!("settle = \"3s\"\nfeed = \"{url}\"\nfeed_token_file = \"{}\"\n", token.display()));
        self.host.systemctl(&["stop", WATCH]);
        self.host.start(WATCH);
    }

    fn until_status(&self, words: &str) {
        let mut last = String::new();
        let mut is_so = || {
            last = self.host.property(WATCH, "StatusText");
            last.contains(words)
        };
        let waited =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until("the status", PATIENCE, &mut is_so)));
        assert!(waited.is_ok(), "{last:?} and not {words:?}: {}", self.host.journal(WATCH));
    }

    fn until_runs(&self, name: &str, image: &str) {
        let runs = || self.host.try_container(name).is_some_and(|(_, id)| id == image);
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until("it runs", PATIENCE, runs)));
        assert!(waited.is_ok(), "{name} does not run {image}: {}", self.host.journal(WATCH));
        let unit = format!("{name}.service");
        until("its update is over", PATIENCE, || self.host.record(&unit)["journey"].is_null());
    }

    fn pid(&self) -> i32 {
        self.host.property(WATCH, "MainPID").parse().unwrap()
    }

    fn until_another(&self, pid: i32) {
        until("systemd has started another", PATIENCE, || ![0, pid].contains(&self.pid()));
        self.until_status("listening to");
    }
}

fn feed(rootless: bool) {
    let Some(watching) = Watching::new(rootless) else { return };
    let host = &watching.host;
    let gitlab = FakeGitlab::start();
    gitlab.settings(&json!({"registry": format!("127.0.0.1:{}", host.registry.port)}));
    let app = gitlab.project("images/app", &[("Containerfile", "FROM docker.io/library/debian:stable\n")]);
    gitlab.pipeline(app, &json!({"to": "success", "quiet": true}));
    let mut chain = ChainAlone::new(gitlab, "");
    // What the watchdog of the shipped unit would see after a minute.
    host.write_unit(&format!("{WATCH}.d/50-soon.conf"), "[Service]\nWatchdogSec=6\nRestartSec=100ms\n");
    watching.listen(&chain.url());
    watching.until_status("listening to");
    watching.until_status("2 units, 0 updated");

    // Both have moved; only what was built is looked at.
    let build = |chain: &ChainAlone, does: Does| {
        let image = host.push(&watching.app, does, 0);
        let pipeline = chain.gitlab.pipeline(app, &json!({}));
        chain.gitlab.bring(pipeline, "success");
        image
    };
    let side = host.container("side");
    host.push(&watching.side, Does::Well, 0);
    let new = build(&chain, Does::Well);
    let built = Instant::now();
    watching.until_runs("web", &new);
    eprintln!("from the pipeline's success to the end of the update: {:?}", built.elapsed());
    assert_eq!(host.container("side"), side);

    // One that is bad is undone.
    build(&chain, Does::Crash);
    until("the bad one is in quarantine", PATIENCE, || {
        host.record("web.service")["quarantine"].as_array().is_some_and(|entries| entries.len() == 1)
    });
    watching.until_runs("web", &new);

    // Built while the chain's daemon was away, and while nobody listened.
    chain.kill();
    let new = build(&chain, Does::Well);
    watching.until_status("not listening to");
    chain.start();
    watching.until_runs("web", &new);
    host.stop(&[WATCH]);
    let new = build(&chain, Does::Well);
    host.start(WATCH);
    watching.until_runs("web", &new);
    assert_eq!(host.container("side"), side, "it goes on where it was, and needs not look at everything");

    // Killed in the middle of an update, and one that stands still.
    let new = build(&chain, Does::Well);
    let pid = watching.pid();
    until("it judges", PATIENCE, || host.record("web.service")["journey"]["step"] == "judging");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    watching.until_another(pid);
    watching.until_runs("web", &new);
    let pid = watching.pid();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    watching.until_another(pid);
    let new = build(&chain, Does::Well);
    watching.until_runs("web", &new);
    assert_eq!(host.container("side"), side);
    assert!(!host.journal(WATCH).contains(FEED_TOKEN));
    host.stop(&[WATCH, "web.service", "side.service"]);
}

/// An event as the feed writes it.
fn event(id: &str, kind: &str, data: &serde_json::Value) -> String {
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
}

#[test]
#[ignore = "runs in a box"]
fn odd_feeds_in_the_box() {
    let Some(watching) = Watching::new(false) else { return };
    let host = &watching.host;
    let at = |path: &str| json!({"project": "images/x", "images": host.registry.image(path), "pipeline": 1});
    let odd = OddFeed::ok();
    watching.listen(&format!("http://127.0.0.1:{}/feed", odd.port));
    let head = odd.until_asked(1);
    assert!(head.contains(&format!("authorization: bearer {FEED_TOKEN}")) && !head.contains("last-event-id"), "{head}");

    // Who has heard nothing before looks at everything.
    let (web, side) = (host.push(&watching.app, Does::Well, 0), host.push(&watching.side, Does::Well, 0));
    odd.say(&event("x-1", "hello", &json!({})));
    watching.until_runs("web", &web);
    watching.until_runs("side", &side);

    // Whatever it says, what runs is what the tag is, and a flood makes few looks.
    let heads = host.registry.heads("images/app/web", "latest");
    let flood = event("x-2", "built", &at("images/app")).repeat(2000);
    odd.say(&event("x-2", "restart", &json!({"unit": "side.service", "image": "127.0.0.1:1/evil"})));
    odd.say("garbage\n\n: and more\ndata\n\n");
    odd.say(&event("x-2", "built", &json!({"images": "web.service; reboot", "unit": "web.service"})));
    odd.say(&event("x-2", "built", &json!({"images": "127.0.0.1:1/evil"})));
    odd.say(&flood);
    let before = host.container("web");
    let new = host.push(&watching.side, Does::Well, 0);
    odd.say(&event("x-3", "built", &at("images/apple")));
    watching.until_runs("side", &new);
    assert_eq!(host.container("web"), before);
    let looks = host.registry.heads("images/app/web", "latest") - heads;
    assert!((1..=4).contains(&looks), "{looks} looks for 2000 events");

    // Cut off in the middle of an event, it was not heard; the next connection goes on before it.
    odd.say(&format!("id: x-9\nevent: built\ndata: {}\n", at("images/apple")));
    odd.cut();
    let head = odd.until_asked(2);
    assert!(head.contains("last-event-id: x-3"), "{head}");
    odd.say(&"x".repeat(200 << 10));
    odd.until_asked(3);
    let new = host.push(&watching.side, Does::Well, 0);
    odd.say(&event("x-4", "missed", &json!({})));
    watching.until_runs("side", &new);

    // What is no feed, and one that refuses: it says so, and goes on trying.
    let refusing = OddFeed::start("401 Unauthorized\r\nContent-Length: 0");
    watching.listen(&format!("http://127.0.0.1:{}/feed", refusing.port));
    watching.until_status("refuses the token");
    refusing.until_asked(2);
    // Another token counts as soon as it is there.
    host.secret("feed-token", "another-token-of-the-feed");
    let is_shown = || refusing.heads().iter().any(|head| head.contains("bearer another-token-of-the-feed"));
    until("the new token is shown", seconds(60), is_shown);
    let page = OddFeed::start("200 OK\r\nContent-Type: text/html");
    watching.listen(&format!("http://127.0.0.1:{}/feed", page.port));
    watching.until_status("no feed");
    let moved = OddFeed::start("302 Found\r\nLocation: http://127.0.0.1:1/feed\r\nContent-Length: 0");
    watching.listen(&format!("http://127.0.0.1:{}/feed", moved.port));
    watching.until_status("sends to http://127.0.0.1:1/feed");
    assert_eq!(host.property(WATCH, "ActiveState"), "active");

    // Without a feed in the configuration there is nothing to listen to, and no use in trying again.
    host.configure("");
    host.systemctl(&["restart", WATCH]);
    until("it has given up", seconds(60), || host.property(WATCH, "ActiveState") == "failed");
    assert_eq!(host.property(WATCH, "ExecMainStatus"), "78");
    assert!(host.journal(WATCH).contains("name the image chain's feed"), "{}", host.journal(WATCH));
    host.stop(&["web.service", "side.service"]);
}
