//! A container for a moment, to look at a job's network from inside. Its image is empty: `windlass-init`, which is mounted, is all that
//! it runs, so that nothing has to be there or be pulled.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::cgroup::Cgroups;
use super::container::user_map;
use super::network::arguments as network;
use super::process::supervise;
use super::{LABEL, Podman, PodmanError, UserMap, strings};
use crate::config::NetworkSettings;

/// An empty archive: two blocks of zeros (POSIX.1-2024, pax).
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];
/// The repository of these images; their tag is the process that made them.
pub(super) const REPOSITORY: &str = "localhost/windlass/doctor";
/// How long the container may take beyond what runs in it: rootless podman makes its networks with the first container.
const AROUND: Duration = Duration::from_secs(60);

/// How long a container may live through which somebody speaks with a server.
const CONVERSATION: Duration = Duration::from_secs(90);

/// How many containers this process has made: one may still be going when the next begins.
static MADE: AtomicU32 = AtomicU32::new(0);

/// What containers of one probe are made with.
#[derive(Debug)]
pub struct Probe<'a> {
    podman: &'a Podman,
    /// The empty image.
    image: String,
    map: UserMap,
    network: &'a NetworkSettings,
    ulimits: &'a BTreeMap<String, String>,
}

/// The arguments of `podman run` after those for the container's name and standard input.
fn arguments(
    image: &str,
    init: &str,
    map: UserMap,
    settings: &NetworkSettings,
    ulimits: &BTreeMap<String, String>,
    cgroups: Cgroups,
    line: &[String],
) -> Vec<String> {
    let mut all = strings(["--pull", "never", "--log-driver", "none", "--no-healthcheck", "--user", "0:0"]);
    // It is to see what a job sees.
    all.extend(strings(["--http-proxy=false"]));
    all.extend(["--label".to_owned(), format!("{LABEL}.doctor=1")]);
    all.extend(["--volume".to_owned(), format!("{init}:{}:ro", crate::init::PATH)]);
    all.extend(["--entrypoint".to_owned(), format!("[\"{}\"]", crate::init::PATH)]);
    all.extend(user_map(map));
    all.extend(cgroups.arguments());
    all.extend(network(settings, None));
    all.extend(ulimits.iter().map(|(name, value)| format!("--ulimit={name}={value}")));
    all.extend(strings(["--"]));
    all.push(image.to_owned());
    all.extend_from_slice(line);
    all
}

impl Podman {
    /// Makes what containers with this network and these ulimits need; [`Probe::end`] takes it away again.
    ///
    /// # Errors
    /// podman's words.
    pub async fn probe<'a>(
        &'a self,
        map: UserMap,
        network: &'a NetworkSettings,
        ulimits: &'a BTreeMap<String, String>,
    ) -> Result<Probe<'a>, PodmanError> {
        let failed = |message: String| PodmanError { operation: "import".to_owned(), message, code: None };
        let image = format!("{REPOSITORY}:{}", std::process::id());
        let archive = tempfile::Builder::new().prefix("windlass-doctor-").suffix(".tar").tempfile();
        let archive = archive.map_err(|error| failed(format!("make an empty archive: {error}")))?;
        std::fs::write(archive.path(), EMPTY_ARCHIVE).map_err(|error| failed(error.to_string()))?;
        // podman may be another user's.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(archive.path(), open).map_err(|error| failed(error.to_string()))?;
        let mut import = strings(["import", "--quiet", "--change"]);
        // Without a change of its own it would be the same image as that of another doctor, and go with it.
        import.extend([format!("LABEL {LABEL}.doctor={}", std::process::id()), "--".to_owned()]);
        import.extend([archive.path().display().to_string(), image.clone()]);
        self.call(&import).await?;
        Ok(Probe { podman: self, image, map, network, ulimits })
    }
}

impl Probe<'_> {
    /// Runs `windlass-init` with these arguments in a container, and returns what it printed. The container is gone afterwards.
    ///
    /// # Errors
    /// podman's words, or those of the init.
    pub async fn run(&self, line: &[String], within: Duration) -> Result<String, PodmanError> {
        self.podman.call_with(&self.line(line, false), within + AROUND, None).await
    }

    /// Starts a container in which `windlass-init lead` connects to `HOST:PORT`. Its standard input and output are the socket that
    /// comes back: first `init::probe::CONNECTED`, then what comes from there. The container ends with the conversation, or a while after.
    ///
    /// # Errors
    /// When no podman can be started.
    pub async fn lead(&self, target: &str) -> std::io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let turn = Arc::clone(&self.podman.calls).acquire_owned().await;
        let mut command = self.podman.command(&self.line(&["lead".to_owned(), target.to_owned()], true));
        command.stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?))).stdout(Stdio::from(OwnedFd::from(theirs)));
        let child = command.stderr(Stdio::piped()).spawn()?;
        tokio::spawn(async move {
            let end = supervise(child, CONVERSATION, CancellationToken::new()).await;
            tracing::debug!(?end, "a container through which a server was asked");
            drop(turn);
        });
        Ok(ours)
    }

    /// Removes the image. It is a few bytes; what was found out counts more than whether they could be removed.
    pub async fn end(self) {
        let remove = [strings(["image", "rm", "--force"]), vec![self.image.clone()]].concat();
        if let Err(error) = self.podman.call(&remove).await {
            tracing::debug!("{error}");
        }
    }

    fn line(&self, line: &[String], interactive: bool) -> Vec<String> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mut all = strings(["run", "--rm", "--name"]);
        all.push(format!("windlass-doctor-{}-{number}", std::process::id()));
        all.extend(interactive.then(|| "--interactive".to_owned()));
        let init = self.podman.settings().init.display().to_string();
        all.extend(arguments(&self.image, &init, self.map, self.network, self.ulimits, self.podman.cgroups(), line));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

    #[test]
    fn the_container_has_a_jobs_network_and_goes_by_itself() {
        let settings = NetworkSettings { mode: Network::Host, dns: vec!["192.0.2.53".into()], ..Default::default() };
        let line = arguments(
            "localhost/x:7",
            "/i",
            UserMap::NoMap,
            &settings,
            &[("core".to_owned(), "0".to_owned())].into(),
            Cgroups::default(),
            &["probe".into(), "a:1".into()],
        );
        let line = line.join(" ");
        for words in [
            "--pull never",
            "--userns nomap",
            "--network host --dns 192.0.2.53",
            "--http-proxy=false",
            "--ulimit=core=0",
        ] {
            assert!(line.contains(words), "{words} in {line}");
        }
        assert!(line.ends_with("-- localhost/x:7 probe a:1"), "{line}");
    }
}
