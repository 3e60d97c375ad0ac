//! The chain's part of the service: its controller, and where GitLab's events come in.

use std::sync::Arc;

use anyhow::Result;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::feed::FeedListener;
use super::notify::{StatusLine, announce_chain};
use crate::config::Settings;
use crate::controller::Controller;
use crate::gitlab::Client;
use crate::http;
use crate::http::intake::{self, Intake};
use crate::metrics::Metrics;
use crate::sys::files::make_directory;

/// The chain, ready to run.
#[derive(Debug)]
pub struct Chain {
    /// Its controller.
    pub controller: Arc<Controller>,
    listener: Option<TcpListener>,
    feed: Option<FeedListener>,
    metrics: Arc<Metrics>,
}

impl Chain {
    /// Opens its database and listens for events; GitLab is asked nothing yet. None where there is no chain.
    pub async fn build(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Option<Self>> {
        if !settings.chain.is_on() {
            return Ok(None);
        }
        // The roots of containers have to get past it, and nobody else can list it.
        make_directory(&settings.state_dir, 0o711)?;
        let gitlab = Client::new(&settings.gitlab)?.map(|client| Arc::new(client.measured(metrics)));
        let Some(controller) = Controller::build(settings, gitlab).await? else { return Ok(None) };
        let listener = match settings.webhook.listen {
            Some(address) => Some(http::listen(address, "[webhook] listen").await?),
            None => None,
        };
        let feed = FeedListener::bind(settings).await?;
        Ok(Some(Self { controller, listener, feed, metrics: Arc::clone(metrics) }))
    }

    /// Starts its tasks.
    pub fn spawn(self, tasks: &TaskTracker, shutdown: &CancellationToken, line: Arc<StatusLine>) {
        if let Some(listener) = self.listener {
            let (intake, entries) = Intake::new();
            let endpoint =
                http::webhook::endpoint(self.controller.secrets().clone(), intake, Arc::clone(&self.metrics));
            tasks.spawn(intake::run(entries, Arc::clone(&self.controller), shutdown.clone()));
            tasks.spawn(http::serve(listener, endpoint, tasks.clone(), shutdown.clone()));
        }
        if let Some(feed) = self.feed {
            feed.spawn(Arc::clone(self.controller.feed()), &self.metrics, tasks, shutdown);
        }
        tasks.spawn(announce_chain(Arc::clone(&self.controller), line, shutdown.clone()));
        tasks.spawn(Arc::clone(&self.controller).sync_forever(shutdown.clone()));
        tasks.spawn(Arc::clone(&self.controller).watch_forever(shutdown.clone()));
        tasks.spawn(self.controller.work_forever(shutdown.clone()));
    }
}
