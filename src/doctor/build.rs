//! A two-line image, built in a job as jobs build them: through the installed executables, the daemon, and podman or buildah in the image.

use std::io::{Read, Seek};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{Finding, Host, helper};
use crate::config::{JobSettings, PullPolicy};
use crate::executor::helper::Source;

/// How long the job may take.
const WITHIN: Duration = Duration::from_secs(300);
/// How long its end is waited for after SIGTERM: the job's containers are taken down meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is kept of the job log, in bytes, and shown of it, in lines.
const LOG_MAX: u64 = 1 << 20;
const SHOWN: usize = 6;

/// The heading of the job log's part with the script.
const BUILDS: &str = "[build_script]";

/// The job: it needs nothing from a network.
const SCRIPT: &str = "set -e\n\
    directory=$(mktemp -d)\n\
    printf 'FROM scratch\\nLABEL io.windlass.doctor=built\\n' >\"$directory/Containerfile\"\n\
    if command -v buildah >/dev/null; then build='buildah bud'\n\
    elif command -v podman >/dev/null; then build='podman build'\n\
    else echo 'the image has neither buildah nor podman'; exit 1\n\
    fi\n\
    $build -t localhost/windlass-doctor \"$directory\"\n\
    echo \"built with $build\"";

/// Looks at it.
pub async fn check(host: &Host) -> Vec<Finding> {
    let skipped = |what: &str, remedy: Option<&str>| vec![Finding::skipped("build", what, remedy)];
    if host.options.quick {
        return skipped("left out by --quick", None);
    }
    let Ok(status) = &host.status else { return skipped("windlassd does not answer, so no job can be run", None) };
    if status.daemon.drained_since.is_some() {
        return skipped("the host is drained, so no job is taken", Some("windlass undrain"));
    }
    let of_default = |profile: &str| profile == crate::config::DEFAULT_PROFILE;
    if !status.slots.iter().any(|slot| slot.lease.is_none() && !slot.goes && of_default(&slot.profile)) {
        return skipped("all slots are busy", Some("try again when a slot is free: windlass status"));
    }
    // The daemon looks without anybody who has asked: nothing is pulled for it.
    let unasked = host.options.own.is_some();
    if unasked && let Some(job) = host.settings.profiles.get(crate::config::DEFAULT_PROFILE).map(|profile| &profile.job)
    {
        if job.images.pull_policy.first() == Some(&PullPolicy::Always) {
            return skipped("the job's image would be pulled ([job] pull_policy)", None);
        }
        if !has_helper(host, job).await {
            return skipped("the helper image would be pulled", None);
        }
    }
    let image = match (&host.options.build_image, &host.podman) {
        (Some(image), _) => Some(image.clone()),
        (None, Ok(podman)) => podman
            .images()
            .await
            .ok()
            .and_then(|images| images.iter().flat_map(|image| &image.names).find(|name| builds(name)).cloned()),
        (None, Err(_)) => None,
    };
    let Some(image) = image else {
        let remedy = "windlass doctor --only build --build-image quay.io/buildah/stable:latest, or another image with buildah or podman";
        return skipped("this host has no image whose name says that it has buildah or podman", Some(remedy));
    };
    let libexec = host.settings.podman.init.parent().unwrap_or(Path::new("/usr/libexec/windlass"));
    let ended = job(host, &image, libexec).await;
    match &ended {
        Ok((false, log)) if unasked && !came_to_build(log) => skipped("the job did not come as far as building", None),
        _ => vec![judge(&image, ended)],
    }
}

/// Whether the job has begun to build. That its image may not be used, its registry does not answer, or its slot was taken by another, says
/// nothing of building.
fn came_to_build(log: &str) -> bool {
    log.contains(BUILDS)
}

/// Whether jobs need no helper image, or one that is here.
async fn has_helper(host: &Host, job: &JobSettings) -> bool {
    let Ok(podman) = &host.podman else { return false };
    match helper::source(&job.helper).await {
        Ok(Source::Image(image)) => helper::present(podman, &image).await == Some(true),
        _ => true,
    }
}

/// Whether an image's name says that it can build images.
fn builds(name: &str) -> bool {
    // A port has a colon too.
    let tagged = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let repository = tagged.map_or(name, |(repository, _)| repository);
    ["buildah", "podman"].iter().any(|tool| repository.split('/').any(|word| word == *tool))
}

/// How the job went: its log, and whether it ended well.
async fn job(host: &Host, image: &str, libexec: &Path) -> Result<(bool, String), String> {
    // It may be the daemon that looks.
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    // A file, so that a job whose doctor is gone can clean up and say so.
    let mut log = tempfile::tempfile().map_err(|error| format!("make a file for the job log: {error}"))?;
    let stderr = log.try_clone().map_err(|error| error.to_string())?;
    let mut command = Command::new(own.with_file_name("windlass"));
    command.args(["try", "--json", "--image", image, "--socket"]).arg(&host.socket);
    command.arg("--libexec").arg(libexec).args(["--", "sh", "-c", SCRIPT]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().map_err(|error| format!("start a job: {error}"))?;
    let running = Running(child.id());
    let ended = tokio::time::timeout(WITHIN, child.wait()).await;
    if ended.is_ok() {
        std::mem::forget(running);
    } else {
        drop(running);
        let _ = tokio::time::timeout(PATIENCE, child.wait()).await;
    }
    let mut kept = Vec::new();
    let read = log.rewind().and_then(|()| log.take(LOG_MAX).read_to_end(&mut kept));
    read.map_err(|error| format!("read the job log: {error}"))?;
    let log = String::from_utf8_lossy(&kept).into_owned();
    match ended {
        Ok(ended) => Ok((ended.map_err(|error| error.to_string())?.success(), log)),
        Err(_) => Ok((false, format!("{log}\nIt was not over after {}", humantime::format_duration(WITHIN)))),
    }
}

/// A job that has to clean up after itself when nobody waits for it any more: the daemon that looks may end at any time.
struct Running(Option<u32>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // It may just have ended.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
    }
}

fn judge(image: &str, ended: Result<(bool, String), String>) -> Finding {
    let again = format!("windlass try --image {image} -- sh -c 'buildah info || podman info' shows the whole job log");
    let (is_good, log) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            let meaning = "whether jobs can build images is not known";
            return Finding::error("build", format!("in {image}: {error}"), meaning, again);
        }
    };
    let lines: Vec<&str> =
        log.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('[')).collect();
    if is_good {
        let storage =
            lines.iter().find(|line| line.starts_with("Storage for building images")).map(|line| format!(". {line}"));
        return Finding::ok("build", format!("a job in {image} built an image{}", storage.unwrap_or_default()));
    }
    let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
    Finding::error(
        "build",
        format!("a job in {image} could not build an image; it ended with\n{last}"),
        "jobs that build images fail or hang, or, where the lines speak of it, every job does",
        format!("{again}; [job] build_storage and build_driver say where and how layers are kept"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::super::finding::tests::expect_remedies;
    use super::*;

    #[test]
    fn images_that_can_build_are_known_by_their_names() {
        for name in [
            "quay.io/buildah/stable:latest",
            "localhost/windlass/buildah:1",
            "r:5000/podman",
            "quay.io/podman/stable:v5",
        ] {
            assert!(builds(name), "{name}");
        }
        for name in ["docker.io/library/alpine:latest", "r/podmanager:1", "<none>:<none>"] {
            assert!(!builds(name), "{name}");
        }
    }

    #[test]
    fn the_last_lines_of_a_job_that_failed_are_shown() {
        let log = "[prepare]\nUsing image\nStorage for building images (overlay) goes with the job\n[build_script]\nerror: no\n";
        let good = judge("i", Ok((true, log.into())));
        assert!(good.level == Level::Ok && good.what.contains("(overlay)"), "{good:?}");
        let bad = judge("i", Ok((false, log.into())));
        assert!(bad.level == Level::Error && bad.what.ends_with("goes with the job\nerror: no"), "{bad:?}");
        expect_remedies(&[bad, judge("i", Err("late".into())), judge("i", Ok((false, String::new())))]);
    }
}
