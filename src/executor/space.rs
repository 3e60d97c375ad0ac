//! How full the file systems are that lanes and images are on, for whoever looks.

use super::Executor;
use crate::protocol::admin::FileSystem;

impl Executor {
    /// The file systems as they are now.
    #[must_use]
    pub fn file_systems(&self) -> Vec<FileSystem> {
        let least = self.settings().purge.min_free;
        let of = |path: std::path::PathBuf| {
            let disk = super::observe::disk(&path)?;
            Some(FileSystem {
                path: path.display().to_string(),
                bytes: disk.bytes,
                free_bytes: disk.free_bytes,
                kept_free_bytes: least.of(disk.bytes),
            })
        };
        self.watched().into_iter().filter_map(of).collect()
    }
}
