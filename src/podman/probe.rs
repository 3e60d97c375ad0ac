//! A container for a moment, to look at a job's network from inside. Its image is empty: `windlass-init`, which is mounted, is all that
//! it runs, so that nothing has to be there or be pulled.

use std::time::Duration;

use super::cgroup::Cgroups;
use super::container::user_map;
use super::network::arguments as network;
use super::{LABEL, Podman, PodmanError, UserMap, strings};
use crate::config::NetworkSettings;

/// An empty archive: two blocks of zeros (POSIX.1-2024, pax).
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];
/// The repository of these images.
const REPOSITORY: &str = "localhost/windlass/doctor";
/// How long the container may take beyond what runs in it: rootless podman makes its networks with the first container.
const AROUND: Duration = Duration::from_secs(60);

/// The arguments of `podman run`.
fn arguments(
    name: &str,
    init: &str,
    map: UserMap,
    settings: &NetworkSettings,
    cgroups: Cgroups,
    line: &[String],
) -> Vec<String> {
    let container = name.rsplit(['/', ':']).next().unwrap_or_default();
    let mut all = strings(["run", "--rm", "--name"]);
    all.push(format!("windlass-doctor-{container}"));
    all.extend(strings(["--pull", "never", "--log-driver", "none", "--no-healthcheck", "--user", "0:0"]));
    // It is to see what a job sees.
    all.extend(strings(["--http-proxy=false"]));
    all.extend(["--label".to_owned(), format!("{LABEL}.doctor=1")]);
    all.extend(["--volume".to_owned(), format!("{init}:{}:ro", crate::init::PATH)]);
    all.extend(["--entrypoint".to_owned(), format!("[\"{}\"]", crate::init::PATH)]);
    all.extend(user_map(map));
    all.extend(cgroups.arguments());
    all.extend(network(settings, None));
    all.extend(strings(["--"]));
    all.push(name.to_owned());
    all.extend_from_slice(line);
    all
}

impl Podman {
    /// Runs `windlass-init` with these arguments in a container with this network, and returns what it printed. Image and container
    /// are gone afterwards.
    ///
    /// # Errors
    /// podman's words, or those of the init.
    pub async fn probe(
        &self,
        map: UserMap,
        settings: &NetworkSettings,
        line: &[String],
        within: Duration,
    ) -> Result<String, PodmanError> {
        let failed = |message: String| PodmanError { operation: "import".to_owned(), message, code: None };
        let name = format!("{REPOSITORY}:{}", std::process::id());
        let archive = tempfile::Builder::new().prefix("windlass-doctor-").suffix(".tar").tempfile();
        let archive = archive.map_err(|error| failed(format!("make an empty archive: {error}")))?;
        std::fs::write(archive.path(), EMPTY_ARCHIVE).map_err(|error| failed(error.to_string()))?;
        // podman may be another user's.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(archive.path(), open).map_err(|error| failed(error.to_string()))?;
        let mut import = strings(["import", "--quiet", "--change"]);
        // Without a change of its own it would be the same image as that of another doctor, and go with it.
        import.extend([format!("LABEL {LABEL}.doctor={}", std::process::id()), "--".to_owned()]);
        import.extend([archive.path().display().to_string(), name.clone()]);
        self.call(&import).await?;
        let init = self.settings().init.display().to_string();
        let run = arguments(&name, &init, map, settings, self.cgroups(), line);
        let said = self.call_with(&run, within + AROUND, None).await;
        // It is a few bytes; what was found out counts more than whether they could be removed.
        if let Err(error) = self.call(&[strings(["image", "rm", "--force"]), vec![name]].concat()).await {
            tracing::debug!("{error}");
        }
        said
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
            Cgroups::default(),
            &["probe".into(), "a:1".into()],
        );
        let line = line.join(" ");
        for words in [
            "run --rm --name windlass-doctor-7",
            "--userns nomap",
            "--network host --dns 192.0.2.53",
            "--http-proxy=false",
        ] {
            assert!(line.contains(words), "{words} in {line}");
        }
        assert!(line.ends_with("-- localhost/x:7 probe a:1"), "{line}");
    }
}
