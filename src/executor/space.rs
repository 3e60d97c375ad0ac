//! How full the file systems are that lanes and images are on: what is short, and the words for it.

use std::path::PathBuf;

use bytesize::ByteSize;

use super::Executor;
use super::observe::disk;
use crate::config::PurgeSettings;
use crate::lanes::decide::Disk;
use crate::protocol::admin::FileSystem;

/// A file system with less than this is full, in bytes and inodes: a job can't make its directories, records and containers there.
const FULL: (u64, u64) = (1 << 20, 100);

/// A file system that has less free than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Short {
    /// The directory that is watched.
    pub(super) path: PathBuf,
    /// What is free, in words.
    pub(super) free: String,
    /// What should be, in words.
    pub(super) wanted: String,
    /// Whether not even a job that writes nothing can begin.
    pub(super) is_full: bool,
}

impl Short {
    /// What is short of one, if anything is.
    fn of(path: PathBuf, disk: &Disk, settings: &PurgeSettings) -> Option<Self> {
        let (bytes, inodes) = (settings.min_free.of(disk.bytes), settings.min_free_inodes.of(disk.inodes));
        // Some file systems have no fixed number of them.
        let counts_inodes = disk.inodes > 0;
        let full = (disk.free_bytes < FULL.0, counts_inodes && disk.free_inodes < FULL.1);
        let few_inodes = counts_inodes && disk.free_inodes < inodes;
        let (free, wanted) = if full.0 || (disk.free_bytes < bytes && !full.1) {
            (ByteSize(disk.free_bytes).to_string(), ByteSize(bytes).to_string())
        } else if full.1 || few_inodes {
            (format!("{} inodes", disk.free_inodes), format!("{inodes} inodes"))
        } else {
            return None;
        };
        Some(Self { path, free, wanted, is_full: full.0 || full.1 })
    }

    /// A line for an administrator.
    fn warning(&self) -> String {
        let (free, path, wanted) = (&self.free, self.path.display(), &self.wanted);
        let full = if self.is_full { "; new jobs fail for want of space" } else { "" };
        format!("{free} are free on {path}, {wanted} should be ([purge] in windlass.toml){full}")
    }

    /// Why a job can't begin, and what to do.
    pub(super) fn refusal(&self) -> String {
        let (free, path) = (&self.free, self.path.display());
        format!(
            "No space left on device: only {free} are free on {path}, and nothing is left that may be removed. On the host, \
             `windlass cache list` and `windlass images list` say what jobs keep there, and `du -xh --max-depth=2 {path}` what else fills it; \
             jobs run again as soon as there is room"
        )
    }

    /// For the status line: without figures, which would change all the time.
    fn in_short(&self) -> String {
        let path = self.path.display();
        if self.is_full { format!("no space is left on {path}") } else { format!("little space is left on {path}") }
    }
}

/// What is short, for those who ask whether jobs would run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Space {
    /// Where nothing is left, in words: a job would fail.
    pub full: Vec<String>,
    /// Where less is left than there should be, in words: a job costs others what they keep.
    pub short: Vec<String>,
}

impl Executor {
    /// The file systems as they are now.
    #[must_use]
    pub fn file_systems(&self) -> Vec<FileSystem> {
        let settings = self.settings().purge.clone();
        let of = |path: PathBuf| {
            let disk = disk(&path)?;
            Some(FileSystem {
                path: path.display().to_string(),
                bytes: disk.bytes,
                free_bytes: disk.free_bytes,
                kept_free_bytes: settings.min_free.of(disk.bytes),
                inodes: disk.inodes,
                free_inodes: disk.free_inodes,
                kept_free_inodes: settings.min_free_inodes.of(disk.inodes),
            })
        };
        self.watched().into_iter().filter_map(of).collect()
    }

    /// File systems with too little free, as it is now.
    pub(super) fn short_of(&self) -> Vec<Short> {
        let settings = self.settings().purge.clone();
        let of = |path: PathBuf| {
            let disk = disk(&path)?;
            Short::of(path, &disk, &settings)
        };
        self.watched().into_iter().filter_map(of).collect()
    }

    /// What an administrator should know of free space.
    pub(super) fn space_warnings(&self) -> Vec<String> {
        self.short_of().iter().map(Short::warning).collect()
    }

    /// What is short now.
    #[must_use]
    pub fn space(&self) -> Space {
        let (full, short): (Vec<Short>, Vec<Short>) = self.short_of().into_iter().partition(|short| short.is_full);
        let words = |list: &[Short]| list.iter().map(Short::warning).collect();
        Space { full: words(&full), short: words(&short) }
    }

    /// What is short now, for the status line; none: nothing.
    #[must_use]
    pub fn space_in_short(&self) -> Option<String> {
        let words: Vec<String> = self.short_of().iter().map(Short::in_short).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn short(free_bytes: u64, inodes: u64, free_inodes: u64) -> Option<Short> {
        let settings = crate::config::parse(Path::new("x.toml"), "").expect("valid").purge;
        let disk = Disk { bytes: 100 << 20, free_bytes, inodes, free_inodes };
        Short::of("/s".into(), &disk, &settings)
    }

    #[test]
    fn little_is_not_nothing_and_both_are_said_in_what_is_short() {
        assert_eq!(short(50 << 20, 10_000, 9_000), None);
        assert_eq!(short(50 << 20, 0, 0), None, "btrfs has no fixed number of inodes");
        let little = short(5 << 20, 10_000, 9_000).expect("short");
        assert_eq!((little.is_full, little.free.as_str(), little.wanted.as_str()), (false, "5.0 MiB", "10.0 MiB"));
        let few = short(50 << 20, 10_000, 400).expect("short");
        assert_eq!((few.is_full, few.free.as_str(), few.wanted.as_str()), (false, "400 inodes", "500 inodes"));
        let full = short(4096, 10_000, 9_000).expect("full");
        assert!(full.is_full && full.warning().contains("fail for want of space") && !few.warning().contains("fail"));
        let none = short(50 << 20, 10_000, 3).expect("full");
        assert!(none.is_full && none.refusal().contains("only 3 inodes are free on /s"), "{}", none.refusal());
        assert_eq!(
            (full.in_short().as_str(), few.in_short().as_str()),
            ("no space is left on /s", "little space is left on /s")
        );
        // Both are short, and one of them is nothing.
        assert_eq!(short(5 << 20, 10_000, 3).expect("full").free, "3 inodes");
    }
}
