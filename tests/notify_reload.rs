//! The drop-in for systemd 253 and later: who gets it, and whether such a systemd takes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// The words of `systemctl --version` on several systems, and whether that systemd knows the type.
const VERSIONS: [(&str, bool); 8] = [
    ("systemd 239 (239-82.el8)", false),
    ("systemd 252 (252.39-1~deb12u1)", false),
    ("systemd 253 (v253.1)", true),
    ("systemd 254~rc1 (254~rc1-1)", true),
    ("systemd 257 (257.5-2.fc42)\n+PAM +AUDIT", true),
    ("systemd 1000 (1000)", true),
    ("", false),
    ("systemctl: something else", false),
];

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A directory with a `systemctl` that says this, and is good for nothing else.
fn systemctl(words: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("systemctl");
    fs::write(&program, format!("#!/bin/sh\n[ \"$1\" = --version ] || exit 1\ncat <<'END'\n{words}\nEND\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn with_path(command: &mut Command, first: &Path) {
    command.env("PATH", format!("{}:{}", first.display(), std::env::var("PATH").unwrap())).current_dir(sources());
}

#[test]
fn a_package_links_the_drop_in_where_systemd_knows_the_type() {
    // What else the package does to a host is said and not done.
    let script = r#"
        . scripts/package/host.sh; . scripts/package/daemon.sh
        windlass_prepare_host() { :; }; windlass_has_systemd() { false; }; selinuxenabled() { false; }
        windlass_link_notify_reload() { echo "link $1"; }
        windlass_daemon "$1""#;
    for (words, knows) in VERSIONS {
        let dir = systemctl(words);
        for when in ["installed", "upgraded"] {
            let mut command = Command::new("sh");
            with_path(command.args(["-ec", script, "sh", when]), dir.path());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let link = "link /etc/systemd/system/windlass.service.d/50-notify-reload.conf\n";
            assert_eq!(said, if knows { link } else { "" }, "{words:?}, {when}");
        }
    }
}

#[test]
fn a_package_links_the_drop_in_once_and_leaves_what_an_administrator_makes_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (link, note) = (dir.path().join("windlass.service.d/50-notify-reload.conf"), dir.path().join("misc/note"));
    let call = |function: &str| {
        let script = format!(". scripts/package/daemon.sh; {function} \"$@\"");
        let mut command = Command::new("sh");
        let output = command.args(["-ec", &script, "sh"]).args([&link, &note]).current_dir(sources()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read_link(&link).ok()
    };
    let ours = Some(Path::new("/usr/share/windlass/notify-reload.conf").to_owned());
    let mask = Some(Path::new("/dev/null").to_owned());
    let (install, remove) = ("windlass_link_notify_reload", "windlass_unlink_notify_reload");
    assert_eq!(call(install), ours);
    assert_eq!(call(install), ours);
    fs::remove_file(&link).unwrap();
    assert_eq!(call(install), None, "somebody has taken it away");
    std::os::unix::fs::symlink("/dev/null", &link).unwrap();
    assert_eq!(call(install), mask);
    assert_eq!(call(remove), mask, "a mask is not the package's");
    assert_eq!(call(install), mask);
    fs::remove_file(&link).unwrap();
    assert_eq!(call(remove), None);
    assert_eq!(call(install), ours, "it is a new installation");
    assert_eq!(call(remove), None);
    assert!(!note.exists() && !link.parent().unwrap().exists());
}

#[test]
fn an_installation_has_the_drop_in_where_systemd_knows_the_type() {
    let root = tempfile::tempdir().unwrap();
    let drop_in = root.path().join("usr/lib/systemd/system/windlass.service.d/50-notify-reload.conf");
    let install = |words: &str| {
        let dir = systemctl(words);
        let mut command = Command::new("scripts/install.sh");
        with_path(command.args(["--debug", "--root"]).arg(root.path()), dir.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    install("systemd 253 (253)");
    assert!(fs::read_to_string(&drop_in).unwrap().contains("Type=notify-reload\n"));
    install("systemd 252 (252)");
    assert!(!drop_in.exists(), "it is taken away where it would do harm");
}

/// What systemd says of the unit with the drop-in, and its version; none where there is no systemd.
fn verified() -> Option<(u32, String)> {
    let said = Command::new("systemctl").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&said.stdout).split_whitespace().nth(1)?.parse().ok()?;
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("windlass.service");
    let text = fs::read_to_string(sources().join("systemd/system/windlass.service")).unwrap();
    // A program that is there, and nothing that the unit needs of a host.
    let drops = |line: &&str| !line.starts_with("Requires=") && !line.starts_with("Also=");
    let text: String = text.lines().filter(drops).map(|line| format!("{line}\n")).collect();
    fs::write(&unit, text.replace("/usr/bin/windlassd", "/bin/true")).unwrap();
    let drop_ins = dir.path().join("windlass.service.d");
    fs::create_dir(&drop_ins).unwrap();
    let variant = "systemd/variants/notify-reload/system/windlass.service.d/50-notify-reload.conf";
    fs::copy(sources().join(variant), drop_ins.join("50-notify-reload.conf")).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().ok()?;
    let about = |line: &&str| line.contains("windlass.service");
    let said = String::from_utf8_lossy(&output.stderr).lines().filter(about).collect::<Vec<_>>().join("\n");
    Some((version, said))
}

#[test]
fn a_systemd_that_knows_the_type_takes_it_and_one_that_does_not_says_so() {
    let Some((version, said)) = verified() else {
        return eprintln!("SKIPPED: there is no systemd");
    };
    match version {
        253.. => assert_eq!(said, ""),
        // So this test reads what systemd thinks of it.
        _ => assert!(said.contains("notify-reload"), "{said}"),
    }
}
