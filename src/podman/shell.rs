//! `podman exec` for a shell: its bytes go through a socket that somebody else has the other end of.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::Child;

use super::{Podman, strings};

impl Podman {
    /// Starts `windlass-init shell` in a container. What podman itself has to say comes out of the child's stderr. Without a user it runs
    /// as the container does.
    ///
    /// # Errors
    /// When podman can't be started.
    pub fn exec_shell(&self, container: &str, user: Option<&str>, socket: UnixStream) -> Result<Child> {
        let input = OwnedFd::from(socket.try_clone().context("share the shell's socket")?);
        let mut command = self.command(&arguments(container, user));
        command.stdin(Stdio::from(input)).stdout(Stdio::from(OwnedFd::from(socket))).stderr(Stdio::piped());
        command.spawn().context("start podman exec")
    }
}

fn arguments(container: &str, user: Option<&str>) -> Vec<String> {
    let mut line = strings(["exec", "--interactive"]);
    if let Some(user) = user {
        line.extend(["--user".to_owned(), user.to_owned()]);
    }
    line.extend([container.to_owned(), crate::init::PATH.to_owned(), "shell".to_owned()]);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_no_terminal_of_podmans_and_the_user_that_was_named() {
        assert_eq!(arguments("c", Some("0:0")).join(" "), "exec --interactive --user 0:0 c /.windlass-init shell");
        assert_eq!(arguments("c", None).join(" "), "exec --interactive c /.windlass-init shell");
    }
}
