//! Removing what carries this daemon's labels and belongs to no lease: what crashes leave behind. Nothing else is ever touched.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Executor;
use crate::loops;
use crate::podman::Found;

/// How often.
const EVERY: Duration = Duration::from_secs(60);

impl Executor {
    /// Sweeps until the daemon ends.
    pub async fn sweep_forever(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = loops::rest(tokio::time::sleep(EVERY)) => {}
            }
            self.sweep().await;
        }
    }

    /// Sweeps in the background.
    pub(super) fn sweep_soon(self: &Arc<Self>) {
        let executor = Arc::clone(self);
        self.tasks.spawn(async move {
            executor.sweep().await;
            executor.swept.cancel();
            executor.measure_the_rest();
        });
    }

    /// Sweeps once.
    pub async fn sweep(&self) {
        for error in self.remove_leftovers(None).await {
            tracing::warn!("sweep: {error}");
        }
    }

    /// Removes containers, networks and volumes of ours that no lease uses: all of them, or those of one lease that ends.
    pub(super) async fn remove_leftovers(&self, only: Option<&str>) -> Vec<String> {
        let label = self.label();
        let mut errors = Vec::new();
        match self.podman.containers(&label).await {
            Ok(found) => {
                for name in self.unused(found, only, true) {
                    tracing::info!(container = name, "removing a container that no lease uses");
                    errors.extend(self.podman.remove_container(&name).await.err().map(|error| error.to_string()));
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
        match self.podman.networks(&label).await {
            Ok(found) => {
                for name in self.unused(found, only, false) {
                    errors.extend(self.podman.remove_network(&name).await.err().map(|error| error.to_string()));
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
        match self.podman.volumes(&label).await {
            Ok(found) => {
                for name in self.unused(found, only, false) {
                    errors.extend(self.podman.remove_volume(&name).await.err().map(|error| error.to_string()));
                }
            }
            Err(error) => errors.push(error.to_string()),
        }
        if only.is_none() {
            for directories in [self.work_dirs(), self.service_log_dirs()] {
                errors.extend(self.remove_directories(&directories));
            }
        }
        errors
    }

    /// Removes those of these directories that are of leases that are gone.
    fn remove_directories(&self, below: &Path) -> Vec<String> {
        // Looked at before the leases are: a directory is made for a lease that is on record.
        let Ok(entries) = std::fs::read_dir(below) else { return Vec::new() };
        let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let mut errors = Vec::new();
        for name in names {
            let is_ours = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if is_ours && self.by_short_id(&name).is_none() {
                tracing::info!(directory = name, "removing a directory that no lease uses");
                let path = below.join(name);
                errors.extend(self.lanes.throw_away(&path).err().map(|error| format!("{error:#}")));
                self.housekeeping.trash.notify_one();
            }
        }
        errors
    }

    /// Which of these no lease uses. The leases are looked at after podman was asked: one is on record before what it has.
    fn unused(&self, found: Vec<Found>, only: Option<&str>, containers: bool) -> Vec<String> {
        let mut current: HashMap<String, Vec<String>> = HashMap::new();
        for lease in self.all_leases() {
            let record = lease.record();
            current.insert(record.id.short().to_owned(), record.container_names());
        }
        found.into_iter().filter(|found| is_unused(found, only, containers, &current)).map(|found| found.name).collect()
    }
}

/// `current`: the leases that live, with the names of their containers.
fn is_unused(found: &Found, only: Option<&str>, containers: bool, current: &HashMap<String, Vec<String>>) -> bool {
    match (only, current.get(&found.lease)) {
        // This lease ends: whatever it has goes.
        (Some(only), _) => found.lease == only,
        (None, None) => true,
        // Being made.
        (None, Some(names)) if names.is_empty() => false,
        // A container of an earlier attempt.
        (None, Some(names)) => containers && !names.contains(&found.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, lease: &str) -> Found {
        Found { name: name.into(), lease: lease.into(), running: true }
    }

    #[test]
    fn what_a_lease_uses_stays() {
        let current = HashMap::from([
            ("A".to_owned(), vec!["a-helper".to_owned(), "a-job-2".to_owned()]),
            ("B".to_owned(), vec![]),
        ]);
        let unused = |name, lease| is_unused(&found(name, lease), None, true, &current);
        assert!(!unused("a-job-2", "A"));
        assert!(unused("a-job", "A"), "of an earlier attempt");
        assert!(!unused("b-job", "B"), "being made");
        assert!(unused("c-job", "C") && unused("d", ""));
        assert!(!is_unused(&found("net", "A"), None, false, &current));
    }

    #[test]
    fn the_end_of_one_lease_concerns_no_other() {
        let current = HashMap::new();
        assert!(is_unused(&found("a", "A"), Some("A"), true, &current));
        assert!(!is_unused(&found("b", "B"), Some("A"), true, &current));
    }
}
