//! The rules for SELinux that an installation makes (scripts/package/host.sh), with programs that stand in for SELinux's.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A host whose rules say `type_of` of each path, a line of shell with the path in `$2`; it notes what is asked of it.
fn host(type_of: &str, enabled: bool) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let program = |name: &str, body: &str| {
        let path = dir.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("selinuxenabled", if enabled { "exit 0" } else { "exit 1" });
    program("matchpathcon", &format!("echo \"system_u:object_r:$({type_of}):s0\""));
    for name in ["semanage", "restorecon"] {
        program(name, &format!("echo {name} \"$@\" >>{}/calls", dir.path().display()));
    }
    dir
}

/// The rules that an installation makes.
const RULES: [&str; 6] = [
    "--equal /var/lib/containers /var/lib/windlass/.local/share/containers",
    "--type container_file_t /var/lib/windlass/lanes(/.*)?",
    "--type container_file_t /var/lib/windlass/work(/.*)?",
    "--type container_ro_file_t /var/lib/windlass/bin(/.*)?",
    "--type container_ro_file_t /var/lib/windlass/mounted(/.*)?",
    "--type container_runtime_exec_t /usr/bin/windlassd",
];

/// What an installation asks of that host.
fn calls(host: &TempDir) -> Vec<String> {
    let path = format!("{}:{}", host.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-euc", ". scripts/package/host.sh; windlass_label"]).env("PATH", path);
    let output = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let calls = fs::read_to_string(host.path().join("calls")).unwrap_or_default();
    calls.lines().filter(|call| call.starts_with("semanage")).map(str::to_owned).collect()
}

#[test]
fn an_installation_makes_the_rules_for_what_crosses_into_containers() {
    let added = RULES.map(|rule| format!("semanage fcontext --add {rule}"));
    let others = "case $2 in /var/lib/containers) echo container_var_lib_t;; *) echo var_lib_t; esac";
    assert_eq!(calls(&host(others, true)), added);
    // Where nobody can say what the rules are by now.
    assert_eq!(calls(&host("true", true)), added);
}

#[test]
fn an_upgrade_makes_no_rule_again_and_a_host_without_selinux_none() {
    let there = "case $2 in */windlassd) echo container_runtime_exec_t;; */lanes | */work) echo container_file_t;; \
                 */bin | */mounted) echo container_ro_file_t;; *) echo container_var_lib_t; esac";
    assert_eq!(calls(&host(there, true)), [""; 0]);
    assert_eq!(calls(&host("echo var_lib_t", false)), [""; 0]);
}

#[test]
fn a_rule_that_cannot_be_made_is_said_and_does_not_end_the_installation() {
    let host = host("echo var_lib_t", true);
    fs::write(host.path().join("semanage"), "#!/bin/sh\nexit 1\n").unwrap();
    let path = format!("{}:{}", host.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-euc", ". scripts/package/host.sh; windlass_label; echo went on"]).env("PATH", path);
    let output = command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "went on\n", "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("/var/lib/windlass/lanes") && said.contains("doctor --only selinux"), "{said}");
}
