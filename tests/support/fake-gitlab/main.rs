//! A GitLab for the tests of the image chain, which misbehaves as GitLab does.
//!
//! It serves the parts of REST (`rest`) and GraphQL (`graphql`) that a chain asks for, runs pipelines (`life`), sends webhooks
//! (`webhooks`), goes wrong where a test wants it to (`faults`, `budget`), and remembers every request (`seen`). A test tells it
//! what to do under `/_control` (`control`).
//!
//! It says on one line of its standard output where it listens, and ends on SIGTERM or when its standard input ends.

mod budget;
mod clock;
mod control;
mod faults;
mod gitlab;
mod graphql;
mod http;
mod life;
mod rest;
mod seen;
mod server;
mod share;
mod state;
mod webhooks;

use std::io::{Read, Write};
use std::process::ExitCode;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use gitlab::Gitlab;

/// A fake GitLab for tests.
///
/// Prints its URL when it listens, on loopback only. Ends on SIGTERM or when its standard input ends. Everything a test can
/// ask of it is described at the head of its control module.
#[derive(Debug, Parser)]
#[command(name = "fake-gitlab")]
struct Options {
    /// Port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Path that comes before all others, as with a GitLab below a relative URL
    #[arg(long, value_name = "PATH", default_value = "")]
    root: String,
    /// Version that it says it has
    #[arg(long, value_name = "VERSION", default_value = "19.4.0")]
    gitlab_version: String,
    /// A token that may do everything
    #[arg(long, value_name = "TOKEN", default_value = "glpat-fake")]
    token: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("fake-gitlab: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", options.port))
        .await
        .map_err(|error| format!("listen on 127.0.0.1:{}: {error}", options.port))?;
    let address = listener.local_addr().map_err(|error| format!("learn the own address: {error}"))?;
    let root = match options.root.trim_matches('/') {
        "" => String::new(),
        root => format!("/{root}"),
    };
    let url = format!("http://{address}{root}");
    let gitlab = Gitlab::new(&url, &root, &options.gitlab_version, &options.token)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|error| format!("wait for SIGTERM: {error}"))?;
    println!("{url}");
    std::io::stdout().flush().map_err(|error| format!("say where it listens: {error}"))?;
    tokio::select! {
        () = server::serve(gitlab, listener) => {}
        _ = terminated.recv() => {}
        () = end_of_input() => {}
    }
    Ok(())
}

/// Returns when nobody holds the other end of standard input any more.
async fn end_of_input() {
    let (ended, end) = oneshot::channel();
    // A thread of its own, which the end of the program does not wait for.
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while matches!(std::io::stdin().read(&mut buffer), Ok(1..)) {}
        let _ = ended.send(());
    });
    let _ = end.await;
}
