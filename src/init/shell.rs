//! Which shell runs a stage, and how the image's ENTRYPOINT comes before it.
//!
//! The Docker executor starts the image with a command that looks for a shell, and feeds the script into it; so an
//! ENTRYPOINT runs before every stage and is expected to exec its arguments. Here the same, except that without an
//! ENTRYPOINT the shell is started directly.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Where shells are looked for, in this order (as the Docker executor does).
pub const SHELLS: [&str; 7] =
    ["/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash", "/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh", "/busybox/sh"];

/// The command line of a stage.
///
/// # Errors
/// A message when the image has no shell.
pub fn command_line(entrypoint: &[String], root: &Path) -> Result<Vec<String>, String> {
    let shell = SHELLS.into_iter().find(|path| executable(&root.join(path.trim_start_matches('/'))));
    if entrypoint.is_empty() {
        let shell = shell.ok_or_else(|| format!("the image has no shell: none of {} is there", SHELLS.join(", ")))?;
        return Ok(vec![shell.to_owned()]);
    }
    // What an ENTRYPOINT gets is what the Docker executor gives it, since some look at it: `sh -c` and a command.
    let mut line = entrypoint.to_vec();
    line.extend(["sh".to_owned(), "-c".to_owned(), detection()]);
    Ok(line)
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn detection() -> String {
    format!(
        "for shell in {}; do [ -x $shell ] && exec $shell; done; echo 'windlass: the image has no shell' >&2; exit 127",
        SHELLS.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(shells: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("tempdir");
        for shell in shells {
            let path = root.path().join(shell);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            std::fs::write(&path, "").expect("write");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod");
        }
        root
    }

    #[test]
    fn bash_comes_before_sh() {
        let root = image(&["bin/sh", "bin/bash", "busybox/sh"]);
        assert_eq!(command_line(&[], root.path()).expect("shell"), ["/bin/bash"]);
    }

    #[test]
    fn an_image_without_a_shell_says_so() {
        let root = image(&["hello"]);
        assert!(command_line(&[], root.path()).expect_err("none").contains("no shell"));
    }

    #[test]
    fn an_entrypoint_gets_a_command_that_looks_for_the_shell() {
        let root = image(&[]);
        let line = command_line(&["/entry".into(), "--".into()], root.path()).expect("line");
        assert_eq!(line[..4], ["/entry", "--", "sh", "-c"]);
    }

    #[test]
    fn that_command_runs_the_script_on_its_stdin() {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut child = Command::new("sh")
            .args(["-c", &detection()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        child.stdin.take().expect("stdin").write_all(b"echo from $0; exit 42").expect("write");
        let output = child.wait_with_output().expect("wait");
        assert_eq!(output.status.code(), Some(42));
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("from /"));
    }
}
