//! What ends the service: a signal, or a part of it that has ended.

use anyhow::{Context, Result};
use futures_util::{Stream, StreamExt};
use signal_hook::consts::SIGHUP;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::loops::Loops;

/// Waits for the end. Well is one that a signal asked for; a request to read the configuration again (SIGHUP) is handed on, and waited for by nobody here.
///
/// # Errors
/// That of the part that has ended first.
pub async fn wait(
    mut signals: impl Stream<Item = i32> + Unpin,
    hangups: &Notify,
    accept: &mut JoinHandle<Result<()>>,
    loops: &Loops,
) -> Result<()> {
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Some(SIGHUP) => hangups.notify_one(),
                _ => return Ok(()),
            },
            result = &mut *accept => return result.context("the socket's task")?,
            error = loops.failed() => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::stream;
    use signal_hook::consts::SIGTERM;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;

    fn loops() -> Loops {
        Loops::new(TaskTracker::new(), CancellationToken::new())
    }

    #[tokio::test]
    async fn a_loop_that_breaks_is_the_end_and_an_error() {
        let (loops, mut accept) = (loops(), tokio::spawn(std::future::pending()));
        loops.spawn("goes-on", None, std::future::pending());
        let hangups = Notify::new();
        let ended = wait(stream::pending(), &hangups, &mut accept, &loops);
        let mut ended = std::pin::pin!(ended);
        assert!(ended.as_mut().now_or_never().is_none());
        loops.spawn("chain-work", None, async { panic!("it broke") });
        let error = ended.await.expect_err("an error").to_string();
        assert!(error.contains("chain-work") && error.contains("it broke"), "{error}");
    }

    #[tokio::test]
    async fn a_signal_is_the_end_whatever_comes_of_a_reload() {
        let (loops, mut accept, hangups) = (loops(), tokio::spawn(std::future::pending()), Notify::new());
        wait(stream::iter([SIGHUP, SIGTERM]), &hangups, &mut accept, &loops).await.expect("it was asked for");
        hangups.notified().now_or_never().expect("the reload was handed on");
    }
}
