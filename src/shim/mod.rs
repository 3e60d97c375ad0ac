//! What the four shims do that gitlab-runner starts, about twelve times in a job.
//!
//! They are small programs without an async runtime: read what gitlab-runner says, ask the daemon, exit with the code that
//! gitlab-runner expects. Facts: docs/executors/custom.md and executors/custom of GitLab Runner.

mod arguments;
mod cleanup;
mod config;
mod exit;
mod inputs;
mod link;
mod missed;
mod prepare;
mod run;
mod script;
mod stage_loop;
mod words;

use std::fmt::Display;
use std::process::ExitCode;

pub use exit::Codes;

/// Which shim this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shim {
    /// `config_exec`
    Config,
    /// `prepare_exec`
    Prepare,
    /// `run_exec`
    Run,
    /// `cleanup_exec`
    Cleanup,
}

impl Shim {
    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "windlass-config",
            Self::Prepare => "windlass-prepare",
            Self::Run => "windlass-run",
            Self::Cleanup => "windlass-cleanup",
        }
    }
}

/// How a shim ends when not well.
#[derive(Debug)]
pub enum Failure {
    /// The job's own failure; with the exit code that GitLab is to show.
    Job {
        /// For the job log; empty when the job said enough itself.
        message: String,
        /// The job's exit code, 1 to 255.
        code: u8,
    },
    /// Anything else.
    System(String),
}

impl Failure {
    fn system(what: &str, error: impl Display) -> Self {
        Self::System(format!("{what}: {error}"))
    }
}

/// Runs a shim and turns every end that it can come to into the exit code that gitlab-runner expects.
#[must_use]
pub fn main(shim: Shim) -> ExitCode {
    let codes = Codes::from_environment();
    // A panic's own exit code, 101, would be one that gitlab-runner does not know.
    std::panic::set_hook(Box::new(move |info| {
        eprintln!("{}: internal error, please report it: {info}", shim.name());
        std::process::exit(codes.system.into());
    }));
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(text) = arguments::help(shim, &arguments) {
        println!("{text}");
        return ExitCode::SUCCESS;
    }
    let result = arguments::parse(shim, &arguments).and_then(|call| {
        exit::forget_exit_code();
        match shim {
            Shim::Config => config::run(&call, codes),
            Shim::Prepare => prepare::run(&call, codes),
            Shim::Run => run::run(&call),
            Shim::Cleanup => cleanup::run(&call, codes),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Job { message, code }) => {
            if !message.is_empty() {
                eprintln!("{message}");
            }
            exit::note_exit_code(code);
            codes.build.into()
        }
        Err(Failure::System(message)) => {
            eprintln!("{}: {message}", shim.name());
            codes.system.into()
        }
    }
}
