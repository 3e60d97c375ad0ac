//! One podman process, from its start to its end.
//!
//! podman is never killed while it works: killed between the start of a container's conmon and its own next note of it, it
//! forgets the container, and conmon, a runtime process, a network namespace and an address stay for ever. Whoever asked may stop waiting; podman
//! goes on to its end. It is asked to end (SIGTERM, on which it finishes what must not be cut) when its time is over.

use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio_util::sync::CancellationToken;

/// From SIGTERM to SIGKILL: only for a podman that will never end.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is kept of a call's output, in bytes; the rest is thrown away.
const OUTPUT_MAX: u64 = 4 * 1024 * 1024;

/// How a process ended.
#[derive(Debug)]
pub enum End {
    /// By itself; with what it printed on stdout and stderr.
    Exited(ExitStatus, String, String),
    /// It was asked to, since its time was over.
    TimedOut,
    /// It was asked to, since nobody wants its result any more.
    Stopped,
}

/// Waits for a process, within `limit` and until `stop`.
pub async fn supervise(mut child: Child, limit: Duration, stop: CancellationToken) -> std::io::Result<End> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let early = {
        let mut work = std::pin::pin!(async { tokio::join!(child.wait(), read(stdout), read(stderr)) });
        let early = tokio::select! {
            (status, stdout, stderr) = &mut work => return Ok(End::Exited(status?, stdout, stderr)),
            () = tokio::time::sleep(limit) => End::TimedOut,
            () = stop.cancelled() => End::Stopped,
        };
        if let Some(pid) = pid {
            // It may just have ended.
            let _ = kill(pid, Signal::SIGTERM);
        }
        if tokio::time::timeout(PATIENCE, work).await.is_ok() {
            return Ok(early);
        }
        early
    };
    child.kill().await?;
    Ok(early)
}

/// Reads a stream to its end and keeps the beginning.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut text = Vec::new();
    // What was read before an error counts.
    let _ = (&mut stream).take(OUTPUT_MAX).read_to_end(&mut text).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::process::Command;

    use super::*;

    fn start(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sh")
    }

    #[tokio::test]
    async fn its_output_and_status_come_back() {
        let end =
            supervise(start("echo out; echo err >&2; exit 3"), Duration::from_secs(60), CancellationToken::new()).await;
        let Ok(End::Exited(status, stdout, stderr)) = end else { panic!("{end:?}") };
        assert_eq!((status.code(), stdout.as_str(), stderr.as_str()), (Some(3), "out\n", "err\n"));
    }

    #[tokio::test]
    async fn what_must_not_be_cut_is_finished_after_the_request_to_end() {
        let directory = tempfile::tempdir().expect("tempdir");
        let done = directory.path().join("done");
        let ready = directory.path().join("ready");
        let script = format!(
            "trap 'touch {}; exit 0' TERM; touch {}; while :; do sleep 0.01; done",
            done.display(),
            ready.display()
        );
        let stop = CancellationToken::new();
        let child = start(&script);
        let task = tokio::spawn(supervise(child, Duration::from_secs(60), stop.clone()));
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
        assert!(matches!(task.await.expect("task"), Ok(End::Stopped)));
        assert!(done.exists());
    }
}
