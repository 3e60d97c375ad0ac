//! `POST /hooks/gitlab`, called by GitLab and by others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::chain::{Chain, SECRET};
use crate::support::wait::{seconds, until};

const TOKEN: (&str, &str) = ("X-Gitlab-Token", SECRET);

fn event(project: u64, change: &dyn Fn(&mut Value)) -> Vec<u8> {
    let mut body = json!({
        "object_kind": "pipeline",
        "object_attributes": {"id": 77, "ref": "main", "tag": false, "source": "push", "status": "success",
            "finished_at": "2026-05-12 15:26:29 UTC", "variables": [{"key": "PASSWORD", "value": "hunter2"}]},
        "merge_request": null, "commit": null, "builds": [],
        "project": {"id": project, "path_with_namespace": "images/base", "default_branch": null},
    });
    change(&mut body);
    body.to_string().into_bytes()
}

/// The last event, as `windlass chain events` shows it.
fn last(chain: &Chain) -> Value {
    chain.json(&["events", "--count", "1"])["events"][0].clone()
}

#[test]
fn only_calls_of_gitlab_are_taken() {
    let (chain, diamond) = Chain::diamond("");
    let body = event(diamond.base, &|_| {});
    for headers in [
        vec![],
        vec![("X-Gitlab-Token", "")],
        vec![("X-Gitlab-Token", "wrong")],
        vec![("webhook-signature", "v1,AAAA")],
    ] {
        assert_eq!(chain.call(&headers, &body).status, 401, "{headers:?}");
    }
    assert_eq!(chain.call(&[TOKEN], &body).status, 200);
    let get = crate::support::client::ask(chain.port, "GET", "/hooks/gitlab", &[], b"").unwrap();
    let elsewhere = crate::support::client::ask(chain.port, "POST", "/other", &[TOKEN], &body).unwrap();
    assert_eq!((get.status, elsewhere.status), (405, 404));
}

#[test]
fn every_event_of_gitlabs_is_taken_and_none_that_is_aside_advances_anything() {
    let (chain, diamond) = Chain::diamond("");
    type Change = Box<dyn Fn(&mut Value)>;
    let set = |path: &'static str, value: Value| -> Change {
        Box::new(move |body| *body.pointer_mut(path).unwrap() = value.clone())
    };
    let cases: Vec<(Change, Option<&str>)> = vec![
        (set("/object_attributes/tag", json!(true)), Some("of a tag")),
        (set("/object_attributes/ref", json!("feature")), Some("of another branch")),
        (set("/object_attributes/source", json!("parent_pipeline")), Some("of a child pipeline or the like")),
        (set("/merge_request", json!({"id": 1})), Some("of a merge request")),
        (set("/project/id", json!(999_999)), Some("of a project that is not in the chain")),
        (set("/object_attributes/status", json!("brand_new")), Some("looked")),
        (set("/object_attributes/source", json!("brand_new")), Some("looked")),
        (set("/object_attributes/source", Value::Null), Some("looked")),
        (set("/object_attributes/finished_at", json!("2026-05-12T15:26:29.000Z")), Some("looked")),
        (set("/object_attributes/finished_at", json!("no date at all")), Some("looked")),
    ];
    for (index, (change, verdict)) in cases.into_iter().enumerate() {
        let body = event(diamond.base, &|body| {
            body["object_attributes"]["id"] = json!(1000 + index);
            change(body);
        });
        assert_eq!(chain.call(&[TOKEN], &body).status, 200, "{index}");
        until("it is looked at", seconds(10), || !last(&chain)["verdict"].is_null());
        assert_eq!(last(&chain)["verdict"].as_str(), verdict, "{index}");
    }
    for other in [json!({"object_kind": "push"}), json!({"object_kind": "build"}), json!({})] {
        assert_eq!(chain.call(&[TOKEN], other.to_string().as_bytes()).status, 200, "{other}");
    }
    let whole = event(diamond.base, &|_| {});
    assert_eq!(chain.call(&[TOKEN], &whole[..whole.len() / 2]).status, 400);
    // GitLab knows of no success that any of these claimed.
    chain.sync();
    assert!(chain.starts(diamond.ruby).is_empty());
}

#[test]
fn an_event_that_was_acknowledged_outlives_the_daemon() {
    let (chain, diamond) = Chain::diamond("");
    chain.gitlab.webhooks(&json!({"drop": "all"}));
    let pipeline = chain.gitlab.pipeline(diamond.base, &json!({"driven": true}));
    chain.gitlab.bring(pipeline, "success");
    let body = event(diamond.base, &|body| body["object_attributes"]["id"] = json!(pipeline));
    assert_eq!(chain.call(&[TOKEN, ("Idempotency-Key", "k1")], &body).status, 200);
    chain.host.end_daemon(Signal::SIGKILL);
    chain.host.start_daemon();
    chain.started(diamond.ruby, 0);
    assert_eq!(chain.call(&[TOKEN, ("Idempotency-Key", "k1")], &body).status, 200);
    assert_eq!(last(&chain)["verdict"], "a duplicate");
}

#[test]
fn variables_are_nowhere() {
    let (chain, diamond) = Chain::diamond("");
    assert_eq!(chain.call(&[TOKEN], &event(diamond.base, &|_| {})).status, 200);
    assert_eq!(chain.call(&[TOKEN], b"{\"object_kind\":\"pipeline\",\"variables\":\"hunter2\"").status, 400);
    chain.settle();
    chain.host.end_daemon(Signal::SIGTERM);
    let state = chain.host.state_dir();
    let mut files = vec![chain.host.dir().join("daemon.log")];
    files.extend(std::fs::read_dir(&state).unwrap().flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    assert!(files.iter().any(|path| path.ends_with("chain.db")));
    for file in files {
        let text = std::fs::read(&file).unwrap();
        let has = |word: &str| text.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!has("hunter2"), "{}", file.display());
        assert!(!has(SECRET), "{}", file.display());
    }
}

#[test]
fn slow_and_greedy_clients_are_cut_off_and_others_served_meanwhile() {
    let (chain, diamond) = Chain::diamond("");
    let body = event(diamond.base, &|_| {});
    // Half a head, and half a body: as many as are served at once.
    let mut slow: Vec<TcpStream> = (0..100)
        .map(|index| {
            let mut stream = TcpStream::connect(("127.0.0.1", chain.port)).unwrap();
            let head = format!(
                "POST /hooks/gitlab HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {SECRET}\r\nContent-Length: 100\r\n"
            );
            let text = if index % 2 == 0 { head } else { format!("{head}\r\n{{") };
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    assert_eq!(chain.call(&[TOKEN], &body).status, 200);
    assert!(began.elapsed() < seconds(1), "{:?}", began.elapsed());
    for stream in &mut slow {
        stream.set_read_timeout(Some(seconds(30))).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("it is cut off");
    }
    let mut huge = TcpStream::connect(("127.0.0.1", chain.port)).unwrap();
    huge.write_all(
        format!(
            "POST /hooks/gitlab HTTP/1.1\r\nHost: x\r\nX-Gitlab-Token: {SECRET}\r\nContent-Length: 900000000\r\n\r\n"
        )
        .as_bytes(),
    )
    .unwrap();
    let mut answer = [0; 64];
    let count = huge.read(&mut answer).unwrap();
    assert!(
        String::from_utf8_lossy(&answer[..count]).starts_with("HTTP/1.1 413"),
        "{:?}",
        String::from_utf8_lossy(&answer[..count])
    );
    // A daemon that is asked to end waits for none of them.
    let _half = TcpStream::connect(("127.0.0.1", chain.port)).unwrap();
    let began = Instant::now();
    chain.host.end_daemon(Signal::SIGTERM);
    assert!(began.elapsed() < seconds(10), "{:?}", began.elapsed());
}
