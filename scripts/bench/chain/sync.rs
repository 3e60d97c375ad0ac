//! A look at everything, against three REST calls for each project: its file, its pipelines, its webhooks.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::json;
use windlass::config::GitlabSettings;
use windlass::gitlab::{Client, PipelinesOf};

use super::daemon::Daemon;
use super::support::gitlab::FakeGitlab;
use super::{Figure, PROJECTS, Result};

/// How many requests the peer has under way: as many as the daemon.
const AT_ONCE: usize = 4;

/// A hundred bases, each with nine that build on it; each with a pipeline.
pub fn make_projects(gitlab: &FakeGitlab) -> Vec<u64> {
    let project = |at: usize| {
        let from = if at.is_multiple_of(10) {
            "docker.io/library/debian:stable".to_owned()
        } else {
            format!("$CI_REGISTRY/images/p{}", at / 10 * 10)
        };
        json!({"path": format!("images/p{at}"), "files": {"Containerfile": format!("ARG CI_REGISTRY\nFROM {from}\nRUN true\n")}})
    };
    let ids = gitlab.projects(&json!((0..PROJECTS).map(project).collect::<Vec<_>>()));
    for id in &ids {
        gitlab.pipeline(*id, &json!({"to": "success", "quiet": true}));
    }
    ids
}

pub async fn measure(rounds: usize, gitlab: &FakeGitlab, daemon: &Daemon, ids: &[u64]) -> Result<Vec<Figure>> {
    // The first look sets the webhooks up.
    let began = Instant::now();
    loop {
        let status = daemon.chain(&["status"])?;
        if !status["looked_at"].is_null() && status["looking"] == false {
            break;
        }
        if began.elapsed() > Duration::from_secs(300) {
            return Err("the first look takes too long".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let client = client(gitlab)?;
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let (mut requests, mut calls) = (0, 0);
    for _ in 0..=rounds {
        gitlab.forget_requests();
        let began = Instant::now();
        daemon.chain(&["sync"])?;
        ours.push(began.elapsed().as_secs_f64());
        requests = gitlab.requests().len();
        gitlab.forget_requests();
        let began = Instant::now();
        by_rest(&client, ids).await?;
        peer.push(began.elapsed().as_secs_f64());
        calls = gitlab.requests().len();
    }
    // The first of each is a warm-up.
    let (ours, peer) = (median(&mut ours[1..]), median(&mut peer[1..]));
    let (requests, calls) = (count(requests), count(calls));
    Ok(vec![
        Figure {
            what: "a look at 1,000 projects: requests",
            ours: format!("{requests}"),
            peer: format!("{calls}"),
            ratio: format!("{:.0}", calls / requests),
            goal: "at least 50",
            met: calls / requests >= 50.0,
            json: json!({"row": "sync-requests", "ours": requests, "peer": calls, "unit": "requests", "ratio": calls / requests}),
        },
        Figure {
            what: "a look at 1,000 projects: time",
            ours: format!("{ours:.2} s"),
            peer: format!("{peer:.2} s"),
            ratio: format!("{:.1}", peer / ours),
            goal: "none",
            met: true,
            json: json!({"row": "sync-time", "ours": ours, "peer": peer, "unit": "s", "ratio": peer / ours}),
        },
    ])
}

fn client(gitlab: &FakeGitlab) -> Result<Client> {
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    std::fs::write(file.path(), FakeGitlab::TOKEN).map_err(|error| error.to_string())?;
    let settings = GitlabSettings {
        url: Some(gitlab.url().to_owned()),
        token_file: Some(file.path().to_owned()),
        ..GitlabSettings::default()
    };
    Client::new(&settings).map_err(|error| format!("{error:#}"))?.ok_or_else(|| "no client".to_owned())
}

async fn by_rest(client: &Client, ids: &[u64]) -> Result<()> {
    let three = async |id: u64| -> Result<()> {
        let id = i64::try_from(id).map_err(|error| error.to_string())?;
        let say = |error: windlass::gitlab::GitlabError| error.to_string();
        client.file(id, "Containerfile", "main").await.map_err(say)?;
        client
            .pipelines(id, PipelinesOf { reference: Some("main"), ..PipelinesOf::default() }, 20)
            .await
            .map_err(say)?;
        client.hooks(id).await.map_err(say).map(drop)
    };
    let all: Vec<Result<()>> = stream::iter(ids.iter().copied()).map(three).buffer_unordered(AT_ONCE).collect().await;
    all.into_iter().collect()
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
