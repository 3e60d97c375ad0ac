//! CI_DEBUG_SERVICES: what a job's services say, in its log, while its stages run. A service is as fast as its job wants it, and so
//! may be the one that writes: what the job log does not take yet waits in podman, and a line has a longest length.

use std::sync::{Arc, PoisonError};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::{Executor, Lease};

/// Lines that wait for the job log; whoever has more waits too.
const LINES_MAX: usize = 64;
/// Longest line that is passed on, in bytes; of a longer one the rest is left out, and said to be.
const LINE_MAX: usize = 4096;

/// The services' words from now on; dropping it ends that.
#[derive(Debug)]
pub struct ServiceLogs {
    lines: Receiver<String>,
    _readers: JoinSet<()>,
}

impl ServiceLogs {
    /// The next line, with its service's name; none when nobody is left who says anything.
    pub async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }

    /// Those that are there already.
    pub fn rest(&mut self) -> Vec<String> {
        // Not more: a service may go on writing.
        std::iter::from_fn(|| self.lines.try_recv().ok()).take(LINES_MAX).collect()
    }
}

impl Executor {
    /// Follows the services of a job that wants that; starts where the stage before this one ended.
    pub fn service_logs(&self, lease: &Arc<Lease>) -> ServiceLogs {
        let record = lease.record();
        let (sender, lines) = channel(LINES_MAX);
        let mut readers = JoinSet::new();
        if record.debug_services {
            for service in &record.services {
                let since = lease.log_times.lock().unwrap_or_else(PoisonError::into_inner).get(&service.alias).cloned();
                match self.podman.follow_log(&service.name, since.as_deref()) {
                    Ok(mut child) => {
                        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
                        let to = Destination {
                            lease: Arc::clone(lease),
                            alias: service.alias.clone(),
                            lines: sender.clone(),
                        };
                        readers.spawn(async move {
                            tokio::join!(to.copy(stdout, since.as_deref()), to.copy(stderr, since.as_deref()));
                            drop(child.wait().await);
                        });
                    }
                    Err(error) => tracing::warn!("{error:#}"),
                }
            }
        }
        ServiceLogs { lines, _readers: readers }
    }
}

/// Where a service's lines go.
struct Destination {
    lease: Arc<Lease>,
    alias: String,
    lines: Sender<String>,
}

impl Destination {
    /// Passes lines on, but not again the one with this time.
    async fn copy(&self, stream: Option<impl AsyncRead + Unpin>, seen: Option<&str>) {
        let Some(stream) = stream else { return };
        let mut reader = BufReader::new(stream);
        while let Ok(Some(line)) = next_line(&mut reader).await {
            let (time, text) = line.text.split_once(' ').unwrap_or((line.text.as_str(), ""));
            if seen == Some(time) {
                continue;
            }
            let text: String = text.chars().filter(|character| !character.is_control()).collect();
            let end = if line.cut {
                format!(" [the line is longer than {LINE_MAX} bytes; the rest is left out]")
            } else {
                String::new()
            };
            if self.lines.send(format!("[service {}] {}{end}", self.alias, text)).await.is_err() {
                // The stage is over.
                return;
            }
            let mut times = self.lease.log_times.lock().unwrap_or_else(PoisonError::into_inner);
            times.insert(self.alias.clone(), time.to_owned());
        }
    }
}

/// A line, or the beginning of one.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    text: String,
    cut: bool,
}

/// The next line, of which no more than [`LINE_MAX`] bytes are kept; none at the end.
async fn next_line(reader: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Line>> {
    let (mut kept, mut cut, mut any) = (Vec::new(), false, false);
    loop {
        let there = reader.fill_buf().await?;
        if there.is_empty() {
            break;
        }
        any = true;
        let end = there.iter().position(|byte| *byte == b'\n');
        let part = &there[..end.unwrap_or(there.len())];
        let room = part.len().min(LINE_MAX - kept.len());
        kept.extend_from_slice(&part[..room]);
        cut |= room < part.len();
        let used = end.map_or(there.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(any.then(|| Line { text: String::from_utf8_lossy(&kept).trim_end_matches('\r').to_owned(), cut }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_a_line_without_an_end_the_beginning_is_kept() {
        use tokio::io::AsyncReadExt;
        let endless = tokio::io::repeat(b'x').take(200 << 20);
        let mut reader = BufReader::new(tokio::io::AsyncReadExt::chain(&b"one\r\n\n"[..], endless));
        let mut next = async || next_line(&mut reader).await.expect("read");
        assert_eq!(next().await, Some(Line { text: "one".to_owned(), cut: false }));
        assert_eq!(next().await, Some(Line { text: String::new(), cut: false }));
        assert_eq!(next().await, Some(Line { text: "x".repeat(LINE_MAX), cut: true }));
        assert_eq!(next().await, None);
    }
}
