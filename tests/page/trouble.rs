//! What the page, the JSON and the command say where podman or the history can't be asked: not that there is nothing.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::api::check_all;
use crate::support::chain::{Chain, Diamond};
use crate::support::gitlab::FakeGitlab;
use crate::support::page::PageAt;
use crate::support::registry::free_port;
use crate::support::wait::{seconds, until};
use crate::support::{Host, Image};

#[test]
fn images_that_podman_does_not_list_are_not_told_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let (broken, podman) = (dir.path().join("broken"), dir.path().join("podman"));
    let script = format!(
        "#!/bin/sh\nif [ -e '{}' ]; then case \" $* \" in *' images '*) echo 'no space left' >&2; exit 125 ;; esac; fi\nexec podman \"$@\"\n",
        broken.display()
    );
    std::fs::write(&podman, script).unwrap();
    std::fs::set_permissions(&podman, PermissionsExt::from_mode(0o755)).unwrap();
    let page = PageAt(free_port());
    let host = Host::configured(&format!("{}[podman]\ncommand = '{}'", page.settings(), podman.display()));
    let image = host.image(&Image::busybox());
    assert!(!host.json(&["images", "list"]).as_array().unwrap().is_empty(), "{image}");
    std::fs::write(&broken, "").unwrap();
    let listed = host.windlass(&["images", "list", "--socket", host.socket().to_str().unwrap()]);
    let words = String::from_utf8(listed.stderr).unwrap();
    assert!(!listed.status.success() && words.contains("images can't be listed: podman images"), "{words}");
    until("the page says so", seconds(60), || page.api("disk")["images_unread"].is_string());
    let disk = page.api("disk");
    assert!(disk["image_bytes"].is_null() && disk["images"].as_array().unwrap().is_empty(), "{disk:#}");
    let text = page.get("/disk", &[]).text();
    assert!(text.contains("can't be read: podman images") && text.contains("no space left"), "{text}");
    check_all(page, None);
    std::fs::remove_file(&broken).unwrap();
    until("they are there again", seconds(60), || page.api("disk")["image_bytes"].is_u64());
}

#[test]
fn a_history_that_cannot_be_read_or_written_is_said_and_not_told_as_empty() {
    let page = PageAt(free_port());
    let host = Host::configured(&page.settings());
    let database = host.state_dir().join("history.db");
    until("it is there", seconds(20), || database.exists());
    assert_eq!(host.status()["daemon"]["warnings"].to_string().matches("not recorded").count(), 0);
    host.end_daemon(Signal::SIGTERM);
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(host.state_dir().join(format!("history.db{suffix}")));
    }
    std::fs::write(&database, "this is no database, and it is somebody's").unwrap();
    host.start_daemon();
    // The first look at the disks is written at once.
    until("it is a warning", seconds(20), || {
        host.status()["daemon"]["warnings"].to_string().contains("what has been is not recorded, and jobs go on")
    });
    let unread = |answer: &Value| answer["unread"].as_str().is_some_and(|why| why.contains("history.db"));
    let (jobs, disk) = (page.api("jobs"), page.api("disk"));
    assert!(unread(&jobs) && unread(&disk["past"]), "{jobs:#} {disk:#}");
    for path in ["/jobs", "/disk"] {
        let text = page.get(path, &[]).text();
        assert!(text.contains("can't be read: read the history") && !text.contains("on record"), "{path}: {text}");
    }
    assert!(page.get("/", &[]).text().contains("what has been is not recorded"));
    check_all(page, None);
}

#[test]
fn a_project_says_that_nothing_is_started_in_a_dry_run() {
    let page = PageAt(free_port());
    let gitlab = FakeGitlab::start();
    let diamond = Diamond::make(&gitlab);
    let _chain = Chain::of(gitlab, &format!("[chain]\ndry_run = true\n{}", page.settings()));
    let path = format!("chain/{}", diamond.ruby);
    let why = "dry_run is set in [chain]";
    until("it is in the chain", seconds(30), || {
        page.try_get(&format!("/{path}")).is_ok_and(|reply| reply.status == 200)
    });
    assert_eq!(page.api(&path)["held"], why);
    let text = page.get(&format!("/{path}"), &[]).text();
    assert!(text.contains(&format!("Nothing is started: {why}.")), "{text}");
}
