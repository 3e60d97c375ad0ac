//! Watching over leases: gitlab-runner that dies never calls cleanup, and a job outlives its timeout only by mistake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;
use tracing::Instrument;

use super::past::Cause;
use super::record::{State, boot_time};
use super::{Executor, Lease};
use crate::protocol::daemon::ProcessId;
use crate::sys::process;

/// How often the runner's process is looked for on kernels without pidfds (before 5.3).
const LOOK: Duration = Duration::from_secs(2);
/// Between two looks for a job's temporary directory, and how many have to miss it.
const LOOK_FOR_DIRECTORY: Duration = Duration::from_secs(30);
const LOOKS: u32 = 4;

impl Executor {
    /// Ends a lease when its runner dies or its time is over.
    pub(super) fn watch(self: &Arc<Self>, lease: &Arc<Lease>) {
        let (executor, lease) = (Arc::clone(self), Arc::clone(lease));
        let span = lease.span.clone();
        let watching = async move {
            let record = lease.record();
            let left = Duration::from_secs(record.deadline.saturating_sub(boot_time()));
            tokio::select! {
                () = lease.ended.cancelled() => {}
                () = executor.shutdown.cancelled() => {}
                // Nobody's but the administrator's from now on.
                () = lease.kept.cancelled() => {}
                () = end_of(record.runner) => {
                    let pid = record.runner.pid;
                    let reason = format!("gitlab-runner (process {pid}) has ended; if config_exec is a script of yours, let it `exec` windlass-config");
                    executor.end_by(&lease, Cause::RunnerGone, &reason);
                    executor.sweep_soon();
                }
                () = abandoned(&lease) => {
                    executor.end(&lease, "gitlab-runner has removed the job's temporary directory: its cleanup did not get through");
                }
                () = tokio::time::sleep(left) => {
                    executor.end_by(&lease, Cause::TimeOver, "the job's timeout is over and nobody has cleaned up");
                    executor.sweep_soon();
                }
            }
        };
        self.tasks.spawn(watching.instrument(span));
    }
}

/// Waits until a job's temporary directory has been gone for a while and no stage ran in that time. gitlab-runner removes it after cleanup,
/// also when cleanup failed because the daemon was away for too long.
async fn abandoned(lease: &Lease) {
    let mut missed = 0;
    while missed < LOOKS {
        tokio::time::sleep(LOOK_FOR_DIRECTORY).await;
        let record = lease.record();
        let idle = record.stage.is_none() && record.state != State::Preparing;
        let gone = record.directory.is_some_and(|path| matches!(path.try_exists(), Ok(false)));
        missed = if idle && gone { missed + 1 } else { 0 };
    }
}

/// Waits for the end of a process.
async fn end_of(runner: ProcessId) {
    let pid = Pid::from_raw(runner.pid);
    // Whoever has the number now is another one if it started at another time.
    let is_it = || runner.start == 0 || process::start_time(pid).is_none_or(|start| start == runner.start);
    let pidfd = process::pidfd(pid);
    if !is_it() {
        return;
    }
    match pidfd {
        Ok(fd) => {
            if let Err(error) = process::ended(fd).await {
                tracing::warn!(%pid, "cannot wait for gitlab-runner's end, looking for it instead: {error}");
                poll(pid, is_it).await;
            }
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
        Err(error) => {
            if error.kind() != io::ErrorKind::Unsupported && error.raw_os_error() != Some(nix::libc::ENOSYS) {
                tracing::warn!(%pid, "cannot watch gitlab-runner, looking for it instead: {error}");
            }
            poll(pid, is_it).await;
        }
    }
}

async fn poll(pid: Pid, is_it: impl Fn() -> bool) {
    while nix::sys::signal::kill(pid, None) != Err(nix::errno::Errno::ESRCH) && is_it() {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_seen() {
        let mut child = tokio::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        let pid = i32::try_from(child.id().expect("pid")).expect("pid");
        let start = process::start_time(Pid::from_raw(pid)).expect("start");
        let mut end = Box::pin(end_of(ProcessId { pid, start }));
        tokio::select! { biased; () = &mut end => panic!("it lives"), () = tokio::task::yield_now() => {} }
        child.kill().await.expect("kill");
        tokio::time::timeout(Duration::from_secs(10), end).await.expect("seen");
    }

    #[tokio::test]
    async fn another_process_with_the_same_number_is_not_it() {
        let pid = i32::try_from(std::process::id()).expect("pid");
        tokio::time::timeout(Duration::from_secs(10), end_of(ProcessId { pid, start: 1 })).await.expect("not it");
    }
}
