//! Where a job's predefined stages run: in a container of their own from the image that comes with gitlab-runner or that the
//! administrator names, or in the job's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::image_use::Origin;
use super::images::Wanted;
use super::record::{Record, Role};
use super::{Executor, Failure, Inputs, JobLog, Lease};
use crate::config::{HelperMode, HelperSettings};
use crate::job::ImageRef;

/// How long the helper's programs may take to say their versions.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
/// What images of archives are called.
pub const REPOSITORY: &str = "localhost/windlass/helper";
/// The variable in which gitlab-runner says its version.
const VARIABLE: &str = "CI_RUNNER_VERSION";

/// How the names begin of archives that are being loaded, unpacked, below the state directory.
pub const UNPACKED: &str = "helper-archive.tar";

/// What a helper's image lacks, by image and runner's program: asked once.
pub type Tools = Mutex<HashMap<(String, Option<PathBuf>), String>>;

/// Removes what a daemon has left that was killed while it loaded an archive.
pub fn remove_unpacked(state_dir: &Path) {
    for entry in std::fs::read_dir(state_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNPACKED) {
            // What can't be removed costs room, nothing else.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Where the predefined stages run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In an image loaded from this archive.
    Archive(PathBuf),
    /// In this image.
    Image(String),
    /// In the job's container.
    Inject,
}

/// Decides. `version`: gitlab-runner's; `is_file`: whether there is a file.
///
/// # Errors
/// When an image was set that can't be named.
pub fn choose(
    settings: &HelperSettings,
    version: Option<&str>,
    is_file: impl Fn(&Path) -> bool,
) -> Result<Source, String> {
    let image = || -> Option<Result<Source, String>> {
        let image = settings.image.as_ref()?;
        let filled = image.replace("{arch}", architecture());
        if !filled.contains("{runner_version}") {
            return Some(Ok(Source::Image(filled)));
        }
        Some(match version {
            Some(version) => Ok(Source::Image(filled.replace("{runner_version}", version))),
            None => Err(format!("gitlab-runner does not say its version, which [job.helper] image {image} needs")),
        })
    };
    match settings.mode {
        HelperMode::Inject => Ok(Source::Inject),
        HelperMode::Image => image().unwrap_or(Ok(Source::Inject)),
        HelperMode::Auto => match archives(settings).into_iter().find(|path| is_file(path)) {
            Some(archive) => Ok(Source::Archive(archive)),
            None => image().unwrap_or(Ok(Source::Inject)),
        },
    }
}

/// This host's architecture in the words of GitLab's helper images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The archives to look for, in the order of GitLab Runner (executors/docker/internal/prebuilt).
fn archives(settings: &HelperSettings) -> Vec<PathBuf> {
    let names = [architecture(), if architecture() == "x86_64" { "amd64" } else { architecture() }];
    let flavors = [settings.flavor.clone(), format!("{}-latest", settings.flavor)];
    let mut paths = Vec::new();
    for flavor in &flavors {
        for name in names {
            for extension in ["docker.tar.zst", "tar.xz"] {
                paths.push(settings.archives.join(format!("prebuilt-{flavor}-{name}.{extension}")));
            }
        }
    }
    paths
}

impl Executor {
    /// The image of a job's helper; none when the predefined stages run in the job's container.
    pub(super) async fn helper_image(
        &self,
        record: &Record,
        inputs: &Inputs,
        log: &JobLog,
    ) -> Result<Option<Wanted>, Failure> {
        let settings = &record.settings.helper;
        let source = choose(settings, inputs.variable(VARIABLE), Path::is_file).map_err(Failure::system)?;
        let (reference, policies) = match source {
            Source::Inject => return Ok(None),
            Source::Archive(path) => {
                let reference = self.load_archive(&path, log).await?;
                (reference, vec![crate::config::PullPolicy::Never])
            }
            Source::Image(image) => {
                let reference = ImageRef::try_from(image)
                    .map_err(|reason| Failure::system(format!("[job.helper] image: {reason}")))?;
                (reference, record.settings.images.pull_policy.clone())
            }
        };
        Ok(Some(Wanted { reference, policies, platform: None }))
    }

    /// The image of an archive, which is loaded once.
    async fn load_archive(&self, path: &Path, log: &JobLog) -> Result<ImageRef, Failure> {
        use std::os::unix::fs::MetadataExt;
        let about = path.metadata().map_err(|error| {
            Failure::system(format!("the helper's archive {} can't be read: {error}", path.display()))
        })?;
        // A package that is upgraded brings another file under the same name.
        let tag = format!("{:x}-{:x}-{:x}", about.size(), about.mtime(), about.mtime_nsec());
        let reference = ImageRef::try_from(format!("{REPOSITORY}:{tag}")).map_err(Failure::system)?;
        // Two jobs that come first load it one after the other.
        let _step = log.step(format!("loading the helper image from {}", path.display()));
        let _turn = self.loading.lock().await;
        let podman = |error: crate::podman::PodmanError| {
            Failure::system(format!("the helper's archive {} could not be loaded: {}", path.display(), error.message))
        };
        if self.podman.image(&reference).await.map_err(podman)?.is_none() {
            log.line(format!("Loading the helper image from {}", path.display()));
            // Each load has a file of its own: a job that was canceled in the middle of one leaves its podman behind, still reading.
            let scratch = tempfile::Builder::new().prefix(UNPACKED).tempfile_in(&self.settings().state_dir);
            let scratch = scratch.map_err(|error| {
                Failure::system(format!("make a file to unpack the helper's archive into: {error}"))
            })?;
            self.podman.load_archive(path, reference.as_str(), scratch.path()).await.map_err(podman)?;
            if let Some(image) = self.podman.image(&reference).await.map_err(podman)? {
                // An archive gives names of its own.
                let listed = self.podman.images().await.map_err(podman)?;
                let names = listed.into_iter().filter(|listed| listed.id == image.id).flat_map(|listed| listed.names);
                for name in names {
                    self.image_uses.note(&image.id, &name, Origin::Brought, self.lanes.now());
                }
            }
        }
        Ok(reference)
    }

    /// Says in the job log what the container of the predefined stages lacks, and when its gitlab-runner is of another version.
    pub(super) async fn check_tools(
        &self,
        lease: &Lease,
        record: &Record,
        image: &str,
        program: Option<PathBuf>,
        inputs: &Inputs,
        log: &JobLog,
    ) {
        // Without it nobody is there whose scripts need anything.
        let Some(version) = inputs.variable(VARIABLE) else { return };
        let role = if record.helper.is_some() { Role::Helper } else { Role::Job };
        let key = (image.to_owned(), program);
        let known = self.tools.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let found = match known {
            Some(found) => found,
            None => {
                let command = ["sh", "-c", LOOK].map(str::to_owned).to_vec();
                match self.run_inside(lease, record, role, command, LOOK_WITHIN).await {
                    Ok((_, found)) => {
                        self.tools.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found.clone());
                        found
                    }
                    Err(error) => {
                        return log.line(format!("Warning: the helper's programs could not be looked at: {error:#}"));
                    }
                }
            }
        };
        let clones = !matches!(inputs.variable("GIT_STRATEGY"), Some("none" | "empty"));
        for line in remarks(&found, version, role, clones) {
            log.line(line);
        }
    }
}

/// Prints the programs that are missing and gitlab-runner's version.
const LOOK: &str = "for program in git git-lfs gitlab-runner; do command -v $program >/dev/null || echo missing $program; done; gitlab-runner --version 2>/dev/null";

/// What is to be said of what [`LOOK`] found.
fn remarks(found: &str, version: &str, role: Role, clones: bool) -> Vec<String> {
    let place = match role {
        Role::Helper => "the helper image",
        Role::Job => "the job's image (no helper image is set up)",
    };
    let mut lines = Vec::new();
    let missing = |program: &str| found.lines().any(|line| line.strip_prefix("missing ") == Some(program));
    if clones && missing("git") {
        lines.push(format!("Warning: {place} has no git: the repository can't be fetched"));
    } else if clones && missing("git-lfs") {
        lines.push(format!("Note: {place} has no git-lfs: files in Git LFS stay pointers"));
    }
    if missing("gitlab-runner") {
        lines.push(format!("Warning: {place} has no gitlab-runner: caches and artifacts are left out"));
        return lines;
    }
    // As `gitlab-runner --version` prints it.
    let own = found.lines().find_map(|line| line.strip_prefix("Version:")).map(str::trim);
    match own {
        None => lines.push(format!("Warning: gitlab-runner does not start in {place}: caches and artifacts will fail")),
        Some(own) if own.trim_start_matches('v') != version.trim_start_matches('v') => lines.push(format!(
            "Warning: gitlab-runner in {place} is of version {own}, the runner of {version}: caches and artifacts may fail"
        )),
        Some(_) => {}
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(mode: HelperMode, image: Option<&str>) -> HelperSettings {
        HelperSettings { mode, image: image.map(str::to_owned), ..HelperSettings::default() }
    }

    #[test]
    fn the_runners_own_archive_comes_first() {
        let auto = settings(HelperMode::Auto, Some("r.example.com/helper:{arch}-v{runner_version}"));
        let archive = auto.archives.join(format!("prebuilt-alpine-latest-{}.tar.xz", architecture()));
        assert_eq!(choose(&auto, Some("17.9.0"), |path| path == archive), Ok(Source::Archive(archive.clone())));
        let image = Source::Image(format!("r.example.com/helper:{}-v17.9.0", architecture()));
        assert_eq!(choose(&auto, Some("17.9.0"), |_| false), Ok(image));
        assert!(choose(&auto, None, |_| false).is_err());
        assert_eq!(choose(&settings(HelperMode::Auto, None), None, |_| false), Ok(Source::Inject));
        assert_eq!(choose(&settings(HelperMode::Inject, Some("x")), None, |_| true), Ok(Source::Inject));
        assert_eq!(choose(&settings(HelperMode::Image, Some("x")), None, |_| true), Ok(Source::Image("x".into())));
    }

    #[test]
    fn what_is_missing_and_another_version_are_named() {
        let text = |found: &str, clones| remarks(found, "19.4.0", Role::Helper, clones).join("\n");
        assert!(text("missing git\nVersion:      19.4.0\n", true).contains("has no git:"));
        assert_eq!(text("missing git\nVersion: 19.4.0\n", false), "");
        assert!(text("missing git-lfs\nVersion: 19.4.0\n", true).contains("git-lfs"));
        let inject = remarks("missing git-lfs\nVersion: 19.4.0\n", "19.4.0", Role::Job, true).join("\n");
        assert!(inject.contains("the job's image") && inject.contains("git-lfs"), "{inject}");
        let other = text("Version:      17.9.0\nGit revision: x\n", true);
        assert!(other.contains("17.9.0") && other.contains("19.4.0"), "{other}");
        assert!(text("missing gitlab-runner\n", true).contains("no gitlab-runner"));
        assert!(text("", true).contains("does not start"));
    }
}
