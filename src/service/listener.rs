//! The shims' socket: made here or handed over by systemd, and open to the users that the configuration names.

use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{UnixAddr, getsockname};
use tokio::net::UnixListener;

use super::gate::Gate;
use super::notify::Watchdog;
use super::parts::Parts;
use super::{connection, socket};
use crate::config::SocketSettings;
use crate::loops::Loops;
use crate::protocol::daemon::shim_file;
use crate::sys::{fds, files};

/// Pause after accept(2) failed, for example for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// The listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    gate: Arc<Gate>,
    /// The socket, to be removed at the end; none when it is systemd's. The word left for the shims stays: they need it
    /// while the daemon is away.
    made: Option<PathBuf>,
}

impl Listener {
    /// Takes systemd's socket, or makes one.
    pub fn bind(settings: &SocketSettings) -> Result<Self> {
        let handed = sd_notify::listen_fds().context("read LISTEN_FDS")?.next();
        let (socket, path, made) = match handed {
            Some(number) => {
                let socket = StdListener::from(fds::inherited(number).context("take the socket from systemd")?);
                let path = path_of(&socket).unwrap_or_else(|| settings.path.clone());
                (socket, path, None)
            }
            // Without a group who is on the other side decides, not who can reach it.
            None => {
                let socket = socket::make(&settings.path, settings.group.as_deref(), 0o666, "socket")?;
                (socket, settings.path.clone(), Some(settings.path.clone()))
            }
        };
        tell_shims(&path, settings)?;
        socket.set_nonblocking(true).context("set the socket up")?;
        let gate = Arc::new(Gate::new(path, settings));
        Ok(Self { socket: UnixListener::from_std(socket).context("set the socket up")?, gate, made })
    }

    /// Who may call; it can be changed while callers are served.
    #[must_use]
    pub fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Serves callers until the shutdown. All work of the daemon begins here, so here it is seen to be alive.
    pub async fn serve(self, parts: Arc<Parts>, loops: Loops, mut watchdog: Watchdog) -> Result<()> {
        let (tasks, shutdown) = (loops.tasks(), loops.shutdown());
        // The user database may take any time, and hinders nobody but those that it does not name.
        loops.spawn("socket-users", None, Arc::clone(&self.gate).find_missing_forever(shutdown.clone()));
        loop {
            let next = async {
                let place = self.gate.place().await;
                (place, self.socket.accept().await)
            };
            let (place, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                () = watchdog.due() => {
                    watchdog.beat(&parts);
                    continue;
                }
                next = next => next,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("accept a caller: {error}");
                    watchdog.failed();
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let refusal = self.gate.refusal(&stream);
            let (parts, shutdown) = (Arc::clone(&parts), shutdown.clone());
            tasks.spawn(async move {
                let _place = place;
                connection::serve(stream, refusal, &parts, shutdown).await;
            });
        }
        if let Some(path) = &self.made {
            // The next daemon replaces what can't be removed.
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }
}

/// Leaves word for the shims how long to wait for a daemon that is away.
pub(super) fn tell_shims(socket: &Path, settings: &SocketSettings) -> Result<()> {
    let path = shim_file(socket);
    let wait = u64::try_from(settings.daemon_wait.as_millis()).unwrap_or(u64::MAX);
    let content = serde_json::json!({ "daemon_wait_ms": wait }).to_string();
    files::write_atomically(&path, content.as_bytes(), 0o644, files::Survives::Crash)
        .with_context(|| format!("write {}", path.display()))
}

fn path_of(socket: &StdListener) -> Option<PathBuf> {
    let address: UnixAddr = getsockname(std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd())).ok()?;
    address.path().map(Path::to_path_buf)
}
