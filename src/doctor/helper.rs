//! The image of the predefined stages: without one, each job's image needs git and gitlab-runner.

use std::path::{Path, PathBuf};

use super::run;
use super::{Finding, Host};
use crate::config::{HelperMode, HelperSettings, PullPolicy};
use crate::executor::helper::{Source, choose};
use crate::job::ImageRef;

/// Looks at it, for each profile.
pub async fn check(host: &Host) -> Vec<Finding> {
    let version = version_of_runner().await;
    let mut findings: Vec<Finding> = Vec::new();
    for profile in host.settings.profiles.values() {
        let settings = &profile.job.helper;
        let source = choose(settings, version.as_deref(), Path::is_file);
        let present = match (&source, &host.podman) {
            (Ok(Source::Image(image)), Ok(podman)) => present(podman, image).await,
            _ => None,
        };
        let readable = match &source {
            Ok(Source::Archive(path)) => std::fs::File::open(path).is_ok(),
            _ => true,
        };
        let never = profile.job.images.pull_policy == [PullPolicy::Never];
        let facts = Facts { source, present, never, readable, version: version.clone() };
        findings.push(judge(settings, &facts));
    }
    // Most profiles have the same.
    findings.dedup();
    findings
}

/// The version of the gitlab-runner on this host, where there is one.
pub async fn version_of_runner() -> Option<String> {
    runner_version(&run::output("gitlab-runner", &["--version"]).await.ok()?)
}

/// Where the helper comes from with these settings.
///
/// # Errors
/// In words: why that can't be told.
pub async fn source(settings: &HelperSettings) -> Result<Source, String> {
    choose(settings, version_of_runner().await.as_deref(), Path::is_file)
}

/// Whether podman has an image; none where it does not say.
pub async fn present(podman: &crate::podman::Podman, image: &str) -> Option<bool> {
    let reference = ImageRef::try_from(image.to_owned()).ok()?;
    podman.image(&reference).await.ok().map(|image| image.is_some())
}

/// The version in what `gitlab-runner --version` prints.
fn runner_version(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("Version:")).map(|version| version.trim().to_owned())
}

struct Facts {
    source: Result<Source, String>,
    /// Whether podman has the image; none: it was not asked, or did not say.
    present: Option<bool>,
    /// Whether images are never pulled.
    never: bool,
    readable: bool,
    /// gitlab-runner's version.
    version: Option<String>,
}

fn judge(settings: &HelperSettings, facts: &Facts) -> Finding {
    let get = "apt-get install gitlab-runner-helper-images (or dnf), or set [job.helper] image";
    let shown = |path: &PathBuf| path.display().to_string();
    match &facts.source {
        Ok(Source::Archive(path)) if facts.readable => {
            Finding::ok("helper", format!("the helper image comes from {}", shown(path)))
        }
        Ok(Source::Archive(path)) => Finding::error(
            "helper",
            format!("the helper's archive {} can't be read", shown(path)),
            "no job can be prepared",
            format!("chmod a+r {0}, and a+x for what is above it", shown(path)),
        ),
        Ok(Source::Image(image)) => match facts.present {
            Some(true) => match (tag_version(image), &facts.version) {
                (Some(tag), Some(version)) if tag != version => Finding::warning(
                    "helper",
                    format!("the helper image is {image}, and gitlab-runner is {version}"),
                    "gitlab-runner in it has to be of the same version: caches and artifacts may fail",
                    "write {runner_version} instead of the version into [job.helper] image",
                ),
                _ => Finding::ok("helper", format!("the helper image is {image}, and is here")),
            },
            Some(false) if facts.never => Finding::error(
                "helper",
                format!("the helper image {image} is not here, and is never pulled"),
                "no job can be prepared",
                format!("podman pull {image} as the service's user, or pull_policy = [\"if-not-present\"] in [job]"),
            ),
            Some(false) => Finding::ok("helper", format!("the helper image is {image}; the first job pulls it")),
            None => Finding::ok("helper", format!("the helper image is {image}")),
        },
        Ok(Source::Inject) if settings.mode == HelperMode::Inject => {
            Finding::ok("helper", "the predefined stages run in the job's image ([job.helper] mode = \"inject\")")
        }
        Ok(Source::Inject) => Finding::warning(
            "helper",
            format!(
                "there is no helper image: no archive in {}, and no [job.helper] image",
                settings.archives.display()
            ),
            "the predefined stages run in the job's own image, which has to have git, with gitlab-runner's program put into it",
            get,
        ),
        Err(reason) => Finding::warning(
            "helper",
            reason.clone(),
            "doctor found no gitlab-runner on PATH to ask; with none, or one that does not say it, jobs can't be prepared",
            "install gitlab-runner, or name a version in [job.helper] image",
        ),
    }
}

/// The version in a tag such as `x86_64-v17.9.0`.
fn tag_version(image: &str) -> Option<&str> {
    let tag = image.rsplit_once(':')?.1;
    let version = tag.rsplit_once('v')?.1;
    let is_version = version.split('.').count() == 3 && version.chars().all(|c| c == '.' || c.is_ascii_digit());
    is_version.then_some(version)
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::expect_remedies;
    use super::*;

    fn of(source: Result<Source, String>, present: Option<bool>, never: bool, readable: bool) -> Level {
        let facts = Facts { source, present, never, readable, version: Some("17.9.0".into()) };
        let finding = judge(&HelperSettings::default(), &facts);
        expect_remedies(std::slice::from_ref(&finding));
        finding.level
    }

    #[test]
    fn a_helper_is_there_or_can_be_had() {
        let image = |tag: &str| Ok(Source::Image(format!("r.example.com/helper:{tag}")));
        let archive = || Ok(Source::Archive("/a.tar.xz".into()));
        assert_eq!((of(archive(), None, false, true), of(archive(), None, false, false)), (Level::Ok, Level::Error));
        assert_eq!(of(image("x86_64-v17.9.0"), Some(true), false, true), Level::Ok);
        assert_eq!(of(image("x86_64-v17.8.0"), Some(true), false, true), Level::Warning);
        assert_eq!(of(image("1"), Some(false), false, true), Level::Ok);
        assert_eq!(of(image("1"), Some(false), true, true), Level::Error);
        assert_eq!(of(Ok(Source::Inject), None, false, true), Level::Warning);
        assert_eq!(of(Err("no version".into()), None, false, true), Level::Warning);
        assert_eq!(runner_version("Version:      17.9.0\nGit revision: x\n").as_deref(), Some("17.9.0"));
        assert_eq!((tag_version("r:5000/x:x86_64-v17.9.0"), tag_version("r/x:dev")), (Some("17.9.0"), None));
    }
}
