//! `windlass-cleanup`: tells the daemon that the job is over. Called for every attempt, also when config failed.

use super::arguments::Call;
use super::link::Attached;
use super::{Codes, Failure, inputs, link, missed, prepare};
use crate::protocol::daemon::Request;
use crate::protocol::frame::Kind;

/// Runs it. Its stderr is the runner's own log, which nobody masks: errors name no variable of the job.
pub fn run(call: &Call, codes: Codes) -> Result<(), Failure> {
    link::exit_on_signals(codes.system)?;
    let lease = prepare::lease().ok();
    // Config may have been ended after it got a lease and before gitlab-runner learned of it: the daemon finds it by the job.
    let frames = if lease.is_none() { vec![(Kind::JobResponse, inputs::job_response()?)] } else { Vec::new() };
    let request = Request::Cleanup { lease, runner: link::runner(), missed: missed::take() };
    link::call(call, &request, &Attached { frames, fd: None }, &mut |line| eprintln!("{line}")).map(drop)
}
