//! The administrator's command; see `windlass::cli`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use windlass::cli;

/// Exit code for a command line that can't be understood (sysexits.h).
const EX_USAGE: u8 = 64;

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
    Cache(cli::cache::CacheArgs),
    Chain(cli::chain::ChainArgs),
    Drain(cli::drain::DrainArgs),
    Images(cli::cache::ImagesArgs),
    Import(cli::import::ImportArgs),
    Jobs(cli::jobs::JobsArgs),
    Status(cli::status::StatusArgs),
    Try(cli::try_job::TryArgs),
    Undrain(cli::drain::UndrainArgs),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and is no error. A tried job's own exit code could be clap's 2.
            let _ = error.print();
            return if error.use_stderr() { EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match arguments.command {
        Command::Check { file } => cli::check::run(&file, &mut std::io::stdout().lock()).map_err(Into::into),
        Command::Cache(arguments) => cli::cache::run(&arguments),
        Command::Chain(arguments) => cli::chain::run(&arguments),
        Command::Drain(arguments) => cli::drain::run(&arguments),
        Command::Images(arguments) => cli::cache::run_images(&arguments),
        Command::Import(arguments) => cli::import::run(&arguments),
        Command::Jobs(arguments) => cli::jobs::run(&arguments),
        Command::Status(arguments) => cli::status::run(&arguments),
        Command::Try(arguments) => cli::try_job::run(&arguments),
        Command::Undrain(arguments) => cli::drain::undo(&arguments),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("windlass: {error:#}");
            ExitCode::FAILURE
        }
    }
}
