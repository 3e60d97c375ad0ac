//! A thousand hosts that listen to the feed: what they cost the daemon, and how long after a pipeline's success the first and the last of them
//! have heard of it.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::daemon::{Daemon, SECRET};
use super::support::gitlab::FakeGitlab;
use super::{Figure, Result};

/// Hosts that listen.
const LISTENERS: usize = 1000;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a listener says: that it is connected, and when it has heard of the success.
enum Heard {
    Hello,
    Built(Instant),
}

pub async fn measure(gitlab: &FakeGitlab, daemon: &Daemon, ids: &[u64]) -> Result<Vec<Figure>> {
    let before = daemon.memory()?;
    let (sender, mut heard) = mpsc::channel(LISTENERS);
    let listeners: Vec<_> = (0..LISTENERS).map(|_| tokio::spawn(listen(daemon.feed, sender.clone()))).collect();
    let mut next = async || match tokio::time::timeout(LIMIT, heard.recv()).await {
        Ok(Some(heard)) => Ok(heard),
        _ => Err("a listener hears nothing".to_owned()),
    };
    for _ in 0..LISTENERS {
        next().await?;
    }
    let memory = daemon.memory()? - before;
    // One that nothing is built on.
    let project = ids.last().copied().ok_or("no projects")?;
    let pipeline = gitlab.pipeline(project, &json!({}));
    gitlab.bring(pipeline, "running");
    let began = Instant::now();
    gitlab.bring(pipeline, "success");
    let mut times = Vec::new();
    while times.len() < LISTENERS {
        if let Heard::Built(at) = next().await? {
            times.push(at.duration_since(began).as_secs_f64());
        }
    }
    listeners.iter().for_each(tokio::task::JoinHandle::abort);
    times.sort_by(f64::total_cmp);
    let (first, last) = (times[0], times[LISTENERS - 1]);
    let each = memory / 1000.0 / 1024.0;
    Ok(vec![
        Figure {
            what: "memory of 1,000 listeners",
            ours: format!("{:.1} MiB", memory / 1_048_576.0),
            peer: format!("{each:.0} KiB each"),
            ratio: "-".to_owned(),
            goal: "below 64 MiB",
            met: memory < 64.0 * 1_048_576.0,
            json: json!({"row": "feed-memory", "ours": memory, "unit": "B"}),
        },
        Figure {
            what: "success to the last of them",
            ours: format!("{:.0} ms", last * 1e3),
            peer: format!("first {:.0} ms", first * 1e3),
            ratio: "-".to_owned(),
            goal: "below 2 s",
            met: last < 2.0,
            json: json!({"row": "feed", "ours": last, "first": first, "unit": "s"}),
        },
    ])
}

async fn listen(port: u16, heard: mpsc::Sender<Heard>) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!("GET /feed HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {SECRET}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "event: hello" => drop(heard.send(Heard::Hello).await),
            "event: built" => drop(heard.send(Heard::Built(Instant::now())).await),
            _ => {}
        }
    }
    Ok(())
}
