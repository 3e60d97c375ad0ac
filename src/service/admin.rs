//! Figures and health over HTTP: on a socket always, on a port where that is configured.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, UnixListener};

use super::health::{Facts, Health, readiness};
use super::missing::Missing;
use super::parts::Parts;
use super::socket;
use crate::config::Settings;
use crate::doctor::{Level, Rounds};
use crate::http;
use crate::http::admin::{Readiness, Source};
use crate::loops::Loops;
use crate::metrics::Metrics;

/// The socket in the runtime directory.
const SOCKET: &str = "admin.sock";

/// What listens.
#[derive(Debug)]
pub struct Admin {
    socket: Option<(UnixListener, PathBuf)>,
    port: Option<TcpListener>,
}

impl Admin {
    /// Listens; nobody is answered yet.
    pub async fn bind(settings: &Settings, missing: &mut Missing) -> Self {
        let socket = missing.unless(Self::socket(settings), "figures and health are at no socket");
        let port = match settings.metrics.listen {
            Some(address) => {
                let port = http::listen(address, "[metrics] listen").await.map_err(anyhow::Error::from);
                missing.unless(port, "figures and health are at no port")
            }
            None => None,
        };
        Self { socket, port }
    }

    fn socket(settings: &Settings) -> Result<(UnixListener, PathBuf)> {
        let path = settings.run_dir.join(SOCKET);
        let socket = socket::make(&path, settings.metrics.group.as_deref(), 0o600, "metrics")?;
        socket.set_nonblocking(true).context("set the socket up")?;
        Ok((UnixListener::from_std(socket).context("set the socket up")?, path))
    }

    /// Starts its tasks.
    pub fn spawn(self, panel: &Arc<Panel>, loops: &Loops) {
        let (tasks, shutdown) = (loops.tasks(), loops.shutdown());
        let endpoint = http::admin::endpoint(Arc::clone(panel));
        if let Some(port) = self.port {
            let serving = http::serve(port, endpoint.clone(), tasks.clone(), shutdown.clone());
            loops.spawn("metrics-port", None, serving);
        }
        if let Some((socket, path)) = self.socket {
            let serving = http::serve(socket, endpoint, tasks.clone(), shutdown.clone());
            loops.spawn("metrics", None, async move {
                serving.await;
                // The next daemon replaces what can't be removed.
                let _ = std::fs::remove_file(path);
            });
        }
    }
}

/// Who knows what is asked.
#[derive(Debug)]
pub struct Panel {
    /// Jobs, slots, space; the image chain.
    pub parts: Arc<Parts>,
    /// What was counted.
    pub metrics: Arc<Metrics>,
    /// Life and readiness.
    pub health: Arc<Health>,
    /// What has to go on.
    pub loops: Loops,
    /// What doctor found last; none: it does not look.
    pub doctor: Option<Rounds>,
}

impl Panel {
    async fn facts(&self) -> Facts {
        let executor = self.parts.has_executor();
        let own = executor.and_then(|executor| executor.gitlab_answers());
        let chain = self.parts.has_chain().and_then(|chain| chain.gitlab_answers());
        Facts {
            serving: self.health.is_serving(),
            drained: executor.is_some_and(|executor| executor.load().drained),
            podman: match executor {
                Some(executor) => Some(executor.podman_answers().await),
                None => None,
            },
            gitlab: own.or(chain),
            verifies: executor.is_some_and(|executor| executor.settings().gitlab.verify_jobs),
            space: executor.map(|executor| executor.space()).unwrap_or_default(),
        }
    }
}

impl Source for Panel {
    async fn metrics(&self) -> String {
        let facts = self.facts().await;
        let mut states = self.parts.has_executor().map(|executor| executor.states()).unwrap_or_default();
        states.loops = self.loops.ages();
        states.ready = readiness(&facts).not_ready.is_empty();
        (states.drained, states.podman_answers, states.gitlab_answers) = (facts.drained, facts.podman, facts.gitlab);
        let found = self.doctor.as_ref().and_then(|doctor| doctor.borrow().clone());
        states.doctor_errors = found.map(|found| found.count(Level::Error).try_into().unwrap_or(i64::MAX));
        states.chain = self.parts.has_chain().map(|chain| chain.counts());
        if let Some(counts) = self.parts.has_chain().map(|chain| chain.image_counts()) {
            let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            states.images = BTreeMap::from([
                ("ok", count(counts.ok)),
                ("stale", count(counts.stale)),
                ("too-young", count(counts.too_young)),
                ("failing", count(counts.failing)),
            ]);
            states.bases = BTreeMap::from([
                ("new", count(counts.on_new_base)),
                ("old", count(counts.on_old_base)),
                ("unknown", count(counts.on_unknown_base)),
            ]);
            states.stale_projects = count(counts.own_stale);
        }
        // Writing into a string can't fail.
        self.metrics.text(&states).unwrap_or_default()
    }

    async fn trouble(&self) -> Option<String> {
        if let Some(late) = self.loops.late() {
            return Some(late);
        }
        (!self.health.is_alive().await).then(|| "the loop that takes callers does not answer".to_owned())
    }

    async fn readiness(&self) -> Readiness {
        readiness(&self.facts().await)
    }
}
