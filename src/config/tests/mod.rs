//! The configuration as a whole, from a file's text to settings or errors and back.

#![allow(clippy::unwrap_used, reason = "a failing test should say where")]

use std::path::Path;

use super::{ConfigErrors, Settings, parse};

mod directory;
mod properties;
mod reports;
mod shipped;
mod values;

pub(super) use shipped::uncommented;

fn settings(text: &str) -> Settings {
    parse(Path::new("w.toml"), text).unwrap_or_else(|errors| panic!("{errors}\n--- of\n{text}"))
}

fn errors(text: &str) -> ConfigErrors {
    match parse(Path::new("w.toml"), text) {
        Ok(settings) => panic!("no errors in {text:?}: {settings:?}"),
        Err(errors) => errors,
    }
}
