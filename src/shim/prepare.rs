//! `windlass-prepare`: has the job's containers made; what happens goes to the job log.

use super::arguments::Call;
use super::{Codes, Failure, link};
use crate::protocol::daemon::{Reply, Request};

/// Runs it.
pub fn run(call: &Call, codes: Codes) -> Result<(), Failure> {
    link::exit_on_signals(codes.system)?;
    let request = Request::Prepare { lease: lease()?, profile: call.profile.clone(), caller: link::this_process() };
    match link::call(call, &request, None, &mut |line| println!("{line}"))? {
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
