//! The command line of `windlass`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use super::{cache, chain, check, doctor, drain, hold, import, jobs, shell, status, try_job, update};

/// Looks after windlassd, which runs GitLab CI jobs in podman containers.
#[derive(Debug, Parser)]
#[command(name = "windlass", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks a configuration: prints all that is wrong with it (exit code 78), or the settings in effect
    #[command(after_help = "Examples:\n  windlass check\n  windlass check ./windlass.toml")]
    Check {
        /// The configuration
        #[arg(value_name = "FILE", default_value = crate::config::DEFAULT_FILE)]
        file: PathBuf,
    },
    Cache(cache::CacheArgs),
    Chain(chain::ChainArgs),
    Doctor(doctor::DoctorArgs),
    Drain(drain::DrainArgs),
    Hold(hold::HoldArgs),
    Images(cache::ImagesArgs),
    Import(import::ImportArgs),
    Jobs(jobs::JobsArgs),
    Release(hold::ReleaseArgs),
    Shell(shell::ShellArgs),
    Status(status::StatusArgs),
    Try(try_job::TryArgs),
    Undrain(drain::UndrainArgs),
    Update(update::UpdateArgs),
}

impl Arguments {
    /// Does what they say; returns the exit code.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn run(&self) -> Result<u8> {
        match &self.command {
            Command::Check { file } => check::run(file, &mut std::io::stdout().lock()).map_err(Into::into),
            Command::Cache(arguments) => cache::run(arguments),
            Command::Chain(arguments) => chain::run(arguments),
            Command::Doctor(arguments) => doctor::run(arguments),
            Command::Drain(arguments) => drain::run(arguments),
            Command::Hold(arguments) => hold::run(arguments),
            Command::Images(arguments) => cache::run_images(arguments),
            Command::Import(arguments) => import::run(arguments),
            Command::Jobs(arguments) => jobs::run(arguments),
            Command::Release(arguments) => hold::release(arguments),
            Command::Shell(arguments) => shell::run(arguments),
            Command::Status(arguments) => status::run(arguments),
            Command::Try(arguments) => try_job::run(arguments),
            Command::Undrain(arguments) => drain::undo(arguments),
            Command::Update(arguments) => update::run(arguments),
        }
    }
}
