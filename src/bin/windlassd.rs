//! The daemon; see `windlass::service`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use windlass::config;
use windlass::service::{Service, journal};

/// Runs GitLab CI jobs in podman containers.
///
/// Started by systemd, or by hand for a look. gitlab-runner's custom executor reaches it through windlass-config,
/// windlass-prepare, windlass-run and windlass-cleanup. SIGTERM ends it; running jobs go on and are taken up again by the next start. SIGHUP has it
/// read its configuration again.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration; `windlass check` explains it
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    config: PathBuf,
    /// What to log, for example "debug" or "windlass::executor=debug"
    #[arg(long, value_name = "FILTER", default_value = "info", env = "WINDLASS_LOG")]
    log: EnvFilter,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    journal::start(arguments.log);
    let settings = match config::load(&arguments.config) {
        Ok(settings) => settings,
        Err(errors) => {
            eprintln!("{errors}");
            return config::EXIT_CODE.into();
        }
    };
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(async { Service::build(&arguments.config, settings).await?.run().await }));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlassd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
