//! The daemon's directories, and what is free on the file systems of state, images and records.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::{Finding, Host, Level};
use crate::config::PurgeSettings;

/// What the records of jobs need in the runtime directory, in bytes and inodes.
const RUN_MIN: (u64, u64) = (16 << 20, 1000);
/// Below this share of a file system, in hundredths, jobs fail before anything can be purged.
const LAST: u64 = 1;

/// What is known of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directory {
    path: PathBuf,
    /// Owner and mode; none: it is not there.
    about: Option<(u32, u32)>,
    /// Whether it is in memory.
    in_memory: bool,
}

/// What is free on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Space {
    path: PathBuf,
    bytes: u64,
    free_bytes: u64,
    /// None has a fixed number of them on some file systems.
    inodes: u64,
    free_inodes: u64,
}

/// Looks at them.
pub async fn check(host: &Host) -> Vec<Finding> {
    let settings = &host.settings;
    let mut findings = Vec::new();
    for (check, path) in [("state-directory", &settings.state_dir), ("run-directory", &settings.run_dir)] {
        let found = look(path);
        let is_own = found.about.is_none_or(|(owner, _)| host.is_own(owner));
        findings.push(directory(check, &found, is_own, &host.user.name));
    }
    let images = match &host.podman {
        Ok(podman) => podman.storage().await.ok().map(|storage| storage.root.clone()),
        Err(_) => None,
    };
    for (check, path) in [("disk-state", Some(settings.state_dir.clone())), ("disk-images", images)] {
        if let Some(space) = path.as_deref().and_then(space) {
            findings.push(judge(check, &space, &settings.purge));
        }
    }
    if let Some(space) = space(&settings.run_dir) {
        findings.push(judge_run(&space));
    }
    findings
}

fn look(path: &Path) -> Directory {
    let about = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir);
    Directory {
        path: path.to_owned(),
        about: about.map(|about| (about.uid(), about.mode() & 0o7777)),
        in_memory: statfs(path).is_ok_and(|about| about.filesystem_type() == TMPFS_MAGIC),
    }
}

fn directory(check: &'static str, directory: &Directory, is_own: bool, name: &str) -> Finding {
    let path = directory.path.display();
    let Some((owner, mode)) = directory.about else {
        return Finding::warning(
            check,
            format!("there is no directory {path}"),
            "windlassd makes it at its first start, if it may",
            format!("install -d -m 0755 -o {name} {path}; or start the service"),
        );
    };
    if !is_own {
        return Finding::error(
            check,
            format!("{path} belongs to user {owner}, and the service runs as {name}"),
            "windlassd can't write there and does not start, or another daemon has it",
            format!("chown {name} {path}, if nothing else uses it; --user says whom the service runs as"),
        );
    }
    if mode & 0o022 != 0 {
        return Finding::error(
            check,
            format!("{path} can be written by others (mode {mode:04o})"),
            "whoever may write there can take over the jobs of this host",
            format!("chmod go-w {path}"),
        );
    }
    if check == "run-directory" && !directory.in_memory {
        return Finding::warning(
            check,
            format!("{path} is not in memory"),
            "it holds the records of running jobs, which have to be gone after a boot as the jobs are",
            "run_dir below /run in windlass.toml",
        );
    }
    Finding::ok(check, format!("{path} is {name}'s"))
}

fn space(path: &Path) -> Option<Space> {
    // Before the first start of the daemon the directory above says it.
    let there = path.ancestors().find(|path| path.exists())?;
    let about = nix::sys::statvfs::statvfs(there).ok()?;
    let unit = about.fragment_size();
    Some(Space {
        path: path.to_owned(),
        bytes: about.blocks() * unit,
        free_bytes: about.blocks_available() * unit,
        inodes: about.files(),
        free_inodes: about.files_available(),
    })
}

fn free(space: &Space) -> String {
    let inodes =
        if space.inodes == 0 { String::new() } else { format!(", {} of {} inodes", space.free_inodes, space.inodes) };
    let (free, all) = (ByteSize(space.free_bytes), ByteSize(space.bytes));
    format!("{free} of {all}{inodes} free for {}", space.path.display())
}

fn judge(check: &'static str, space: &Space, purge: &PurgeSettings) -> Finding {
    let (bytes, inodes) = (purge.min_free.of(space.bytes), purge.min_free_inodes.of(space.inodes));
    let few_inodes = space.inodes > 0 && space.free_inodes < inodes;
    let last = space.free_bytes < space.bytes / 100 * LAST
        || (space.inodes > 0 && space.free_inodes < space.inodes / 100 * LAST);
    if space.free_bytes >= bytes && !few_inodes {
        return Finding::ok(check, free(space));
    }
    let wanted = if few_inodes { format!("{inodes} inodes") } else { ByteSize(bytes).to_string() };
    let what = format!("{}; [purge] wants {wanted}", free(space));
    let meaning = if last {
        "jobs fail for want of space"
    } else {
        "before each job, what projects keep and images go until this is free: jobs clone and pull anew"
    };
    let remedy = "windlass cache list and windlass images list say what is there, windlass cache purge removes it; \
                  du -xh --max-depth=2 shows what else fills the disk; [purge] min_free says how much is to be free";
    Finding {
        level: if last { Level::Error } else { Level::Warning },
        ..Finding::warning(check, what, meaning, remedy)
    }
}

fn judge_run(space: &Space) -> Finding {
    let few_inodes = space.inodes > 0 && space.free_inodes < RUN_MIN.1;
    if space.free_bytes >= RUN_MIN.0 && !few_inodes {
        return Finding::ok("disk-run", free(space));
    }
    Finding::error(
        "disk-run",
        free(space),
        "new jobs can't be recorded, and fail",
        "remove what fills that file system (du -xh --max-depth=2 /run), or make it larger: mount -o remount,size=10% /run",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::tests::expect_remedies;
    use super::*;
    use crate::config::Share;

    fn purge(bytes: Share, inodes: Share) -> PurgeSettings {
        let text = "";
        let settings = crate::config::parse(Path::new("x.toml"), text).expect("valid");
        PurgeSettings { min_free: bytes, min_free_inodes: inodes, ..settings.purge }
    }

    fn disk(free_bytes: u64, free_inodes: u64) -> Space {
        Space { path: "/s".into(), bytes: 1000 << 20, free_bytes, inodes: 10_000, free_inodes }
    }

    #[test]
    fn free_space_is_compared_with_the_configuration() {
        let purge = purge(Share::PerMyriad(1000), Share::PerMyriad(500));
        let of = |bytes, inodes| judge("disk-state", &disk(bytes, inodes), &purge);
        assert_eq!(of(200 << 20, 5000).level, Level::Ok);
        assert_eq!(of(50 << 20, 5000).level, Level::Warning);
        assert_eq!(of(200 << 20, 400).level, Level::Warning);
        assert_eq!((of(5 << 20, 5000).level, of(200 << 20, 50).level), (Level::Error, Level::Error));
        let without = Space { inodes: 0, free_inodes: 0, ..disk(200 << 20, 0) };
        assert_eq!(judge("disk-state", &without, &purge).level, Level::Ok, "btrfs has no fixed number of inodes");
        assert_eq!(
            (judge_run(&disk(1 << 20, 5000)).level, judge_run(&disk(1 << 30, 5000)).level),
            (Level::Error, Level::Ok)
        );
        expect_remedies(&[of(50 << 20, 5000), of(0, 0), judge_run(&disk(0, 0))]);
    }

    #[test]
    fn directories_are_the_services_and_nobody_elses() {
        let at = |owner, mode, in_memory| Directory { path: "/r".into(), about: Some((owner, mode)), in_memory };
        let of = |at: &Directory| directory("run-directory", at, at.about.is_some_and(|(owner, _)| owner == 7), "w");
        assert_eq!(of(&at(7, 0o755, true)).level, Level::Ok);
        let wrong = [of(&at(0, 0o755, true)), of(&at(7, 0o777, true))];
        assert!(wrong.iter().all(|finding| finding.level == Level::Error));
        let lesser = [of(&at(7, 0o755, false)), of(&Directory { about: None, ..at(7, 0, true) })];
        assert!(lesser.iter().all(|finding| finding.level == Level::Warning));
        assert_eq!(directory("state-directory", &at(7, 0o711, false), true, "w").level, Level::Ok);
        expect_remedies(&[wrong, lesser].concat());
    }
}
