//! The end of a stage that no daemon was there to be told: left in the attempt's directory for the next call of the same job, which passes it on.

use std::path::PathBuf;

use crate::protocol::daemon::MissedStage;

/// Its file, beside the job response.
const FILE: &str = "windlass-missed.json";
/// Longest file that is read, in bytes.
const LENGTH_MAX: u64 = 4096;

fn file() -> Option<PathBuf> {
    Some(PathBuf::from(std::env::var_os("JOB_RESPONSE_FILE")?).parent()?.join(FILE))
}

/// Leaves it. What can't be written costs the history a result.
pub(super) fn leave(missed: &MissedStage) {
    if let (Some(path), Ok(bytes)) = (file(), serde_json::to_vec(missed)) {
        let _ = std::fs::write(path, bytes);
    }
}

/// Takes what an earlier call has left.
pub(super) fn take() -> Option<MissedStage> {
    let path = file()?;
    let length = std::fs::metadata(&path).ok()?.len();
    let bytes = (length <= LENGTH_MAX).then(|| std::fs::read(&path).ok()).flatten();
    // Passed on once.
    let _ = std::fs::remove_file(&path);
    serde_json::from_slice(&bytes?).ok()
}
