//! The page to look at: what goes on, the image chain, the disks. It only shows; whatever changes something is the command's.
//!
//! `moment` asks the daemon's parts, `view` makes plain data of that, `html` and `api` show it, `live` tells open pages of changes. Nothing
//! is asked, rendered or kept while nobody looks.

mod api;
mod assets;
pub mod graph;
mod guard;
mod html;
mod layout;
mod live;
mod login;
mod moment;
mod render;
mod routes;
pub mod svg;
pub mod view;
mod words;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{PageListen, PageSettings, Settings};
use crate::controller::Controller;
use crate::executor::Executor;
use crate::http::{self, Listener};
use crate::sys::secrets::{self, Secret};
use live::Live;
use login::{Login, TOKEN_MIN};
use moment::Sources;
use render::Rendering;
use routes::Site;

/// How long a connection may last: longer than any stream of changes, whose browser then asks for another.
const LASTS: Duration = Duration::from_secs(20 * 60);

/// The page, ready to be served.
#[derive(Debug)]
pub struct Page {
    listener: Listener,
    settings: PageSettings,
    token: Option<Secret>,
}

impl Page {
    /// Listens; nothing is served yet. None where the settings want no page.
    ///
    /// # Errors
    /// When the token can't be read or is too short, or the place to listen at is not to be had.
    pub async fn build(settings: &Settings) -> Result<Option<Self>> {
        let page = &settings.page;
        let Some(listen) = &page.listen else { return Ok(None) };
        let token = secrets::read(page.token_file.as_deref(), "page-token", "[page] token_file")?;
        if token.as_ref().is_some_and(|token| token.expose().chars().count() < TOKEN_MIN) {
            bail!(
                "the token for the page ([page] token_file) has fewer than {TOKEN_MIN} characters and could be guessed"
            );
        }
        let listener = match listen {
            PageListen::Address(address) => Listener::at(*address, "[page] listen").await?,
            PageListen::Unix(path) => Listener::at_path(path, settings.socket.group.as_deref(), "[page] listen")?,
        };
        Ok(Some(Self { listener, settings: page.clone(), token }))
    }

    /// Starts its tasks.
    pub fn spawn(
        self,
        executor: Arc<Executor>,
        controller: Option<Arc<Controller>>,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) {
        let Self { listener, settings, token } = self;
        // With a token, a foreign page that points its own name here has no session; without one it would see everything.
        let is_open = token.is_none();
        let has_chain = controller.is_some();
        let rendering = Arc::new(Rendering::new(Sources::new(executor, controller), &settings.base_path));
        let live = Arc::new(Live::new(Arc::clone(&rendering), tasks.clone(), shutdown.clone()));
        tasks.spawn(Arc::clone(&live).run());
        let site = Site {
            base: settings.base_path,
            hosts: is_open.then_some(settings.hosts),
            login: Login::new(token),
            rendering,
            live,
            has_chain,
        };
        tasks.spawn(http::serve(listener, routes::site(Arc::new(site)), LASTS, tasks.clone(), shutdown.clone()));
    }
}
