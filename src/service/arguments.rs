//! The command line of `windlassd`.

use std::path::PathBuf;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::config;

/// Runs GitLab CI jobs in podman containers, and keeps chains of images rebuilt in order.
///
/// Started by systemd, or by hand for a look. gitlab-runner's custom executor reaches it through windlass-config,
/// windlass-prepare, windlass-run and windlass-cleanup. SIGTERM ends it; running jobs go on and are taken up again by the next start. SIGHUP has it
/// read its configuration again.
#[derive(Debug, Parser)]
#[command(name = "windlassd", version)]
pub struct Arguments {
    /// The configuration; `windlass check` explains it
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_FILE)]
    pub config: PathBuf,
    /// What to log, for example "debug" or "windlass::executor=debug"
    #[arg(long, value_name = "FILTER", default_value = "info", env = "WINDLASS_LOG")]
    pub log: EnvFilter,
}
