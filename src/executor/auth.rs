//! A job's registry logins in a file of their own, for as long as its images are pulled.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

use super::{Failure, Inputs, JobLog, Lease};
use crate::config::ImageSettings;
use crate::job::ImageRef;
use crate::job::registry_auth::{AuthFile, Sources};

/// The file's name in the lease's directory.
const FILE: &str = "auth.json";

/// A job's auth file; gone when this is dropped, whatever happened.
#[derive(Debug)]
pub struct Auth {
    path: PathBuf,
    logins: AuthFile,
    lasting: String,
}

impl Auth {
    /// Writes the file, readable for this user alone.
    ///
    /// # Errors
    /// When the host's own file can't be used, or this one can't be written.
    pub fn write(
        lease: &Lease,
        settings: &ImageSettings,
        inputs: &Inputs,
        images: &[&ImageRef],
        log: &JobLog,
    ) -> Result<Self, Failure> {
        let host = match &settings.auth_file {
            None => None,
            Some(path) => Some(
                std::fs::read_to_string(path).with_context(|| format!("read [job] auth_file {}", path.display()))?,
            ),
        };
        let job = inputs.variable("DOCKER_AUTH_CONFIG");
        let registries: Vec<String> = images.iter().map(|image| image.registry().to_owned()).collect();
        let sources = Sources { job, host: host.as_deref(), response: &inputs.secrets.credentials };
        let (logins, warnings) = AuthFile::merge(&sources, &registries)
            .map_err(|reason| Failure::system(format!("[job] auth_file can't be used: {reason}")))?;
        warnings.into_iter().for_each(|warning| log.line(format!("Warning: {warning}")));
        // What GitLab gives to a job is another login each time, for the same project.
        let lasting = digest(&[job.unwrap_or_default(), host.as_deref().unwrap_or_default()]);
        let path = lease.directory.join(FILE);
        forget(&lease.directory);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let auth = Self { path, logins, lasting };
        options
            .open(&auth.path)
            .and_then(|mut file| file.write_all(auth.logins.to_json().as_bytes()))
            .with_context(|| format!("write {}", auth.path.display()))?;
        Ok(auth)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether podman would use a login for this image.
    #[must_use]
    pub fn covers(&self, image: &ImageRef) -> bool {
        self.logins.covers(image.as_str())
    }

    /// What the logins of this job have in common with those of the project's other jobs, as a hash.
    #[must_use]
    pub fn lasting(&self) -> &str {
        &self.lasting
    }
}

impl Drop for Auth {
    fn drop(&mut self) {
        if let Some(directory) = self.path.parent() {
            forget(directory);
        }
    }
}

/// Removes a file that an attempt before this one, or a daemon, has left.
pub fn forget(directory: &Path) {
    let path = directory.join(FILE);
    if let Err(error) = std::fs::remove_file(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!("remove {}: {error}", path.display());
    }
}

/// A hash of several texts.
pub fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
