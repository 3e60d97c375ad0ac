//! `windlass-config`: leases a slot for the job and tells gitlab-runner where it will run.

use std::io::Write;

use serde_json::json;

use super::arguments::Call;
use super::link::Attached;
use super::{Codes, Failure, inputs, link};
use crate::protocol::daemon::{Configured, Reply, Request};
use crate::protocol::frame::Kind;

/// Runs it; the answer goes to stdout, progress to stderr, which is the job log.
pub fn run(call: &Call, codes: Codes) -> Result<(), Failure> {
    link::exit_on_signals(codes.system)?;
    let response = Attached { frames: vec![(Kind::JobResponse, inputs::job_response()?)], fd: None };
    let request = Request::Config {
        profile: call.profile.clone(),
        runner: link::runner(),
        directory: std::env::var_os("TMPDIR").map(Into::into),
    };
    let (reply, connection) = link::call(call, &request, &response, &mut |line| eprintln!("{line}"))?;
    let Reply::Configured(configured) = reply else {
        return Err(Failure::System(
            "the daemon's answer is not the one that was expected; are both of the same release?".to_owned(),
        ));
    };
    let answer = answer(&configured, call);
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{answer}")
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::system("write the answer for gitlab-runner", error))?;
    // From here on the lease is the runner's to clean up. If this does not arrive, the daemon gives the slot away.
    connection
        .send(&Request::Confirm, &Attached::default())
        .map_err(|error| Failure::system("confirm the lease", error))
}

/// What gitlab-runner reads (executors/custom/api/config.go). A lone line end after the value is part of it.
fn answer(configured: &Configured, call: &Call) -> serde_json::Value {
    json!({
        "builds_dir": configured.builds_dir,
        "cache_dir": configured.cache_dir,
        "builds_dir_is_shared": false,
        "hostname": configured.hostname,
        "driver": {"name": "windlass", "version": configured.version},
        "job_env": {"WINDLASS_LEASE": configured.lease, "WINDLASS_SOCKET": call.socket},
    })
}
