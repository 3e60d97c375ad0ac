//! Words for labels: what comes from outside becomes one of a closed set.

/// The stages of gitlab-runner (common/build.go); the user's own steps count as one.
const STAGES: [&str; 12] = [
    "prepare_script",
    "get_sources",
    "clear_worktree",
    "restore_cache",
    "download_artifacts",
    "build_script",
    "after_script",
    "archive_cache",
    "archive_cache_on_failure",
    "upload_artifacts_on_success",
    "upload_artifacts_on_failure",
    "cleanup_file_variables",
];

/// What podman is asked to do.
const OPERATIONS: [&str; 21] = [
    "create",
    "events",
    "exec",
    "files",
    "image exists",
    "image inspect",
    "image rm",
    "images",
    "info",
    "inspect",
    "kill",
    "load",
    "logs",
    "network create",
    "network rm",
    "ps",
    "pull",
    "rm",
    "run",
    "top",
    "version",
];

/// The label of a stage.
pub(super) fn stage_name(name: &str) -> &'static str {
    if name.starts_with("step_") {
        return "step";
    }
    STAGES.into_iter().find(|stage| *stage == name).unwrap_or("other")
}

/// The label of one of podman's operations.
pub(super) fn podman_operation(operation: &str) -> &'static str {
    OPERATIONS.into_iter().find(|known| *known == operation).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_user_are_one_and_what_is_not_known_another() {
        assert_eq!(stage_name("get_sources"), "get_sources");
        assert_eq!((stage_name("step_release"), stage_name("step_x")), ("step", "step"));
        assert_eq!((stage_name("../x"), podman_operation("rm -rf")), ("other", "other"));
        assert_eq!(podman_operation("network create"), "network create");
    }
}
