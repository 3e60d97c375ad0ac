//! `windlass-init become`: a service's program, with variables that podman is not to know.
//!
//! podman shows every variable that it gives to a container, those from its secrets too (4.3). So they come through a pipe, and this
//! program becomes the service's own: process 1 is what the image says.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::LISTENER;
use crate::protocol::frame::VARIABLES_MAX;
use crate::sys::fds;

/// Reads the variables (a JSON list of names and values) from descriptor 3 and becomes the program.
pub fn run(line: &[String]) -> Result<()> {
    let Some((program, arguments)) = line.split_first() else { bail!("the image has neither ENTRYPOINT nor CMD") };
    let pipe = fds::inherited(LISTENER).context("take the pipe with the variables")?;
    let mut bytes = Vec::new();
    std::fs::File::from(pipe).take(VARIABLES_MAX as u64).read_to_end(&mut bytes).context("read the variables")?;
    let variables: Vec<(String, String)> = serde_json::from_slice(&bytes).context("understand the variables")?;
    let error = Command::new(program).args(arguments).envs(variables).exec();
    Err(error).with_context(|| format!("start {program}"))
}
