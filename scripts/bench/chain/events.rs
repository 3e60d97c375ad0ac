//! Webhook events: how many a second are on the disk and answered, and how long the slowest took.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::daemon::{Daemon, SECRET};
use super::{Figure, Result};

/// Events that are sent.
const EVENTS: usize = 20_000;
/// Senders at once, each with a connection of its own.
const SENDERS: usize = 64;

pub async fn measure(daemon: &Daemon, ids: &[u64]) -> Result<Figure> {
    let url = format!("http://127.0.0.1:{}/hooks/gitlab", daemon.port);
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    let (next, ids) = (Arc::new(AtomicUsize::new(0)), Arc::new(ids.to_vec()));
    let began = Instant::now();
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (url, client, next, ids) = (url.clone(), client.clone(), Arc::clone(&next), Arc::clone(&ids));
            tokio::spawn(async move {
                let mut times: Vec<Duration> = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= EVENTS {
                        return Ok::<_, String>(times);
                    }
                    // Of a branch that nobody tracks: what is measured is the way to the disk, and not what is made of it.
                    let body = json!({
                        "object_kind": "pipeline",
                        "object_attributes": {"id": 1_000_000 + number, "ref": "feature", "tag": false, "source": "push", "status": "success"},
                        "merge_request": null,
                        "project": {"id": ids[number % ids.len()], "path_with_namespace": "images/x"},
                    });
                    let began = Instant::now();
                    let request = client.post(&url).header("X-Gitlab-Token", SECRET).header("Idempotency-Key", number.to_string());
                    let answer = request.json(&body).send().await.map_err(|error| error.to_string())?;
                    if !answer.status().is_success() {
                        return Err(format!("an event was answered {}", answer.status()));
                    }
                    times.push(began.elapsed());
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for sender in senders {
        times.extend(sender.await.map_err(|error| error.to_string())??);
    }
    let rate = f64::from(u32::try_from(times.len()).unwrap_or(0)) / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let slow = times[times.len() * 99 / 100].as_secs_f64();
    Ok(Figure {
        what: "events a second, on the disk",
        ours: format!("{rate:.0}"),
        peer: format!("p99 {:.0} ms", slow * 1e3),
        ratio: "-".to_owned(),
        goal: "1,000 and more",
        met: rate >= 1000.0,
        json: json!({"row": "events", "ours": rate, "p99": slow, "unit": "1/s"}),
    })
}
