//! Where the page is served: at an address, or at a Unix socket for those who may open it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::{TcpListener, UnixListener};

use super::socket;
use crate::config::{PageListen, PageSettings, Settings};
use crate::controller::Controller;
use crate::doctor::{Paces, Rounds};
use crate::executor::Executor;
use crate::http::{self, Bounds};
use crate::loops::Loops;
use crate::page::{self, TOKEN_MIN};
use crate::sys::secrets::{self, Secret};

/// How long a connection may last: longer than any stream of changes, whose browser then asks for another.
const LASTS: Duration = Duration::from_secs(20 * 60);

/// What listens.
#[derive(Debug)]
enum Listening {
    Port(TcpListener),
    Socket(UnixListener, PathBuf),
}

/// The page, ready to be served.
#[derive(Debug)]
pub struct PageServer {
    listening: Listening,
    settings: PageSettings,
    token: Option<Secret>,
}

impl PageServer {
    /// Listens; nobody is answered yet. None where the settings want no page.
    ///
    /// # Errors
    /// When the token can't be read or is too short, or the place to listen at is not to be had.
    pub async fn bind(settings: &Settings) -> Result<Option<Self>> {
        let page = &settings.page;
        let Some(listen) = &page.listen else { return Ok(None) };
        let token = secrets::read(page.token_file.as_deref(), "page-token", "[page] token_file")?;
        if token.as_ref().is_some_and(|token| token.expose().chars().count() < TOKEN_MIN) {
            bail!(
                "the token for the page ([page] token_file) has fewer than {TOKEN_MIN} characters and could be guessed"
            );
        }
        let listening = match listen {
            PageListen::Address(address) => Listening::Port(http::listen(*address, "[page] listen").await?),
            PageListen::Unix(path) => {
                let socket = socket::make(path, settings.socket.group.as_deref(), 0o600, "socket")?;
                socket.set_nonblocking(true).context("set the page's socket up")?;
                let socket = UnixListener::from_std(socket).context("set the page's socket up")?;
                Listening::Socket(socket, path.clone())
            }
        };
        Ok(Some(Self { listening, settings: page.clone(), token }))
    }

    /// Starts its tasks.
    pub fn spawn(
        self,
        executor: Option<Arc<Executor>>,
        controller: Option<Arc<Controller>>,
        doctor: Rounds,
        missing: Vec<String>,
        loops: &Loops,
    ) {
        let (tasks, shutdown) = (loops.tasks(), loops.shutdown());
        let sources = page::Sources::new(executor, controller, doctor, missing);
        let site = page::site(self.settings, self.token, sources, loops.clone());
        let bounds = Bounds { all_within: LASTS, ..Bounds::default() };
        match self.listening {
            Listening::Port(port) => {
                loops.spawn("page", None, http::serve_within(port, site, bounds, tasks.clone(), shutdown.clone()));
            }
            Listening::Socket(socket, path) => {
                let serving = http::serve_within(socket, site, bounds, tasks.clone(), shutdown.clone());
                loops.spawn("page", None, async move {
                    serving.await;
                    // The next daemon replaces what can't be removed.
                    let _ = std::fs::remove_file(path);
                });
            }
        }
    }
}

/// How often doctor looks for it.
pub fn doctor_paces(settings: &PageSettings) -> Paces {
    Paces {
        quick: settings.doctor_interval,
        wide: settings.doctor_wide_interval,
        build: settings.doctor_build_interval,
    }
}
