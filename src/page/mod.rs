//! The page to look at: what goes on, the image chain, the disks. It only shows; whatever changes something is the command's.
//!
//! `moment` asks the daemon's parts, `view` makes plain data of that, `html` and `api` show it, `live` tells open pages of changes. Nothing
//! is asked, rendered or kept while nobody looks.

mod api;
mod assets;
mod fill;
pub mod graph;
mod guard;
mod html;
mod layout;
mod live;
mod login;
mod moment;
mod paths;
mod plot;
mod render;
mod routes;
pub mod svg;
pub mod view;
mod words;

use std::sync::Arc;

use warp::{Filter, Rejection, Reply};

use crate::config::PageSettings;
use crate::loops::{Loops, PODMAN_STEP_MAX};
use crate::sys::secrets::Secret;
use live::Live;
use login::Login;
use render::Rendering;
use routes::Site;

pub use login::TOKEN_MIN;
pub use moment::Sources;

/// The whole site, with its loop.
pub fn site(
    settings: PageSettings,
    token: Option<Secret>,
    sources: Sources,
    loops: Loops,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone + Send + Sync + 'static {
    // With a token, a foreign page that points its own name here has no session; without one it would see everything.
    let is_open = token.is_none();
    let (has_jobs, has_chain) = (sources.has_jobs(), sources.has_chain());
    let rendering = Arc::new(Rendering::new(sources, &settings.base_path));
    let live = Arc::new(Live::new(Arc::clone(&rendering), loops.tasks().clone(), loops.shutdown().clone()));
    loops.spawn("page-changes", Some(PODMAN_STEP_MAX), Arc::clone(&live).run());
    routes::site(Arc::new(Site {
        base: settings.base_path,
        hosts: is_open.then_some(settings.hosts),
        login: Login::new(token),
        rendering,
        live,
        has_jobs,
        has_chain,
    }))
}
