//! The feed: hosts hear what was built, at once, and nothing is lost to one that was away.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::chain::{Chain, Diamond};
use crate::support::client;
use crate::support::feed::{Event, Listener};
use crate::support::openmetrics::Figures;
use crate::support::registry::free_port;
use crate::support::wait::{seconds, until};

const TOKEN: &str = "a-token-that-hosts-show";

struct Fed {
    chain: Chain,
    projects: Diamond,
    port: u16,
    settings: String,
    secrets: TempDir,
}

impl Fed {
    fn new() -> Self {
        let (secrets, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = secrets.path().join("feed-token");
        fs::write(&file, format!("{TOKEN}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let settings = format!("[feed]\nlisten = '127.0.0.1:{port}'\ntoken_file = '{}'\n", file.display());
        let (chain, projects) = Chain::diamond(&settings);
        Self { chain, projects, port, settings, secrets }
    }

    fn listen(&self, last: Option<&str>) -> Listener {
        Listener::connect(self.port, TOKEN, last)
    }

    /// Has a project built by somebody.
    fn build(&self, project: u64) -> u64 {
        let pipeline = self.chain.gitlab.pipeline(project, &json!({}));
        self.chain.gitlab.bring(pipeline, "success");
        pipeline
    }
}

fn projects(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.data["project"].as_str().unwrap_or(&event.kind)).collect()
}

#[test]
fn hosts_hear_at_once_what_was_built_and_where_its_images_are() {
    let fed = Fed::new();
    let (one, other) = (fed.listen(None), fed.listen(None));
    let head = one.head();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    // What was built before anybody looked is no news.
    assert_eq!(projects(&one.until_events(1)), ["hello"]);
    other.until_events(1);
    let pipeline = fed.build(fed.projects.base);
    for listener in [&one, &other] {
        let built = listener.until_events(2).pop().unwrap();
        assert_eq!(built.kind, "built");
        let expected =
            json!({"project": "images/base", "images": "registry.example.org/images/base", "pipeline": pipeline});
        for key in ["project", "images", "pipeline"] {
            assert_eq!(built.data[key], expected[key], "{built:?}");
        }
        assert!(built.data["at"].as_str().unwrap().ends_with('Z'), "{built:?}");
    }
    // A failure is none.
    let failed = fed.chain.gitlab.pipeline(fed.projects.node, &json!({}));
    fed.chain.gitlab.bring(failed, "failed");
    fed.chain.until_words("images/node", "failed");
    assert_eq!(one.events().len(), 2);
    let listeners = || Figures::of(&fed.chain.host).get("windlass_feed_listeners");
    assert_eq!(listeners(), 2.0);
    drop(other);
    until("a heartbeat came", seconds(40), || one.text().contains(": still here"));
    until("one has gone", seconds(40), || listeners() == 1.0);
}

#[test]
fn a_host_that_was_away_hears_what_it_has_missed() {
    let fed = Fed::new();
    let first = fed.listen(None).until_events(1).pop().unwrap();
    fed.build(fed.projects.base);
    let listener = fed.listen(Some(&first.id));
    assert_eq!(projects(&listener.until_events(1)), ["images/base"]);
    let last = listener.events().pop().unwrap();
    // Another daemon goes on where this one was; what was built while there was none is news too.
    fed.chain.host.end_daemon(Signal::SIGKILL);
    fed.build(fed.projects.ruby);
    fed.chain.host.start_daemon();
    let listener = fed.listen(Some(&last.id));
    assert_eq!(projects(&listener.until_events(1)), ["images/ruby"]);
    let both = fed.listen(Some(&first.id)).until_events(2);
    assert_eq!(projects(&both), ["images/base", "images/ruby"]);
    // Of a database that knows nothing of what was heard, nobody can tell what was missed.
    for unknown in ["00000000-1", "x", "-1", &format!("{}9", last.id)] {
        assert_eq!(projects(&fed.listen(Some(unknown)).until_events(1)), ["missed"], "{unknown}");
    }
    fed.chain.host.end_daemon(Signal::SIGTERM);
    for file in ["chain.db", "chain.db-wal", "chain.db-shm"] {
        let _ = fs::remove_file(fed.chain.host.state_dir().join(file));
    }
    fed.chain.host.start_daemon();
    assert_eq!(projects(&fed.listen(Some(&last.id)).until_events(1)), ["missed"], "another row of numbers");
}

#[test]
fn nobody_hears_anything_without_the_token() {
    let fed = Fed::new();
    let ask = |headers: &[(&str, &str)]| client::ask(fed.port, "GET", "/feed", headers, b"").unwrap();
    for headers in [
        &[][..],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Bearer wrong")],
        &[("Authorization", "Basic a-token-that-hosts-show")],
        &[("PRIVATE-TOKEN", TOKEN)],
    ] {
        let reply = ask(headers);
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{headers:?}");
        assert!(!reply.text().contains("event"), "{}", reply.text());
    }
    assert_eq!(client::ask(fed.port, "POST", "/feed", &[], b"").unwrap().status, 405);
    assert_eq!(client::ask(fed.port, "GET", "/hooks/gitlab", &[], b"").unwrap().status, 404);
    assert!(!fed.chain.host.log().contains(TOKEN));
    // With a token that could be guessed, and with none at all, there is no feed, and the chain goes on.
    let start = |settings: &str| {
        fed.chain.restart(settings);
        assert!(client::ask(fed.port, "GET", "/feed", &[], b"").is_err(), "nobody listens");
        fed.chain.status();
        fed.chain.host.status()["daemon"]["warnings"].to_string()
    };
    let said = start(&format!("[feed]\nlisten = '127.0.0.1:{}'\n", fed.port));
    assert!(said.contains("token_file in [feed]"), "{said}");
    fs::write(fed.secrets.path().join("feed-token"), "short").unwrap();
    let said = start(&fed.settings);
    assert!(said.contains("fewer than 16 characters"), "{said}");
}
