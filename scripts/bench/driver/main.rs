//! The measuring part of `scripts/bench.sh`: plays gitlab-runner for Windlass and for its peers, in turn, and compares them.
//!
//! It expects a daemon that listens and an image that is there; the script sees to both, and to what remains of them.

mod attempt;
mod call;
mod options;
mod podman;
mod report;
mod rows;

use std::process::ExitCode;

use options::Options;

/// What can go wrong is told to a person, once; nobody branches on it.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("bench: {message}");
            return ExitCode::from(64);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let mut figures = Vec::new();
    for &row in &options.rows {
        eprintln!("Measuring {}: a warm-up, then {} rounds", row.name(), row.rounds(options.rounds));
        let figure = rows::measure(row, options).map_err(|message| format!("row {}: {message}", row.name()))?;
        if options.json {
            // As soon as it is known: a long run that is interrupted keeps what it has.
            println!("{}", report::json(&figure));
        }
        figures.push(figure);
    }
    if !options.json {
        print!("{}", report::table(&figures));
    }
    Ok(())
}
