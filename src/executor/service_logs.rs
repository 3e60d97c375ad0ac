//! CI_DEBUG_SERVICES: what a job's services say, in its log, while its stages run. What the job log does not take yet waits in a file of
//! a bounded length; of what is too much even for that, the job log has a line that says so.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use super::record::{Record, ServiceContainer};
use super::{Executor, Lease};
use crate::podman::{LINE_MAX, LogFile, Said};

/// Between two looks at whether a service has said something.
const LOOK: Duration = Duration::from_millis(100);

/// The log of one service.
#[derive(Debug)]
pub struct Follower {
    alias: String,
    log: LogFile,
    /// Why nothing is to be heard of it, until that was said.
    notice: Option<&'static str>,
    /// Whether it is known that the log can't be read.
    is_broken: bool,
}

/// An older release left the logs of services to podman.
const OF_AN_OLDER_RELEASE: &str = "what it says is not shown: the job began before windlassd was upgraded";
const UNREADABLE: &str = "what it says can't be read; the journal of windlassd says why";

/// The services' words from where the stage before this one ended.
#[derive(Debug)]
pub struct ServiceLogs {
    lease: Arc<Lease>,
    /// Whose turn it is.
    turn: usize,
    /// Whose line was taken last.
    last: usize,
}

impl ServiceLogs {
    /// The next line, with its service's name. Cancelling this loses nothing.
    pub async fn next(&mut self) -> String {
        if self.followers(|followers| followers.is_empty()) {
            // The job wants to hear none.
            return std::future::pending().await;
        }
        loop {
            if let Some(line) = self.try_next() {
                return line;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Notes that the line that was taken last has not reached the job log.
    pub fn miss(&mut self) {
        let last = self.last;
        self.followers(|followers| followers.get_mut(last).into_iter().for_each(|follower| follower.log.miss()));
    }

    fn followers<T>(&self, work: impl FnOnce(&mut [Follower]) -> T) -> T {
        work(self.lease.followers.lock().unwrap_or_else(PoisonError::into_inner).as_deref_mut().unwrap_or_default())
    }

    /// One that is there already; one service after the other, so that one that never stops is not all there is to be heard.
    pub fn try_next(&mut self) -> Option<String> {
        let turn = self.turn;
        let (index, line) = self.followers(|followers| {
            let order = (0..followers.len()).map(|index| (turn + index) % followers.len()).collect::<Vec<_>>();
            order.into_iter().find_map(|index| Some((index, followers[index].next()?)))
        })?;
        (self.turn, self.last) = (index + 1, index);
        Some(line)
    }
}

impl Follower {
    fn next(&mut self) -> Option<String> {
        if let Some(notice) = self.notice.take() {
            return Some(format!("[service {}] [{notice}]", self.alias));
        }
        let said = match self.log.read() {
            Ok(said) => said?,
            Err(error) if !self.is_broken => {
                tracing::warn!("the log of a service can't be read: {}: {error}", self.log.path().display());
                self.is_broken = true;
                return Some(format!("[service {}] [{UNREADABLE}]", self.alias));
            }
            Err(_) => return None,
        };
        self.is_broken = false;
        Some(match said {
            Said::Line { text, cut } => {
                let text: String = text.chars().filter(|character| !character.is_control()).collect();
                let end = if cut {
                    format!(" [the line is longer than {LINE_MAX} bytes; the rest is left out]")
                } else {
                    String::new()
                };
                format!("[service {}] {text}{end}", self.alias)
            }
            Said::Missed => format!(
                "[service {}] [lines are left out here: it says more than the job log takes, or windlassd was restarted]",
                self.alias
            ),
        })
    }
}

impl Executor {
    /// Where the logs of a lease's services are, when its job wants to have them.
    fn service_log_dir(&self, record: &Record) -> PathBuf {
        self.service_log_dirs().join(record.id.short())
    }

    /// Where those of all leases are.
    pub(super) fn service_log_dirs(&self) -> PathBuf {
        self.settings().state_dir.join("service-logs")
    }

    /// The file for a service's log; none where podman is to keep it at its own place.
    pub(super) fn service_log(&self, record: &Record, container: &str) -> Option<PathBuf> {
        record.debug_services.then(|| self.service_log_dir(record).join(format!("{container}.log")))
    }

    /// Makes ready for services that are about to be started.
    pub(super) fn follow_services(&self, lease: &Lease, record: &Record) -> Result<()> {
        if record.debug_services {
            super::make_directory(&self.service_log_dirs(), 0o700)?;
            super::make_directory(&self.service_log_dir(record), 0o700)?;
            let mut followers = Vec::new();
            for (alias, path) in self.logs_of(record) {
                let log =
                    LogFile::create(path).with_context(|| format!("make a file for the log of service {alias}"))?;
                followers.push(Follower { alias, log, notice: None, is_broken: false });
            }
            *lease.followers.lock().unwrap_or_else(PoisonError::into_inner) = Some(followers);
        }
        Ok(())
    }

    /// The services of a job that wants to hear them, with their logs.
    fn logs_of(&self, record: &Record) -> Vec<(String, PathBuf)> {
        let log = |service: &ServiceContainer| Some((service.alias.clone(), self.service_log(record, &service.name)?));
        record.services.iter().filter_map(log).collect()
    }

    /// Follows the services of a job that wants that.
    pub fn service_logs(&self, lease: &Arc<Lease>) -> ServiceLogs {
        let record = lease.record();
        let mut followers = lease.followers.lock().unwrap_or_else(PoisonError::into_inner);
        // Another daemon has read them before this one.
        followers.get_or_insert_with(|| {
            let logs = self.logs_of(&record).into_iter();
            let follow = |(alias, path): (String, PathBuf)| match path.try_exists() {
                // It is made before its service is.
                Ok(false) => {
                    Follower { alias, log: LogFile::absent(path), notice: Some(OF_AN_OLDER_RELEASE), is_broken: false }
                }
                _ => Follower { alias, log: LogFile::from_now_on(path), notice: None, is_broken: false },
            };
            logs.map(follow).collect()
        });
        drop(followers);
        ServiceLogs { lease: Arc::clone(lease), turn: 0, last: 0 }
    }

    /// Removes the logs of a lease whose services are gone.
    pub(super) fn remove_service_logs(&self, record: &Record) -> Result<()> {
        if record.debug_services {
            self.lanes.throw_away(&self.service_log_dir(record))?;
            self.housekeeping.trash.notify_one();
        }
        Ok(())
    }
}
