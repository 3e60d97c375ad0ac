//! The daemon; see `windlass::service`.

use std::process::ExitCode;

use clap::Parser;
use windlass::config;
use windlass::service::{Arguments, Service, THREADS_END, journal};

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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let served = runtime.block_on(async { Service::build(&arguments.config, settings).await?.run().await });
        // To drop it would wait for its threads for ever.
        runtime.shutdown_timeout(THREADS_END);
        served
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlassd: {error:#}");
            ExitCode::FAILURE
        }
    }
}
