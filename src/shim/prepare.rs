//! `windlass-prepare`: has the job's containers made; what happens goes to the job log.

use super::arguments::Call;
use super::link::Attached;
use super::{Codes, Failure, inputs, link};
use crate::protocol::daemon::{Reply, Request};
use crate::protocol::frame::Kind;

/// Runs it.
pub fn run(call: &Call, codes: Codes) -> Result<(), Failure> {
    link::exit_on_signals(codes.system)?;
    let request =
        Request::Prepare { lease: lease()?, profile: call.profile.clone(), caller: link::this_process(), inputs: true };
    let behind = Attached {
        frames: vec![
            (Kind::JobResponse, inputs::job_response()?),
            (Kind::Variables, inputs::encode(&inputs::variables())?),
        ],
        fd: inputs::runner_program(),
    };
    match link::call(call, &request, &behind, &mut |line| println!("{line}"))? {
        (Reply::Done, _) => Ok(()),
        _ => Err(Failure::System(
            "the daemon's answer is not the one that was expected; are both of the same release?".to_owned(),
        )),
    }
}

/// The lease that config got.
pub fn lease() -> Result<String, Failure> {
    std::env::var("WINDLASS_LEASE").ok().filter(|lease| !lease.is_empty()).ok_or_else(|| {
        Failure::System(
            "WINDLASS_LEASE is not set: config_exec in the runner's config.toml has to be windlass-config".to_owned(),
        )
    })
}
