//! Exit codes: gitlab-runner tells the job's failures from the system's by them, and reads the script's own code from a file.

use std::path::PathBuf;

/// The exit codes that gitlab-runner asks for, from the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// `BUILD_FAILURE_EXIT_CODE`: the job failed; 1 if unset.
    pub build: u8,
    /// `SYSTEM_FAILURE_EXIT_CODE`: anything else did; 2 if unset.
    pub system: u8,
}

impl Codes {
    /// Reads them; values that are no failures are ignored, so that a failure can never look like a success.
    #[must_use]
    pub fn from_environment() -> Self {
        let read = |name| std::env::var(name).ok()?.parse().ok().filter(|code| *code != 0);
        Self {
            build: read("BUILD_FAILURE_EXIT_CODE").unwrap_or(1),
            system: read("SYSTEM_FAILURE_EXIT_CODE").unwrap_or(2),
        }
    }
}

fn file() -> Option<PathBuf> {
    std::env::var_os("BUILD_EXIT_CODE_FILE").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Removes what an earlier stage left: gitlab-runner never does, and would report it again.
pub(super) fn forget_exit_code() {
    if let Some(path) = file() {
        // Mostly it is not there.
        let _ = std::fs::remove_file(path);
    }
}

/// Tells gitlab-runner (17.9 and later) the script's own exit code: the first line, digits alone.
pub(super) fn note_exit_code(code: u8) {
    if let Some(path) = file()
        && let Err(error) = std::fs::write(&path, code.to_string())
    {
        eprintln!("windlass: GitLab will show exit code 1 instead of {code}: cannot write {}: {error}", path.display());
    }
}
