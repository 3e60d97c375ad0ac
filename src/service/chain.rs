//! The chain's part of the service: its controller, and where GitLab's events come in.

use std::sync::Arc;

use anyhow::Result;
use tokio::net::TcpListener;

use super::feed::FeedListener;
use super::missing::Missing;
use super::notify::{StatusLine, announce_chain};
use crate::config::Settings;
use crate::controller::Controller;
use crate::gitlab::Client;
use crate::http;
use crate::http::intake::{self, Intake};
use crate::loops::{Loops, STEP_MAX};
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
    /// Opens its database and listens for events; GitLab is asked nothing yet. None where there is no chain. It goes on without events, by
    /// its timer, and without the feed.
    ///
    /// # Errors
    /// When its database, a secret or what GitLab's client needs is not to be had.
    pub async fn build(settings: &Settings, metrics: &Arc<Metrics>, missing: &mut Missing) -> Result<Option<Self>> {
        if !settings.chain.is_on() {
            return Ok(None);
        }
        // The roots of containers have to get past it, and nobody else can list it.
        make_directory(&settings.state_dir, 0o711)?;
        let gitlab = Client::new(&settings.gitlab)?.map(|client| Arc::new(client.measured(metrics)));
        let Some(controller) = Controller::build(settings, gitlab).await? else { return Ok(None) };
        let listener = match settings.webhook.listen {
            Some(address) => missing.unless(
                http::listen(address, "[webhook] listen").await.map_err(anyhow::Error::from),
                "no event of GitLab's is taken, and the image chain goes by [chain] interval alone",
            ),
            None => None,
        };
        let feed =
            missing.unless(FeedListener::bind(settings).await, "there is no feed for the hosts' updates").flatten();
        Ok(Some(Self { controller, listener, feed, metrics: Arc::clone(metrics) }))
    }

    /// Starts its loops.
    pub fn spawn(self, loops: &Loops, line: Arc<StatusLine>) {
        let (tasks, shutdown) = (loops.tasks(), loops.shutdown());
        if let Some(listener) = self.listener {
            let (intake, entries) = Intake::new();
            let endpoint =
                http::webhook::endpoint(self.controller.secrets().clone(), intake, Arc::clone(&self.metrics));
            let taking = intake::run(entries, Arc::clone(&self.controller), shutdown.clone());
            loops.spawn("webhook-events", Some(STEP_MAX), taking);
            loops.spawn("webhook", None, http::serve(listener, endpoint, tasks.clone(), shutdown.clone()));
        }
        if let Some(feed) = self.feed {
            feed.spawn(Arc::clone(self.controller.feed()), &self.metrics, loops);
        }
        let controller = || Arc::clone(&self.controller);
        loops.spawn("chain-status", Some(STEP_MAX), announce_chain(controller(), line, shutdown.clone()));
        loops.spawn("chain-sync", Some(STEP_MAX), controller().sync_forever(shutdown.clone()));
        loops.spawn("chain-images", Some(STEP_MAX), controller().watch_forever(shutdown.clone()));
        loops.spawn("chain-work", Some(STEP_MAX), controller().work_forever(shutdown.clone()));
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::sys::files::{Survives, write_atomically};

    #[tokio::test]
    async fn each_of_its_loops_is_looked_after() {
        let dir = tempfile::tempdir().expect("a directory");
        let token = dir.path().join("token");
        write_atomically(&token, b"glpat-test", 0o600, Survives::Crash).expect("a token");
        // Where nobody listens.
        let text = format!(
            "state_dir = '{}'\n[gitlab]\nurl = 'http://127.0.0.1:1'\ntoken_file = '{}'\n[chain]\ngroups = ['images']\n\
             [webhook]\nlisten = '127.0.0.1:0'\nurl = 'http://127.0.0.1:1/hooks/gitlab'\n",
            dir.path().join("state").display(),
            token.display()
        );
        let settings = crate::config::parse(std::path::Path::new("c.toml"), &text).expect("valid");
        let chain = Chain::build(&settings, &Arc::default(), &mut Missing::default())
            .await
            .expect("it starts")
            .expect("there is one");
        let loops = Loops::new(TaskTracker::new(), CancellationToken::new());
        chain.spawn(&loops, Arc::default());
        let names: Vec<_> = loops.ages().into_keys().collect();
        assert_eq!(names, ["chain-images", "chain-status", "chain-sync", "chain-work", "webhook", "webhook-events"]);
        assert_eq!(loops.late(), None);
        loops.shutdown().cancel();
        loops.tasks().close();
        loops.tasks().wait().await;
    }
}
