//! The administrator's command; see `windlass::cli`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use windlass::cli;

/// Looks after windlassd, which runs GitLab CI jobs in podman containers.
#[derive(Parser)]
#[command(name = "windlass", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a configuration: prints all that is wrong with it (exit code 78), or the settings in effect
    #[command(after_help = "Examples:\n  windlass check\n  windlass check ./windlass.toml")]
    Check {
        /// The configuration
        #[arg(value_name = "FILE", default_value = windlass::config::DEFAULT_FILE)]
        file: PathBuf,
    },
    Status(cli::status::StatusArgs),
    Try(cli::try_job::TryArgs),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Check { file } => cli::check::run(&file, &mut std::io::stdout().lock()).map_err(Into::into),
        Command::Status(arguments) => cli::status::run(&arguments),
        Command::Try(arguments) => cli::try_job::run(&arguments),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("windlass: {error:#}");
            ExitCode::FAILURE
        }
    }
}
