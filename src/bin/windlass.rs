//! The administrator's command; see `windlass::cli`.

use std::process::ExitCode;

use clap::Parser;
use windlass::cli::Arguments;

/// Exit code for a command line that can't be understood (sysexits.h).
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout and is no error. A tried job's own exit code could be clap's 2.
            let _ = error.print();
            return if error.use_stderr() { EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match arguments.run() {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("windlass: {error:#}");
            ExitCode::FAILURE
        }
    }
}
