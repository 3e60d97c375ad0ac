//! Who may use the shims' socket, and how many at once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Result;
use nix::unistd::{User, geteuid};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::listener::tell_shims;
use crate::config::SocketSettings;
use crate::executor::{Place, Places};

/// How often users are looked up again that the host did not have: gitlab-runner's comes with its package, which may come later.
const FIND_MISSING: Duration = Duration::from_secs(5);

/// Who may use the socket, and how many at once.
#[derive(Debug)]
pub struct Gate {
    allowed: RwLock<Allowed>,
    places: Arc<Places>,
    socket: PathBuf,
}

/// The users that may.
#[derive(Debug, Default, PartialEq, Eq)]
struct Allowed {
    uids: BTreeSet<u32>,
    /// Names that the host does not have, or could not look up.
    missing: BTreeSet<String>,
}

impl Allowed {
    /// root, the daemon's own user, and those that the settings name.
    fn of(settings: &SocketSettings) -> Self {
        let mut allowed = Self { uids: BTreeSet::from([0, geteuid().as_raw()]), missing: BTreeSet::new() };
        for name in &settings.allowed_users {
            match User::from_name(name) {
                Ok(Some(user)) => drop(allowed.uids.insert(user.uid.as_raw())),
                Ok(None) => {
                    tracing::warn!("[socket] allowed_users names {name:?}, and this host has no such user yet");
                    allowed.missing.insert(name.clone());
                }
                Err(error) => {
                    tracing::warn!("look up user {name:?}: {error}");
                    allowed.missing.insert(name.clone());
                }
            }
        }
        allowed
    }

    /// Lets one in that was missing; false where the settings do not name it any more.
    fn found(&mut self, name: &str, uid: u32) -> bool {
        self.missing.remove(name) && self.uids.insert(uid)
    }
}

impl Gate {
    /// For this socket, and those that the settings name.
    pub fn new(socket: PathBuf, settings: &SocketSettings) -> Self {
        let allowed = RwLock::new(Allowed::of(settings));
        Self { allowed, places: Places::new(settings.max_connections), socket }
    }

    /// Waits for one of the places; callers beyond them wait in the socket's queue.
    pub async fn place(&self) -> Option<Place> {
        self.places.take().await
    }

    /// Lets in whom these settings name from now on. Who is in stays in.
    pub fn change(&self, settings: &SocketSettings) -> Result<()> {
        tell_shims(&self.socket, settings)?;
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = Allowed::of(settings);
        self.places.resize(settings.max_connections);
        Ok(())
    }

    /// Why this caller is not served, if it is not. Its name is not looked up: that may take seconds, which a stranger could make
    /// others wait.
    pub fn refusal(&self, stream: &UnixStream) -> Option<String> {
        match stream.peer_cred() {
            Ok(peer) if self.allowed.read().unwrap_or_else(PoisonError::into_inner).uids.contains(&peer.uid()) => None,
            Ok(peer) => {
                tracing::warn!(uid = peer.uid(), "refused a caller");
                Some(format!(
                    "user id {} may not use windlassd; [socket] allowed_users in windlass.toml says who may",
                    peer.uid()
                ))
            }
            Err(error) => Some(format!("windlassd can't tell who is calling: {error}")),
        }
    }

    /// Lets users in that the host has only got since, until the shutdown.
    pub async fn find_missing_forever(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(FIND_MISSING) => {}
            }
            let missing = self.allowed.read().unwrap_or_else(PoisonError::into_inner).missing.clone();
            if missing.is_empty() {
                continue;
            }
            // A directory service may be slow. Should it never answer, this waits for it, and nobody for this.
            let look = tokio::task::spawn_blocking(move || {
                let uid = |name: &String| Some(User::from_name(name).ok()??.uid.as_raw());
                missing.into_iter().filter_map(|name| Some((uid(&name)?, name))).collect::<Vec<_>>()
            });
            let found = tokio::select! {
                () = shutdown.cancelled() => return,
                found = look => found.unwrap_or_default(),
            };
            for (uid, name) in found {
                if self.allowed.write().unwrap_or_else(PoisonError::into_inner).found(&name, uid) {
                    tracing::info!("this host has user {name:?} now, whom [socket] allowed_users names");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(names: &str) -> SocketSettings {
        let text = format!("[socket]\nallowed_users = [{names}]\n");
        crate::config::parse(std::path::Path::new("x.toml"), &text).expect("valid").socket
    }

    #[test]
    fn a_user_who_comes_later_is_let_in_unless_the_settings_have_changed() {
        let mut allowed = Allowed::of(&settings("'root', 'nobody-here-yet'"));
        assert_eq!(allowed.missing, BTreeSet::from(["nobody-here-yet".to_owned()]));
        assert!(!allowed.uids.contains(&4711) && allowed.uids.contains(&0));
        assert!(allowed.found("nobody-here-yet", 4711) && allowed.uids.contains(&4711));
        assert!(!allowed.found("nobody-here-yet", 4712) && !allowed.uids.contains(&4712), "it is known already");
        let mut changed = Allowed::of(&settings("'root'"));
        assert!(!changed.found("nobody-here-yet", 4711) && !changed.uids.contains(&4711));
    }
}
