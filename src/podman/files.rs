//! What is done with files of jobs' ids. As root the daemon may do it itself; for a rootless podman only root of its user namespace may,
//! and that is who a program under `podman unshare` is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Io, Podman, PodmanError, UserMap, strings};
use crate::protocol::files::{Measured, Reply, Request};

/// The program, beside the init.
const PROGRAM: &str = "windlass-files";
/// How long a tree may take that is measured or removed: nobody waits for it.
const BACKGROUND: Duration = Duration::from_secs(24 * 3600);

impl Podman {
    /// Where the program for files of jobs' ids is.
    #[must_use]
    pub fn files_program(&self) -> PathBuf {
        self.settings.init.with_file_name(PROGRAM)
    }

    /// The id that a container's id has where files are looked after: the host's, or (rootless) that of podman's user namespace.
    #[must_use]
    pub fn file_id(&self, map: UserMap, id: u32) -> u32 {
        match map {
            UserMap::Range { first, .. } => first.saturating_add(id),
            // There the first id is the service's user, whom `nomap` leaves out: a container's ids begin with the next.
            UserMap::NoMap => id.saturating_add(1),
            UserMap::Host => id,
        }
    }

    /// Does something quick with files.
    ///
    /// # Errors
    /// What could not be done with which file.
    pub async fn files(&self, request: Request) -> Result<Reply, PodmanError> {
        if self.rootful {
            let performed = tokio::task::spawn_blocking(move || crate::files::perform(&request)).await;
            return checked(performed.map_err(|error| failed(error.to_string()))?);
        }
        let arguments = self.files_arguments(&request)?;
        read(self.call(&arguments).await)
    }

    /// Does something with files that may take long, at idle priority, until `stop`.
    async fn files_in_background(&self, request: &Request, stop: CancellationToken) -> Result<Reply, PodmanError> {
        let program = self.files_program();
        let (io, arguments) = match self.rootful {
            true => (Io { program: Some(&program), ..Io::default() }, vec![json(request)?]),
            false => (Io::default(), self.files_arguments(request)?),
        };
        read(self.run(&arguments, BACKGROUND, io, None, stop).await)
    }

    fn files_arguments(&self, request: &Request) -> Result<Vec<String>, PodmanError> {
        let mut arguments = strings(["unshare"]);
        arguments.extend([self.files_program().display().to_string(), json(request)?]);
        Ok(arguments)
    }

    /// Gives a tree to another owner and group. It may be large, and a job waits for it.
    ///
    /// # Errors
    /// What could not be given.
    pub async fn own(&self, path: &Path, owner: (u32, u32), open: bool) -> Result<(), PodmanError> {
        let request = Request::Own { path: path.to_owned(), owner, open };
        if self.rootful {
            return self.files(request).await.map(drop);
        }
        let (arguments, never) = (self.files_arguments(&request)?, CancellationToken::new());
        read(self.run(&arguments, self.settings.pull_timeout, Io::default(), None, never).await).map(drop)
    }

    /// Adds up a tree; with `open`, everybody is let read and write what is in it.
    ///
    /// # Errors
    /// What could not be looked at.
    pub async fn measure(&self, path: &Path, open: bool, stop: CancellationToken) -> Result<Measured, PodmanError> {
        match self.files_in_background(&Request::Measure { path: path.to_owned(), open }, stop).await? {
            Reply::Measured(measured) => Ok(measured),
            other => Err(failed(format!("an answer to another question: {other:?}"))),
        }
    }

    /// Removes all that is in a directory.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn empty(&self, path: &Path, stop: CancellationToken) -> Result<(), PodmanError> {
        self.files_in_background(&Request::Empty { path: path.to_owned() }, stop).await.map(drop)
    }
}

fn json(request: &Request) -> Result<String, PodmanError> {
    serde_json::to_string(request).map_err(|error| failed(error.to_string()))
}

fn read(answer: Result<String, PodmanError>) -> Result<Reply, PodmanError> {
    match answer {
        Ok(text) => {
            checked(serde_json::from_str(&text).map_err(|error| failed(format!("unreadable answer: {error}")))?)
        }
        Err(error) => Err(error),
    }
}

fn checked(reply: Reply) -> Result<Reply, PodmanError> {
    match reply {
        Reply::Failed { message } => Err(failed(message)),
        reply => Ok(reply),
    }
}

fn failed(message: String) -> PodmanError {
    PodmanError { operation: "files".to_owned(), message, code: None }
}
