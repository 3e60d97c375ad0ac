//! Two hundred images from elsewhere: what a day of looking them up asks of their registry. Counted at a short interval, and told for the default.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::daemon::Daemon;
use super::support::gitlab::FakeGitlab;
use super::support::http::{Response, Server};
use super::{Arguments, Figure, Result};

/// Images.
const IMAGES: usize = 200;
/// How often each is looked up here, in seconds.
const EVERY: f64 = 10.0;
/// How often by default, each day ([chain.watch] every = "6h").
const LOOKS_A_DAY: f64 = 4.0;

pub async fn measure(arguments: &Arguments) -> Result<Figure> {
    let seen: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let noted = Arc::clone(&seen);
    let registry = Server::start(move |request| {
        if let Ok(mut seen) = noted.lock() {
            seen.push((request.method.clone(), request.path.clone()));
        }
        Response::empty(200)
            .with("Docker-Content-Digest", format!("sha256:{}", "0".repeat(64)))
            .with("Content-Type", "application/vnd.oci.image.manifest.v1+json")
    });
    let gitlab = FakeGitlab::start();
    let project = |at: usize| {
        let from = format!("FROM 127.0.0.1:{}/base/{at}:stable\n", registry.port);
        json!({"path": format!("images/p{at}"), "files": {"Containerfile": from}})
    };
    gitlab.projects(&json!((0..IMAGES).map(project).collect::<Vec<_>>()));
    let conf = arguments.work.join("watch-registries.conf");
    std::fs::write(&conf, format!("[[registry]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n", registry.port))
        .map_err(|error| format!("write {}: {error}", conf.display()))?;
    let watch = format!("every = '{EVERY}s'\n[podman.environment]\nCONTAINERS_REGISTRIES_CONF = '{}'", conf.display());
    let daemon = Daemon::start_with(arguments, &gitlab, "watch", &watch)?;
    let requests = || seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    let began = Instant::now();
    // Each twice at least: the first looks are not spread yet.
    while requests().len() < 2 * IMAGES {
        if began.elapsed() > Duration::from_secs(120) {
            return Err(format!("{} requests for {IMAGES} images after two minutes", requests().len()));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (before, since) = (requests().len(), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(3.0 * EVERY)).await;
    let all = requests();
    let rate = f64::from(u32::try_from(all.len() - before).unwrap_or(0)) * EVERY / since.elapsed().as_secs_f64();
    daemon.end();
    let images: BTreeSet<&String> = all.iter().map(|(_, path)| path).collect();
    let others = all.iter().filter(|(method, _)| method != "HEAD").count();
    if images.len() != IMAGES || others > 0 {
        return Err(format!("{} images were asked for, {others} requests were no HEAD", images.len()));
    }
    let day = rate * LOOKS_A_DAY;
    Ok(Figure {
        what: "requests a day for 200 images",
        ours: format!("{day:.0} HEAD"),
        peer: "-".to_owned(),
        ratio: "-".to_owned(),
        goal: "below 1,000, and no pull",
        met: day < 1000.0,
        json: json!({"row": "watch", "ours": day, "unit": "1/d"}),
    })
}
