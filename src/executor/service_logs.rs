//! CI_DEBUG_SERVICES: what a job's services say, in its log, while its stages run.

use std::sync::{Arc, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::containers::printable;
use super::{Executor, Lease};

/// The services' words from now on; dropping it ends that.
#[derive(Debug)]
pub struct ServiceLogs {
    /// Lines, each with its service's name.
    pub lines: UnboundedReceiver<String>,
    _readers: JoinSet<()>,
}

impl Executor {
    /// Follows the services of a job that wants that; starts where the stage before this one ended.
    pub fn service_logs(&self, lease: &Arc<Lease>) -> ServiceLogs {
        let record = lease.record();
        let (sender, lines) = unbounded_channel();
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
    lines: UnboundedSender<String>,
}

impl Destination {
    /// Passes lines on, but not again the one with this time.
    async fn copy(&self, stream: Option<impl AsyncRead + Unpin>, seen: Option<&str>) {
        let Some(stream) = stream else { return };
        let mut reader = BufReader::new(stream).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            let (time, text) = line.split_once(' ').unwrap_or((line.as_str(), ""));
            if seen == Some(time) {
                continue;
            }
            let mut times = self.lease.log_times.lock().unwrap_or_else(PoisonError::into_inner);
            times.insert(self.alias.clone(), time.to_owned());
            // Nobody reads on when the stage is over.
            let _ = self.lines.send(format!("[service {}] {}", self.alias, printable(text)));
        }
    }
}
