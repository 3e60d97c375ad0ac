//! A podman that is a script, for tests of what is made of its words.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::Podman;
use crate::config::{PodmanSettings, UserNamespace};

/// One that runs these lines of sh in this directory, where it is.
pub fn podman(directory: &Path, lines: &str) -> Podman {
    let command = directory.join("podman");
    let script = format!("#!/bin/sh\ncd '{}' || exit 1\n{lines}", directory.display());
    std::fs::write(&command, script).expect("write");
    std::fs::set_permissions(&command, PermissionsExt::from_mode(0o755)).expect("chmod");
    Podman::new(&PodmanSettings {
        command,
        init: "/init".into(),
        environment: BTreeMap::new(),
        timeout: Duration::from_secs(60),
        pull_timeout: Duration::from_secs(60),
        user_namespace: UserNamespace::Host,
    })
}
