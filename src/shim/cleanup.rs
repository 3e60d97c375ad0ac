//! `windlass-cleanup`: tells the daemon that the job is over. Called for every attempt, also when config failed.

use super::arguments::Call;
use super::{Codes, Failure, link, prepare};
use crate::protocol::daemon::Request;

/// Runs it. Its stderr is the runner's own log, which nobody masks: errors name no variable of the job.
pub fn run(call: &Call, codes: Codes) -> Result<(), Failure> {
    link::exit_on_signals(codes.system)?;
    let lease = prepare::lease().ok();
    // Config may have been ended after it got a lease and before gitlab-runner learned of it: the daemon finds it by the job.
    let response = if lease.is_none() { Some(link::job_response()?) } else { None };
    let request = Request::Cleanup { lease, runner: link::runner() };
    link::call(call, &request, response.as_deref(), &mut |line| eprintln!("{line}")).map(drop)
}
