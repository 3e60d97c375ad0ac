//! Measures the image chain for `scripts/bench.sh`: a look at a thousand projects beside the same by REST, events that are stored, and
//! the daemon's memory, hosts that listen to the feed, and how often registries are asked. GitLab is the tests' fake one; it answers on the same machine.

mod daemon;
mod events;
mod feed;
#[allow(dead_code, reason = "a part of it is used")]
#[allow(clippy::unwrap_used, reason = "a measurement that cannot go on has failed")]
mod support;
mod sync;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};

use daemon::Daemon;
use support::gitlab::FakeGitlab;

/// What can go wrong is told to a person, once; nobody branches on it.
type Result<T> = std::result::Result<T, String>;

/// Projects of the chain.
const PROJECTS: usize = 1000;

/// Measures the image chain
#[derive(Parser)]
struct Arguments {
    /// The directory of windlassd and windlass
    #[arg(long)]
    programs: PathBuf,
    /// A configuration whose podman works
    #[arg(long)]
    config: PathBuf,
    /// Where the daemon's directories are made
    #[arg(long)]
    work: PathBuf,
    /// How often everything is looked at
    #[arg(long)]
    rounds: usize,
    /// One JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

/// A figure: what, ours, the peer's, and the goal in words.
struct Figure {
    what: &'static str,
    ours: String,
    peer: String,
    ratio: String,
    goal: &'static str,
    met: bool,
    json: Value,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let measured = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(measure(&arguments)));
    match measured {
        Ok(figures) => {
            print(&figures, arguments.json);
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<Vec<Figure>> {
    eprintln!("Measuring the chain: {PROJECTS} projects");
    let gitlab = FakeGitlab::start();
    let ids = sync::make_projects(&gitlab);
    let daemon = Daemon::start(arguments, &gitlab)?;
    let mut figures = sync::measure(arguments.rounds, &gitlab, &daemon, &ids).await?;
    figures.push(events::measure(&daemon, &ids).await?);
    let memory = daemon.memory()?;
    figures.push(Figure {
        what: "memory of the daemon",
        ours: format!("{:.1} MiB", memory / 1_048_576.0),
        peer: "-".to_owned(),
        ratio: "-".to_owned(),
        goal: "below 30 MiB",
        met: memory < 30.0 * 1_048_576.0,
        json: json!({"row": "memory", "ours": memory, "unit": "B"}),
    });
    figures.extend(feed::measure(&gitlab, &daemon, &ids).await?);
    daemon.end();
    figures.push(watch::measure(arguments).await?);
    Ok(figures)
}

fn print(figures: &[Figure], json: bool) {
    if json {
        figures.iter().for_each(|figure| println!("{}", figure.json));
        return;
    }
    println!("{:<34} {:>14} {:>14} {:>10}  {:<24} met", "chain", "ours", "peer", "peer/ours", "goal");
    for figure in figures {
        let Figure { what, ours, peer, ratio, goal, met, .. } = figure;
        println!("{what:<34} {ours:>14} {peer:>14} {ratio:>10}  {goal:<24} {}", if *met { "yes" } else { "no" });
    }
}
